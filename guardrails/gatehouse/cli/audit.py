"""`gatehouse audit`: the auditor's commands that verify and prove. `records` holds those that show records."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO
from uuid import UUID

import typer

from gatehouse.capsule.checkpoint import InvalidNote, Verifier, origin_of
from gatehouse.capsule.document import DEFAULT_CHAIN
from gatehouse.capsule.keyring import Keyring, read_keyring
from gatehouse.capsule.keys import KEYRING_NAME, KeyFolder
from gatehouse.capsule.proof import check_proof
from gatehouse.capsule.verification import ChainReport, LedgerFinding, Note
from gatehouse.cli import app
from gatehouse.cli.output import exit_2_if_not_checked, write
from gatehouse.cli.where import gateway_settings
from gatehouse.core.errors import SetupError
from gatehouse.core.text import printable
from gatehouse.ledger.inspection import CallsReport, Progress, read_note, verify_export, verify_ledger
from gatehouse.ledger.log_comparison import LogFile, LogReport, opened
from gatehouse.ledger.prover import check, prove
from gatehouse.ledger.store.capsules import reachable, reading

audit = typer.Typer(no_args_is_help=True, help="The ledger: verify, export, show and prove its records.")
app.add_typer(audit, name="audit")

ChainOption = Annotated[str, typer.Option("--chain", help="The chain; with policy.yaml's chain: team, calls/<team>.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of standard output.")]
KeyringOption = Annotated[
    Path | None, typer.Option("--keyring", help="The ledger's public keys; by default the gateway's own.")
]


@audit.command()
def verify(
    chain: Annotated[str | None, typer.Option(help="Only this chain; by default all of them.")] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A checkpoint stored elsewhere, to compare; may be repeated.")
    ] = None,
    keyring: KeyringOption = None,
    file: Annotated[
        str | None, typer.Option(help="An export instead of the ledger; `-` is standard input. Needs --keyring.")
    ] = None,
    first: Annotated[int, typer.Option("--from", min=0, help="The first sequence of the export.")] = 0,
    jsonl: Annotated[
        list[Path] | None,
        typer.Option(help="A file of the audit log, or its folder, instead of the gateway's own; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Verify every record, checkpoint and chain's end, and compare them with the audit log. Exit code 0: verified,
    1: broken, 2: not checked."""
    begin = time.monotonic()
    with exit_2_if_not_checked(), progress_bar() as bar:
        given = [read_note(path) for path in checkpoint or ()]
        if file is None and first:
            raise SetupError("--from: it works with exports only. Leave it out; the ledger is verified from its start.")
        if file is not None and jsonl:
            raise SetupError("--jsonl: the audit log is compared with the ledger itself. Leave out --file.")
        if file is None:
            reports = _verify_ledger(chain, given, keyring, jsonl, bar)
        elif keyring is None:
            raise SetupError("keyring: public keys are needed to verify an export. Name their file with --keyring.")
        else:
            with _opened(file) as opened:
                public = read_keyring(keyring)
                reports = [verify_export(opened, public, chain=chain, given=given, first=first, progress=bar)]
    chains = [report for report in reports if isinstance(report, ChainReport)]
    findings = [finding for report in reports if isinstance(report, CallsReport) for finding in report.findings]
    log = next((report for report in reports if isinstance(report, LogReport)), None)
    ok = not findings and not (log and log.findings) and all(report.finding is None for report in chains)
    if as_json:
        typer.echo(json.dumps(report_document(ok, chains, findings, log), indent=2))
    else:
        for line in report_lines(ok, chains, findings, first, time.monotonic() - begin, log):
            typer.echo(line)
    if not ok:
        raise typer.Exit(1)


def _verify_ledger(
    chain: str | None, given: list[Note], keyring: Path | None, jsonl: list[Path] | None, bar: Progress
) -> list[ChainReport | CallsReport | LogReport]:
    settings = gateway_settings()
    with _audit_log(jsonl, settings.log_dir) as (files, not_compared):
        found = verify_ledger(
            settings.database_url,
            settings.checkpoint_dir,
            read_keyring(keyring or settings.key_dir / KEYRING_NAME),
            chain=chain,
            given=given,
            log=files,
            progress=bar,
        )
        return [*found, *([not_compared] if not_compared else [])]


@audit.command("prove")
def prove_call(call_id: Annotated[UUID, typer.Argument()], output: OutputOption = None) -> None:
    """Write a proof file: the call's capsule, its place in the ledger, and the checkpoint that covers it."""
    settings = gateway_settings()
    keyring = read_keyring(settings.key_dir / KEYRING_NAME)
    with reading(settings.database_url) as connection:
        write([prove(connection, keyring, call_id).to_bytes()], output)


@audit.command("check-proof")
def check_proof_file(
    file: Annotated[str, typer.Argument(help="The proof file; `-` is standard input.")],
    key: Annotated[
        list[str] | None, typer.Option(help="The ledger's verifier key, <name>+<hex>+<base64>; may be repeated.")
    ] = None,
    keyring: Annotated[Path | None, typer.Option(help="The ledger's keyring, instead of --key.")] = None,
) -> None:
    """Check a proof file with public keys alone. Exit code 0: it proves the record, 1: it does not, 2: not checked."""
    with exit_2_if_not_checked():
        if bool(key) == (keyring is not None):
            raise SetupError("keys: public keys are needed to check a proof. Give --keyring, or --key once or more.")
        with _opened(file) as opened:
            data = opened.read()
        try:
            verifiers = [Verifier.parse(text) for text in key or ()]
        except InvalidNote as error:
            raise SetupError(f"--key: {error}. `gatehouse audit keys` prints verifier keys.") from None
        finding = check(data, read_keyring(keyring)) if keyring is not None else check_proof(data, verifiers)
    if finding is not None:
        typer.echo(f"not proven: {printable(finding)}")
        raise typer.Exit(1)
    proof = json.loads(data)
    name = proof["checkpoint"].split("\n", 2)
    typer.echo(
        f"proven: record {proof['inclusion']['index']}, hash {proof['capsule']['hash']}, "
        f"is in the log {printable(name[0])} of {name[1]} records"
    )


