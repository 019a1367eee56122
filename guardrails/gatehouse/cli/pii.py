"""`gatehouse pii`: shows what the scanner finds in a file, before the file is in a prompt."""

from __future__ import annotations

import json
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from gatehouse.cli import app
from gatehouse.core.errors import SetupError
from gatehouse.core.keys import DerivedKey
from gatehouse.core.text import printable
from gatehouse.guards.findings import Finding, ScanFailed
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.pii.long_text import PART_CHARS, TextFile, scan_long_text
from gatehouse.guards.pii.masking import Placeholders
from gatehouse.guards.pii.text_kind import TextKind, kind_of
from gatehouse.policy.load import read_policy
from gatehouse.policy.model import PiiPolicy
from gatehouse.policy.pii_section import pii_config, pii_problems

FOUND = 3
Scanned = Iterator[tuple[str, list[Finding]]]
# Smaller files are scanned before anybody could read a bar.
_BAR_FROM_BYTES = 500_000

pii_app = typer.Typer(no_args_is_help=True, help="Personal data: show what the scanner finds in a text.")
app.add_typer(pii_app, name="pii")


@pii_app.callback()
def _group() -> None:
    """Make `scan` a command of its own: Typer would merge a group with a single command into it."""


@pii_app.command()
def scan(
    file: Annotated[str, typer.Argument(help="A text file; `-` is standard input.")] = "-",
    policy: Annotated[
        Path | None, typer.Option(help="Look for what the `pii` section of this policy.yaml names.")
    ] = None,
    entities: Annotated[
        list[str] | None,
        typer.Option(help="Look for these instead, such as EMAIL_ADDRESS,PHONE_NUMBER; may be repeated."),
    ] = None,
    languages: Annotated[
        list[str] | None, typer.Option(help="Two-letter codes, such as en,de, instead of the policy's; en by default.")
    ] = None,
    mask: Annotated[bool, typer.Option("--mask", help="Print the text with placeholders, as a model would see it.")] = (
        False
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line and finding.")] = False,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="Print whole values, not only their first character and length.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also print the kind of each text, and what speaks for each finding.")
    ] = False,
) -> None:
    """Find personal data in a text, as the gateway would.

    Prints each finding's entity, line:column, score and mode. It sends nothing anywhere and needs no running gateway.

    Exit code 0: nothing found, 3: something found, 1: the text could not be scanned to its end.
    """
    if mask and (as_json or show_values or explain):
        raise SetupError("--mask: it prints the text, not findings. Leave out --json, --show-values and --explain.")
    config = _config(policy, _words(entities), _words(languages))
    with _opened(file) as opened, _bar(file, shown=not (mask and sys.stdout.isatty())) as advance:
        text = TextFile(opened, advance)
        scanned = _scanned(file, text, config)
        if mask:
            counts = _print_masked(scanned, text, config)
        else:
            counts = Counter()
            for each in _located(scanned, config):
                counts[each.entity] += 1
                typer.echo(each.as_json(show_values, explain) if as_json else each.as_row(show_values, explain))
    if not mask and not as_json:
        typer.echo(_summary(counts))
    if text.strange:
        typer.echo(f"note: {text.strange:,} bytes are not UTF-8. A value with one may not be found.", err=True)
    if counts:
        raise typer.Exit(FOUND)


def _words(given: list[str] | None) -> list[str]:
    return [word.strip() for each in given or () for word in each.split(",") if word.strip()]


def _config(path: Path | None, entities: list[str], languages: list[str]) -> PiiConfig:
    section = PiiPolicy()
    if path is not None:
        loaded, _ = read_policy(path)
        if loaded.policy.pii is None:
            raise SetupError(f"{path}: it has no section `pii`. Add one, or leave out --policy.")
        section = loaded.policy.pii
    if entities:
        # Use the policy's own mode and recognizer, where it has them.
        section = section.model_copy(
            update={
                "entities": {name: section.entities.get(name) for name in entities},
                "recognizers": tuple(each for each in section.recognizers if each.entity in entities),
            }
        )
    if languages:
        section = section.model_copy(update={"languages": tuple(languages)})
    for where, what in pii_problems(section):
        if (where[0] == "entities" and entities) or (where[0] == "languages" and languages):
            raise SetupError(f"--{where[0]}: {what}" + "." * (not what.endswith("?")))
    config = pii_config(section)
    if not config.wanted:
        raise SetupError("pii: everything is off, so there is nothing to look for. Name entities with --entities.")
    return config


