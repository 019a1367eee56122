"""`gatehouse audit` and `gatehouse keys` work on a real ledger, and their exit codes say the result."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from gatehouse.capsule import keys
from gatehouse.capsule.document import Content
from gatehouse.capsule.export import read_json
from gatehouse.capsule.verification import LedgerFinding
from gatehouse.core.keys import InstallationKeys, Purpose
from gatehouse.core.names import hidden
from gatehouse.dialects.prompt import commitment, text_of
from gatehouse.ledger.audit_log import FILE_NAME, encode
from gatehouse.ledger.inspection import CallsReport, verify_ledger
from gatehouse.ledger.log_comparison import LogReport

from tests.support.gateway import INSTALLATION_SECRET, REPOSITORY
from tests.support.ledger import WrittenLedger
from tests.support.postgres import Postgres
from tests.support.prefork import run
from tests.support.process import wait_until
from tests.unit.capsule.test_seal import _reference_chain, capsule_command

BIN = Path(sys.executable).parent
HOSTILE = "calls/../../etc/pass wd\n☃+" + "x" * 230  # longer than a file may be called


@pytest.fixture
def ledger(postgres: Postgres, tmp_path: Path) -> WrittenLedger:
    return WrittenLedger(postgres.create_database(), tmp_path / "ledger")


@pytest.fixture(scope="module")
def sound(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> WrittenLedger:
    """Write a ledger that no test changes: two chains, a rotation in the middle, checkpoints."""
    ledger = WrittenLedger(postgres.create_database(), tmp_path_factory.mktemp("sound"))
    ledger.write(130)
    ledger.checkpoint()
    ledger.write(20, HOSTILE)
    ledger.rotate()
    ledger.write(150)
    ledger.checkpoint()
    ledger.write(5)
    return ledger


def environment(ledger: WrittenLedger | None, **more: str) -> dict[str, str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE", "GATEHOUSE"))}
    if ledger is not None:
        environ["DATABASE_URL"] = ledger.url
        environ["GATEHOUSE_HOME"] = str(REPOSITORY)
        environ["GATEHOUSE_LEDGER_DIR"] = str(ledger.folder)
        environ["GATEHOUSE_LOG_DIR"] = str(ledger.folder / "logs")
    return environ | more


def gatehouse(
    ledger: WrittenLedger | None, *arguments: object, stdin: str = "", code: int = 0, cwd: Path | None = None
) -> str:
    """What the command says, on both streams; it must end with that code."""
    done = run([str(BIN / "gatehouse"), *map(str, arguments)], environment(ledger), stdin, cwd)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def findings(ledger: WrittenLedger) -> list[LedgerFinding]:
    found: list[LedgerFinding] = []
    for report in verify_ledger(ledger.url, ledger.folder / "checkpoints", ledger.keys().keyring):
        if isinstance(report, CallsReport | LogReport):
            found += report.findings
        elif report.finding is not None:
            found.append(report.finding)
    return found


# --- verify


def test_a_sound_ledger_is_verified(sound: WrittenLedger) -> None:
    said = gatehouse(sound, "audit", "verify")
    (head,) = sound.query("select head_hash from gatehouse.chains where chain = 'calls'")[0]
    assert f"chain calls: 285 records, 2 checkpoints, head 284 {head}\n" in said
    assert said.splitlines()[-1].startswith("verified: 305 records in ")
    assert "\x1b" not in said
    report = json.loads(gatehouse(sound, "audit", "verify", "--json", "--chain", HOSTILE))
    assert report["verified"]
    assert [(chain["chain"], chain["records"]) for chain in report["chains"]] == [(HOSTILE, 20)]


def test_a_checkpoint_kept_outside_is_compared(sound: WrittenLedger, ledger: WrittenLedger, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(sound.query("select note from gatehouse.checkpoints where size = 280")[0][0])
    assert "verified" in gatehouse(sound, "audit", "verify", "--checkpoint", kept)
    # The same for a ledger that lost all of it, in table and folder.
    ledger.write(1)
    said = gatehouse(ledger, "audit", "verify", "--checkpoint", kept, "--keyring", sound.keyring, code=1)
    assert "chain calls: BROKEN" in said


def test_the_audit_log_is_compared_the_gateways_own_or_the_one_that_is_named(
    sound: WrittenLedger, tmp_path: Path
) -> None:
    nowhere = f"{sound.folder / 'logs'}: No such file or directory"
    assert f"audit log: not compared: {nowhere}" in gatehouse(sound, "audit", "verify")
    report = json.loads(gatehouse(sound, "audit", "verify", "--json"))
    assert report["verified"]
    assert report["audit_log"]["not_compared"].startswith(nowhere)
    told = {"timestamp": "2026-01-01T00:00:00+00:00", "event_type": "chat_completion_success"}
    names = ("chain", "sequence", "hash", "signed_by")
    query = f"select {', '.join(names)}, id::text from gatehouse.capsules order by chain, sequence"
    lines = [
        encode(told | {"data": {"call_id": call_id, "capsule": dict(zip(names, place, strict=True))}})
        for *place, call_id in sound.query(query)
    ]
    right, wrong, cut = tmp_path / "right.jsonl", tmp_path / "wrong", tmp_path / "cut.gz"
    right.write_bytes(b"".join(lines))
    wrong.mkdir()
    (wrong / FILE_NAME).write_bytes(lines[3].replace(b'"hash":"', b'"hash":"0'))
    cut.write_bytes(gzip.compress(right.read_bytes())[:-9])
    assert "audit log: 305 lines" in gatehouse(sound, "audit", "verify", "--jsonl", right)
    assert "audit log: 20 lines" in gatehouse(sound, "audit", "verify", "--jsonl", right, "--chain", HOSTILE)
    said = gatehouse(sound, "audit", "verify", "--jsonl", right, "--jsonl", wrong, code=1)
    assert "audit log: BROKEN: record 3 " in said
    assert "line of another record: 1 record is" in said
    assert said.splitlines()[-1].startswith("not verified: ")
    for options in (["--jsonl", tmp_path / "none"], ["--jsonl", cut]):
        assert "error: " in gatehouse(sound, "audit", "verify", *options, code=2)
    said = gatehouse(None, "audit", "verify", "--file", "-", "--keyring", sound.keyring, "--jsonl", right, code=2)
    assert "--jsonl: the audit log is compared with the ledger itself" in said


@pytest.mark.parametrize(
    ("statement", "problem", "sequence"),
    [
        ("update capsules set canonical = canonical || 'x' where sequence = 7", "hash mismatch", 7),
        ("update capsules set hash = repeat('0', 64) where sequence = 7", "hash mismatch", 7),
        ("update capsules set hash = 'nonsense' where sequence = 7", "hash mismatch", 7),
        ("update capsules set signature = repeat('0', 128) where sequence = 7", "bad signature", 7),
        ("update capsules set signed_by = repeat('0', 64) where sequence = 7", "unknown key", 7),
        ("update capsules set signed_at = signed_at + interval '1 us' where sequence = 7", "column mismatch", 7),
        ("update capsules set signed_at = 'infinity' where sequence = 7", "column mismatch", 7),
        ("update capsules set signed_at = '4000-01-01 BC' where sequence = 7", "column mismatch", 7),
        ("update capsules set previous_hash = null where sequence = 7", "column mismatch", 7),
        ("update capsules set id = gen_random_uuid() where sequence = 7", "column mismatch", 7),
        ("update capsules set subtrees = subtrees || 'x' where sequence = 7", "wrong subtree hashes", 7),
        ("update capsules set sequence = -5 where sequence = 7", "column mismatch", 0),
        ("update capsules set sequence = 9223372036854775807 where sequence = 7", "gap", 7),
        ("delete from capsules where sequence = 7", "gap", 7),
        ("delete from capsules where sequence >= 7", "tail cut off", 7),
        ("delete from capsules", "tail cut off", 0),
        ("delete from capsules; delete from chains", "tail cut off", 0),
        ("delete from capsules; delete from chains; delete from checkpoints", "tail cut off", 0),
        ("update capsules set chain = 'elsewhere' where sequence = 7", "gap", 7),
        ("delete from chains", "wrong head", None),
        ("update chains set size = 11", "wrong head", 11),
        ("update chains set size = 13", "tail cut off", 12),
        ("update chains set head_hash = repeat('0', 64)", "wrong head", None),
        ("update chains set frontier = frontier || 'x'", "wrong head", None),
        ("update chains set signed_by = repeat('0', 64)", "wrong head", None),
        ("update checkpoints set note = note || 'x'", "wrong checkpoint", None),
        ("update checkpoints set size = 9", "wrong checkpoint", None),
        ("update checkpoints set size = 90", "wrong checkpoint", None),
    ],
)  # fmt: skip
def test_what_is_changed_in_the_database_is_found(
    ledger: WrittenLedger, statement: str, problem: str, sequence: int | None
) -> None:
    ledger.write(10)
    ledger.checkpoint()
    ledger.write(2)
    assert findings(ledger) == []
    ledger.tamper_all(re.sub(r"(update|from) (?=ca|ch)", r"\1 gatehouse.", part) for part in statement.split("; "))
    first = findings(ledger)[0]
    assert (first.problem.value, first.sequence) == (problem, sequence), str(first)


def test_calls_and_capsules_are_held_against_each_other(ledger: WrittenLedger) -> None:
    ids = ledger.write(4)
    ledger.tamper("delete from gatehouse.calls where call_id = %s", ids[2])
    (finding,) = findings(ledger)
    assert (finding.problem.value, finding.capsule_id) == ("capsule without a call", ids[2])
    ledger.tamper(
        """insert into gatehouse.calls (call_id, gateway_id, started_at, request, settled_at)
           values ('00000000-0000-7000-8000-000000000001', gen_random_uuid(), now(), '{}', now())"""
    )
    found = gatehouse(ledger, "audit", "verify", code=1)
    assert "calls: BROKEN: call without a capsule: 1 settled calls" in found
    assert "calls: BROKEN: capsule without a call: 1 capsules" in found


def test_a_checkpoint_file_is_held_against_the_ledger(ledger: WrittenLedger) -> None:
    ledger.write(3)
    ledger.checkpoint()
    path = next((ledger.folder / "checkpoints" / "calls").glob("*.checkpoint"))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"\n3\n", b"\n2\n"))
    assert [finding.problem.value for finding in findings(ledger)] == ["wrong checkpoint"]
    path.write_bytes(whole)
    (path.parent / "latest").write_bytes(b"")
    assert [finding.problem.value for finding in findings(ledger)] == ["wrong checkpoint"]


def test_what_cannot_be_verified_is_neither_right_nor_wrong(
    sound: WrittenLedger, postgres: Postgres, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.write_text("example.com/other\n3\nAAAA\n")
    bare = WrittenLedger(postgres.create_database(), tmp_path / "bare")
    bare.tamper("drop schema gatehouse cascade")
    for ledger, arguments, reason in (
        (sound, ["--chain", "nobody"], "no such chain"),
        (sound, ["--keyring", tmp_path / "none"], "there is no keyring"),
        (sound, ["--checkpoint", tmp_path / "none"], "No such file"),
        (sound, ["--checkpoint", kept], "not a checkpoint"),
        (sound, ["--file", tmp_path / "none", "--keyring", sound.keyring], "No such file"),
        (sound, ["--file", kept], "--keyring"),
        (sound, ["--from", "3"], "--from"),
        (bare, [], "there is no ledger in it"),
    ):
        said = gatehouse(ledger, "audit", "verify", *arguments, code=2)
        assert said.startswith("error: "), said
        assert reason in said
        assert "Traceback" not in said


def test_the_embedded_stack_is_found_by_its_env_file(sound: WrittenLedger, tmp_path: Path) -> None:
    for name in ("config.yaml", "policy.yaml"):
        (tmp_path / name).touch()
    assert "gatehouse init" in gatehouse(None, "audit", "verify", code=2, cwd=tmp_path)
    (tmp_path / ".env").write_text(
        "".join(
            f"{name}=x\n"
            for name in re.findall(r"(?m)^([A-Z_]+)=$", (REPOSITORY / ".env.example").read_text())
            if name != "FORWARDED_ALLOW_IPS"  # which x is none of
        )
        + "POSTGRES_PORT=1\n"
    )
    said = gatehouse(None, "audit", "verify", "--keyring", sound.keyring, code=2, cwd=tmp_path)
    assert "error: database: " in said
    assert "port 1 failed" in said


def on_a_terminal(ledger: WrittenLedger, *arguments: str, **environ: str) -> str:
    """Return what the command writes to its error stream when that is a terminal."""
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        [BIN / "gatehouse", *arguments],
        env=environment(ledger, TERM="xterm-256color", **environ), stdout=subprocess.DEVNULL, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(mine, 65536):
            said += piece
    except OSError:
        pass  # the other end is closed
    os.close(mine)
    assert process.wait() == 0
    return said.decode()


def test_progress_is_shown_on_a_terminal_and_coloured_unless_told_otherwise(sound: WrittenLedger) -> None:
    coloured = re.compile(r"\x1b\[(?:\d+;)*3\d")
    assert coloured.search(on_a_terminal(sound, "audit", "verify"))
    plain = on_a_terminal(sound, "audit", "verify", NO_COLOR="1")
    assert "verifying" in plain
    assert not coloured.search(plain)


@pytest.mark.timeout(300)
def test_memory_does_not_grow_with_the_chain(ledger: WrittenLedger) -> None:
    # 18,000 more records are 27 MB of signed bytes alone.
    code = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    )

    def peak_mb(*arguments: object) -> float:
        command = [sys.executable, "-c", code, str(BIN / "gatehouse"), "audit", *map(str, arguments)]
        done = subprocess.run(command, env=environment(ledger), stdout=subprocess.PIPE, text=True, check=True)
        return int(done.stdout.split()[-1]) / 1024

    path = ledger.folder / "export.json"
    peaks: dict[str, list[float]] = {"ledger": [], "export": [], "file": []}
    for count in (2_000, 18_000):
        ledger.write(count)
        peaks["ledger"].append(peak_mb("verify"))
        peaks["export"].append(peak_mb("export", "-o", path))
        peaks["file"].append(peak_mb("verify", "--file", path, "--keyring", ledger.keyring))
    assert all(late - early < 10 for early, late in peaks.values()), peaks


@pytest.mark.timeout(300)
def test_a_killed_verification_leaves_no_process_behind(ledger: WrittenLedger) -> None:
    ledger.write(15_000)
    process = subprocess.Popen(
        [BIN / "gatehouse", "audit", "verify"], env=environment(ledger), stdout=subprocess.DEVNULL
    )
    watched = psutil.Process(process.pid)
    wait_until(lambda: len(watched.children(recursive=True)) >= 3 or process.poll() is not None, "its helpers run")
    helpers = watched.children(recursive=True)
    assert helpers
    process.kill()
    process.wait()
    wait_until(lambda: not any(helper.is_running() for helper in helpers), "its helpers are gone")


# --- export


def test_the_reference_verifies_our_export_in_full(sound: WrittenLedger, tmp_path: Path) -> None:
    auditor, path = tmp_path / "auditor", tmp_path / "chain.json"
    auditor.mkdir()
    (auditor / "keyring.json").write_bytes(sound.keyring.read_bytes())
    gatehouse(sound, "audit", "export", "-o", path)
    checked = capsule_command("verify", "--json", "--signatures", str(path), home=auditor)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert json.loads(checked.stdout)["capsules_verified"] == 285
    assert "285 records" in gatehouse(None, "audit", "verify", "--file", path, "--keyring", sound.keyring)


def test_an_export_is_verified_from_standard_input_and_in_parts(sound: WrittenLedger, tmp_path: Path) -> None:
    lines = gatehouse(sound, "audit", "export", "--format", "jsonl")
    options = ["audit", "verify", "--file", "-", "--keyring", sound.keyring]
    assert "export: 285 records" in gatehouse(None, *options, stdin=lines)
    kept = tmp_path / "kept"
    kept.write_bytes(sound.query("select note from gatehouse.checkpoints where size = 280")[0][0])
    assert "1 checkpoint, head 284" in gatehouse(None, *options, "--checkpoint", kept, stdin=lines)
    cut = "".join(lines.splitlines(keepends=True)[:200])
    said = gatehouse(None, *options, "--checkpoint", kept, stdin=cut, code=1)
    assert "record 200: tail cut off" in said
    said = gatehouse(None, *options, "--checkpoint", kept, stdin=cut[:-30], code=1)
    assert "record 199: malformed record" in said
    part = gatehouse(sound, "audit", "export", "--format", "jsonl", "--from", "100", "--to", "149")
    assert len(part.splitlines()) == 50
    assert "record 0 " in gatehouse(None, *options, stdin=part, code=1)
    assert "records before 100 were not verified" in gatehouse(None, *options, "--from", "100", stdin=part)
    assert "record 99 " in gatehouse(None, *options, "--from", "99", stdin=part, code=1)
    tampered = lines.replace('"gpt-4o"', '"gpt-4x"', 1)
    assert "record 0 (" in gatehouse(None, *options, stdin=tampered, code=1)


@pytest.mark.parametrize("rotate", [False, True])
async def test_chains_of_the_reference_are_verified(tmp_path: Path, rotate: bool) -> None:
    records = await _reference_chain(tmp_path, rotate)
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(records))
    options = ["audit", "verify", "--file", path, "--keyring", tmp_path / "keyring.json"]
    assert "export: 6 records" in gatehouse(None, *options)
    records[4]["outcome"]["summary"] = "another"
    path.write_text(json.dumps(records))
    assert "record 4 " in gatehouse(None, *options, code=1)


def test_an_export_that_fails_leaves_the_file_as_it_was(sound: WrittenLedger, tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_text("of yesterday")
    said = gatehouse(sound, "audit", "export", "--chain", "nobody", "-o", path, code=1)
    assert "no such chain" in said
    assert path.read_text() == "of yesterday"
    assert "not a file" in gatehouse(sound, "audit", "export", "-o", tmp_path, code=1)
    assert sorted(tmp_path.iterdir()) == [path]


# --- prompt, name


def test_a_request_is_compared_with_what_was_asked_until_the_salt_is_erased(
    ledger: WrittenLedger, tmp_path: Path
) -> None:
    asked = {"model": "demo", "messages": [{"role": "user", "content": "yes"}], "stream": True}
    salt = b"0123456789abcdef"
    (call_id,) = ledger.write(1, content=Content(prompt_hash=commitment(text_of(asked) or "", salt)))
    (file := tmp_path / "request.json").write_text(json.dumps(asked))
    assert "its salt was erased" in gatehouse(ledger, "audit", "prompt", call_id, file, code=1)
    ledger.tamper("update gatehouse.calls set prompt_salt = %s", salt)
    assert salt.hex() in gatehouse(ledger, "audit", "prompt", call_id)
    assert "the same" in gatehouse(ledger, "audit", "prompt", call_id, file)
    file.write_text(json.dumps(asked | {"messages": [{"role": "user", "content": "no"}]}))
    assert "another" in gatehouse(ledger, "audit", "prompt", call_id, file, code=1)
    file.write_text("nonsense")
    assert "not JSON" in gatehouse(ledger, "audit", "prompt", call_id, file, code=1)
    assert "still verifies" in gatehouse(ledger, "audit", "prompt", call_id, "--erase-salt")
    assert "there is no salt" in gatehouse(ledger, "audit", "prompt", call_id, "--erase-salt")
    assert findings(ledger) == []


def test_what_stands_for_a_name_in_records_is_shown(sound: WrittenLedger) -> None:
    key = InstallationKeys(INSTALLATION_SECRET).key(Purpose.RECORDS)
    done = subprocess.run(
        [BIN / "gatehouse", "audit", "name", "ada@example.com"],
        env=environment(sound, GATEHOUSE_SECRET=INSTALLATION_SECRET), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == hidden("ada@example.com", key) + "\n"


# --- show, tail


def test_a_call_is_shown_for_people_and_for_programs(sound: WrittenLedger, tmp_path: Path) -> None:
    (call_id,) = sound.query("select id::text from gatehouse.capsules where chain = 'calls' and sequence = 200")[0]
    said = gatehouse(sound, "audit", "show", call_id)
    assert re.search(r"seal +verifies", said)
    assert "(epoch 1)" in said
    assert re.search(r"key_alias +billing agent", said)
    path = tmp_path / "one.json"
    path.write_text(gatehouse(sound, "audit", "show", call_id, "--json"))
    with path.open("rb") as file:
        (row,) = read_json(file)
    assert (row.id, row.sequence) == (call_id, 200)
    assert "not in the ledger" in gatehouse(sound, "audit", "show", "00000000-0000-7000-8000-000000000000", code=1)
    gatehouse(sound, "audit", "show", "nonsense", code=2)


def test_what_callers_wrote_cannot_move_the_terminals_cursor(ledger: WrittenLedger) -> None:
    evil = {"route": "/v1/chat/completions", "model": "m\x1b[2J\x9b31m\u202e", "caller": {"key_alias": "a\x1b]0;b\x07"}}
    (call_id,) = ledger.write(1, request=evil)
    for said in (gatehouse(ledger, "audit", "show", call_id), gatehouse(ledger, "audit", "tail")):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", said)
        assert "\\x1b[2J" in said


def test_a_record_that_was_changed_is_shown_as_that(ledger: WrittenLedger) -> None:
    (call_id,) = ledger.write(1)
    ledger.tamper("update gatehouse.capsules set canonical = '\\xff00'")
    assert re.search(r"seal +BROKEN: hash mismatch", gatehouse(ledger, "audit", "show", call_id))
    assert "not a capsule" in gatehouse(ledger, "audit", "tail")


def test_the_tail_is_followed(ledger: WrittenLedger, tmp_path: Path) -> None:
    ledger.write(5)
    assert [line.split()[1] for line in gatehouse(ledger, "audit", "tail", "-n", "2").splitlines()] == ["3", "4"]
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [BIN / "gatehouse", "audit", "tail", "-n", "1", "-f", "--json"],
            env=environment(ledger, PYTHONUNBUFFERED="1"), stdout=file,
        )  # fmt: skip
    try:
        wait_until(lambda: len(output.read_bytes().splitlines()) == 1, "the last record is shown")
        ids = ledger.write(3)
        wait_until(lambda: len(output.read_bytes().splitlines()) == 4, "the new ones are shown")
        assert [json.loads(line)["id"] for line in output.read_bytes().splitlines()[1:]] == ids
    finally:
        process.kill()
        process.wait()


# --- proofs


def verifier_keys(ledger: WrittenLedger) -> list[str]:
    return re.findall(r"verifier key +(\S+)", gatehouse(ledger, "audit", "keys"))


def check_with(ledger: WrittenLedger, path: Path, code: int = 0, keys: Sequence[str] | None = None) -> str:
    options = ["--keyring", ledger.keyring] if keys is None else [part for key in keys for part in ("--key", key)]
    return gatehouse(None, "audit", "check-proof", path, *options, code=code)


def test_a_proof_needs_nothing_but_public_keys(sound: WrittenLedger, tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    keys = verifier_keys(sound)
    assert len(keys) == 2
    for sequence in (0, 129, 200):
        (call_id,) = sound.query(
            "select id::text from gatehouse.capsules where chain = 'calls' and sequence = %s", sequence
        )[0]
        gatehouse(sound, "audit", "prove", call_id, "-o", path)
        assert f"proven: record {sequence}, " in check_with(sound, path)
        check_with(sound, path, keys=keys)
    assert "of 280 records" in check_with(sound, path, keys=keys[1:])
    assert "not proven" in check_with(sound, path, keys=keys[:1], code=1)


def test_a_tampered_proof_proves_nothing(sound: WrittenLedger, tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    (call_id,) = sound.query("select id::text from gatehouse.capsules where chain = 'calls' and sequence = 17")[0]
    whole = json.loads(gatehouse(sound, "audit", "prove", call_id))

    def changed(**parts: Any) -> dict[str, Any]:
        return {name: value | parts[name] if name in parts else value for name, value in whole.items()}

    for wrong in (
        changed(inclusion={"index": 18}),
        changed(inclusion={"hashes": whole["inclusion"]["hashes"][1:]}),
        changed(capsule={"signature": "0" * 128}),
        changed(capsule={"hash": "0" * 64}),
        changed(capsule={"canonical": "e30="}),
        whole | {"checkpoint": whole["checkpoint"].replace("\n130\n", "\n131\n")},
        {},
    ):
        path.write_text(json.dumps(wrong))
        assert check_with(sound, path, code=1).startswith("not proven: ")
    path.write_text("not JSON")
    assert "not proven: proof file" in check_with(sound, path, code=1)
    assert "error: keys: " in check_with(sound, path, keys=[], code=2)
    assert "error: --key: " in check_with(sound, path, keys=["nonsense"], code=2)


def test_a_key_proves_nothing_after_its_time(ledger: WrittenLedger, tmp_path: Path) -> None:
    """Whoever steals a retired key can sign records and checkpoints, but none that a keyring accepts."""
    ledger.write(4)
    stolen = tmp_path / "stolen"
    stolen.mkdir(0o700)
    for file in ledger.key_dir.iterdir():
        (stolen / file.name).write_bytes(file.read_bytes())
        (stolen / file.name).chmod(0o600)
    ledger.rotate()
    path, keyring = tmp_path / "proof.json", ledger.keyring.read_bytes()
    for file in ledger.key_dir.glob("*"):
        file.unlink()
    for file in stolen.iterdir():
        file.rename(ledger.key_dir / file.name)
    ledger.tamper("update gatehouse.chains set signed_by = null")
    (call_id,) = ledger.write(1)
    ledger.checkpoint()
    gatehouse(ledger, "audit", "prove", call_id, "-o", path)
    assert "proven" in check_with(ledger, path)
    ledger.keyring.write_bytes(keyring)
    assert "was not the one to sign record 4" in check_with(ledger, path, code=1)


def test_a_capsule_that_no_checkpoint_covers_is_not_proven_yet(sound: WrittenLedger) -> None:
    (call_id,) = sound.query("select id::text from gatehouse.capsules where chain = 'calls' and sequence = 284")[0]
    said = gatehouse(sound, "audit", "prove", call_id, code=1)
    assert "no checkpoint covers its capsule yet. `gatehouse audit checkpoint` signs one now." in said


def test_a_checkpoint_is_signed_when_asked_for(ledger: WrittenLedger) -> None:
    assert "no capsule in it" in gatehouse(ledger, "audit", "checkpoint", code=1)
    *_, call_id = ledger.write(3, HOSTILE)
    for _ in range(2):
        note = gatehouse(ledger, "audit", "checkpoint", "--chain", HOSTILE)
        assert note.split("\n")[1] == "3"
    assert '"index": 2' in gatehouse(ledger, "audit", "prove", call_id)
    assert findings(ledger) == []
    ledger.tamper("delete from gatehouse.capsules")
    assert "gatehouse audit verify" in gatehouse(ledger, "audit", "checkpoint", "--chain", HOSTILE, code=1)
    ledger.tamper("delete from gatehouse.chains; delete from gatehouse.checkpoints")
    said = gatehouse(ledger, "audit", "verify", code=1)
    assert "tail cut off: " in said
    assert "x" * 200 in said, "the chain is named, though its name is too long for a folder"


# --- keys


def test_a_rotation_is_between_two_records_whatever_is_written_meanwhile(ledger: WrittenLedger) -> None:
    ledger.write(3)
    old = keys.load(ledger.key_dir).keyring.active.name
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITE, ledger.url, str(ledger.folder)], cwd=REPOSITORY, env=environment(ledger)
    )
    try:
        for number in range(1, 4):
            size = ledger.query("select size from gatehouse.chains")[0][0]
            wait_until(lambda size=size: ledger.query("select size from gatehouse.chains")[0][0] > size, "it writes")  # type: ignore[misc]
            said = gatehouse(ledger, "keys", "rotate")
            new = keys.load(ledger.key_dir).keyring.active
            assert f"old key  epoch {number - 1}  {old}" in said
            assert f"new key  epoch {number}  {new.name}" in said
            old = new.name
    finally:
        writer.terminate()
        writer.wait()
    assert findings(ledger) == []
    assert len(ledger.query("select distinct signed_by from gatehouse.capsules")) >= 3
    assert [len(list(ledger.key_dir.glob("*.key")))] == [1]


_WRITE = """
import sys, itertools
from pathlib import Path
from gatehouse.capsule import keys
from tests.support.ledger import WrittenLedger
keys.create = lambda *_: None
ledger = WrittenLedger(sys.argv[1], Path(sys.argv[2]))
for _ in itertools.count():
    ledger.write(1)
"""


def test_a_rotation_whose_transaction_was_lost_costs_nothing(ledger: WrittenLedger) -> None:
    ledger.write(3)
    sizes = dict(ledger.query("select chain, size from gatehouse.chains"))
    keys.rotate(ledger.key_dir, sizes, ledger.keys().keyring.active.created_at)  # and the gateway's host went down
    ledger.write(2)
    assert findings(ledger) == []
    gatehouse(ledger, "keys", "rotate")
    ledger.write(2)
    assert findings(ledger) == []
    assert "epoch 2  made" in gatehouse(ledger, "keys", "show")