@audit.command()
def checkpoint(chain: ChainOption = DEFAULT_CHAIN) -> None:
    """Sign a checkpoint over all records of a chain, unless one covers them, and print it to give to a witness."""
    from gatehouse.ledger.checkpointer import Inconsistent, connect, sign_now

    settings = gateway_settings()
    with reachable(), connect(settings.database_url) as connection:
        try:
            note = sign_now(connection, KeyFolder(settings.key_dir), settings.checkpoint_dir, chain)
        except Inconsistent as error:
            raise SetupError(str(error)) from None
    write([note], None)


@audit.command()
def keys(chain: ChainOption = DEFAULT_CHAIN, keyring: KeyringOption = None) -> None:
    """Print the ledger's public keys: their fingerprints, and verifier keys for witnesses and `check-proof`."""
    print_keyring(read_keyring(keyring or gateway_settings().key_dir / KEYRING_NAME), chain)


def print_keyring(keyring: Keyring, chain: str) -> None:
    """Print every epoch, the oldest first."""
    for epoch in keyring.epochs:
        until = f"retired {epoch.retired_at:%Y-%m-%d %H:%M:%S}Z" if epoch.retired_at else "active"
        typer.echo(f"epoch {epoch.number}  made {epoch.created_at:%Y-%m-%d %H:%M:%S}Z, {until}")
        typer.echo(f"  fingerprint   {epoch.name}")
        typer.echo(f"  verifier key  {Verifier(origin_of(chain), epoch.public_key)}")


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(name).open("rb") as file:
            yield file
    except OSError as error:
        raise SetupError(f"{name}: {error.strerror}. Name a file that can be read.") from None


@contextmanager
def _audit_log(named: list[Path] | None, folder: Path) -> Iterator[tuple[list[LogFile], None] | tuple[None, LogReport]]:
    """Open the files to compare, or report why there are none. Named files must exist; the gateway's own need not."""
    with ExitStack() as stack:
        try:
            files = stack.enter_context(opened(named or [folder]))
        except SetupError as error:
            if named:
                raise
            yield None, LogReport(0, not_compared=str(error))
            return
        yield files, None


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show a progress bar on a terminal, and nothing elsewhere; NO_COLOR turns its colours off."""
    if not sys.stderr.isatty():
        yield Progress()
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("verifying", total=None)

        class ProgressBar(Progress):
            def expect(self, records: int) -> None:
                shown.update(task, total=records)

            def expect_log(self, size: int) -> None:
                shown.reset(task, total=size, description="comparing the audit log, bytes")

            def advance(self, count: int) -> None:
                shown.advance(task, count)

        yield ProgressBar()


def report_lines(
    ok: bool,
    chains: list[ChainReport],
    findings: list[LedgerFinding],
    first: int,
    seconds: float,
    log: LogReport | None = None,
) -> Iterator[str]:
    """Yield the result of a verification as lines for a person."""
    for report in chains:
        name = f"chain {printable(report.chain)}" if report.chain is not None else "export"
        if report.finding is not None:
            yield f"{name}: BROKEN: {printable(report.finding)}"
            continue
        head = f", head {report.head.sequence} {report.head.hash}" if report.head.hash else ""
        checkpoints = f"{report.checkpoints:,} checkpoint{'' if report.checkpoints == 1 else 's'}"
        yield f"{name}: {report.records:,} records, {checkpoints}{head}"
    for finding in findings:
        yield f"calls: BROKEN: {printable(finding)}"
    if log is not None:
        for finding in log.findings:
            yield f"audit log: BROKEN: {printable(finding)}"
        if log.not_compared is not None:
            yield f"audit log: not compared: {printable(log.not_compared)}"
        elif not log.findings:
            elsewhere = f"; {log.elsewhere:,} of an older ledger" if log.elsewhere else ""
            lines = f"{log.lines:,} line{'' if log.lines == 1 else 's'}"
            yield f"audit log: {lines}, each with the hash of a record{elsewhere}"
    total = f"{sum(report.records for report in chains):,} records in {seconds:.1f} s"
    trusted = f"; records before {first} were not verified" if first else ""
    yield f"verified: {total}{trusted}" if ok else f"not verified: {total} were right"


def report_document(
    ok: bool, chains: list[ChainReport], findings: list[LedgerFinding], log: LogReport | None = None
) -> dict[str, Any]:
    """Return the result of a verification for a program."""

    def of(finding: LedgerFinding) -> dict[str, Any]:
        return {
            "problem": finding.problem.value,
            "sequence": finding.sequence,
            "capsule_id": finding.capsule_id,
            "detail": finding.detail,
        }

    return {
        "verified": ok,
        "chains": [
            {
                "chain": report.chain,
                "records": report.records,
                "head": {"sequence": report.head.sequence, "hash": report.head.hash} if report.head.hash else None,
                "checkpoints": report.checkpoints,
                "finding": of(report.finding) if report.finding else None,
            }
            for report in chains
        ],
        "findings": [of(finding) for finding in findings],
        "audit_log": None
        if log is None
        else {
            "lines": log.lines,
            "of_an_older_ledger": log.elsewhere,
            "not_compared": log.not_compared,
            "findings": [of(finding) for finding in log.findings],
        },
    }