def _scanned(name: str, text: TextFile, config: PiiConfig) -> Scanned:
    try:
        from gatehouse.guards.pii.engine import Engine  # loads Presidio, for which --help need not wait
    except ModuleNotFoundError as error:
        raise SetupError(f"{error.name}: not installed. Install gatehouse with its dependencies.") from None
    engine = Engine(config)
    line = 1
    try:
        for piece, findings in scan_long_text(text, engine.scan, PART_CHARS):
            yield piece, findings
            line += piece.count("\n")
    except ScanFailed as failed:
        raise SetupError(
            f"{name}: it could not be scanned from line {line} on ({failed.reason}); the gateway would block it. "
            "Check whether a pattern of yours is slow there."
        ) from None
    except OSError as error:
        raise SetupError(f"{name}: {error.strerror}. Name a text file that can be read.") from None


@dataclass(frozen=True, slots=True)
class _Found:
    """Hold a finding with its line and column, both from 1, and its offset in the text, in characters."""

    entity: str
    line: int
    column: int
    start: int
    end: int
    score: float
    mode: str
    value: str = field(repr=False)
    kind: TextKind
    evidence: tuple[str, ...]

    def as_json(self, show_value: bool, explain: bool = False) -> str:
        document = asdict(self)
        if not explain:
            del document["kind"], document["evidence"]
        value = document.pop("value")
        document |= {"value": value} if show_value else {"first": value[0], "length": len(value)}
        return json.dumps(document)

    def as_row(self, show_value: bool, explain: bool = False) -> str:
        many = f"{len(self.value)} character{'s' * (len(self.value) > 1)}"
        value = printable(self.value if show_value else self.value[0]) + ("" if show_value else f"...  {many}")
        reasons = f"  in {self.kind}: {', '.join(self.evidence) or 'a pattern of yours'}" if explain else ""
        return (
            f"{self.entity:<20} {f'{self.line}:{self.column}':>10}  {self.score:.2f}  {self.mode:<7}  {value}{reasons}"
        )


def _located(scanned: Scanned, config: PiiConfig) -> Iterator[_Found]:
    offset, line, line_start = 0, 1, 0
    for piece, findings in scanned:
        at = 0
        kind = kind_of(piece)
        for each in findings:
            if breaks := piece.count("\n", at, each.start):
                line, line_start = line + breaks, offset + piece.rfind("\n", at, each.start) + 1
            at, start = each.start, offset + each.start
            yield _Found(
                each.entity,
                line,
                start - line_start + 1,
                start,
                offset + each.end,
                round(each.score, 2),
                config.mode_of(each.entity).value,
                piece[each.start : each.end],
                kind,
                each.evidence,
            )
        if breaks := piece.count("\n", at):
            line, line_start = line + breaks, offset + piece.rfind("\n", at) + 1
        offset += len(piece)


def _print_masked(scanned: Scanned, text: TextFile, config: PiiConfig) -> Counter[str]:
    """Print the text as a model would see it; values in mode `block`, which no model would see, have placeholders too.

    The key is made for this run, so the output may be passed on: nobody can guess values from it.
    """
    stricter = replace(
        config,
        mode=_masked(config.mode),
        entities={name: mode and _masked(mode) for name, mode in config.entities.items()},
    )
    counts: Counter[str] = Counter()
    placeholders = Placeholders(DerivedKey("", secrets.token_bytes(32)), "file")
    for piece, findings in scanned:
        sys.stdout.buffer.write(text.encode(placeholders.redact(piece, findings, stricter)))
        counts.update(each.entity for each in findings)
    sys.stdout.buffer.flush()
    return counts


def _masked(mode: Mode) -> Mode:
    return Mode.MASK if mode is Mode.BLOCK else mode


def _summary(counts: Counter[str]) -> str:
    if not counts:
        return "nothing found"
    total = sum(counts.values())
    kinds = ", ".join(f"{count} {entity}" for entity, count in sorted(counts.items(), key=lambda item: -item[1]))
    return f"\n{total} finding{'s' * (total > 1)}: {kinds}"


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        if sys.stdin.isatty():
            typer.echo("reading standard input; Ctrl-D ends it", err=True)
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115 - closed below; errors of the body are not errors of opening it
    except OSError as error:
        raise SetupError(f"{name}: {error.strerror}. Name a text file that can be read.") from None
    with file:
        yield file


@contextmanager
def _bar(name: str, *, shown: bool) -> Iterator[Callable[[int], object]]:
    """Show a progress bar for a big file on a terminal, and nothing elsewhere; NO_COLOR turns its colours off."""
    size = 0 if name == "-" else Path(name).stat().st_size
    if not shown or size < _BAR_FROM_BYTES or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("scanning"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TimeRemainingColumn(),
    )
    # Findings on the same terminal are printed above the bar; findings in a file stay out of it.
    redirect = sys.stdout.isatty()
    console = Console(stderr=True)
    with progress.Progress(*columns, console=console, transient=True, redirect_stdout=redirect) as bar:
        task = bar.add_task("", total=size)
        yield lambda count: bar.advance(task, count)
