"""`gatehouse pii scan` works as a person runs it, also on long texts, which it cuts."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from gatehouse.cli import main
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.config import PiiConfig
from gatehouse.guards.pii.engine import Engine
from gatehouse.guards.pii.long_text import TextFile, scan_long_text
from hypothesis import given, settings
from hypothesis import strategies as st

COMMAND = str(Path(sys.executable).with_name("gatehouse"))
TEXT = "Dear all,\n\twrite to jane@example.com or pay\r\nDE89 3704 0044 0532 0130 00 and jane@example.com\n"
POLICY = """\
version: 1
pii:
  entities: {EMAIL_ADDRESS: block, STAFF_ID: observe}
  recognizers:
    - entity: STAFF_ID
      patterns: [{regex: '\\bE\\d{5}\\b', score: 0.9}]
"""


@dataclass
class Done:
    returncode: int
    stdout: bytes
    stderr: str

    @property
    def lines(self) -> list[str]:
        return self.stdout.decode().splitlines()


Run = Callable[..., Done]


@pytest.fixture
def scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run the command as its entry point does, but in this process, because starting one takes seconds."""

    def run(*arguments: str, stdin: bytes = b"") -> Done:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["gatehouse", "pii", "scan", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            main()
        sys.stdout.flush()
        out = capfdbinary.readouterr()
        return Done(int(ended.value.code or 0), out.out, out.err.decode())

    return run


def test_findings_are_told_with_their_place_and_without_their_value(scan: Run) -> None:
    done = scan(stdin=TEXT.encode())
    assert [line.split(maxsplit=4) for line in done.lines[:3]] == [
        ["EMAIL_ADDRESS", "2:11", "1.00", "mask", "j...  16 characters"],
        ["IBAN_CODE", "3:1", "1.00", "mask", "D...  27 characters"],
        ["EMAIL_ADDRESS", "3:33", "1.00", "mask", "j...  16 characters"],
    ]
    assert done.lines[3:] == ["", "3 findings: 2 EMAIL_ADDRESS, 1 IBAN_CODE"]
    assert (done.returncode, done.stderr) == (3, "")


def test_values_are_shown_when_asked_for_and_cannot_move_the_cursor(scan: Run) -> None:
    done = scan("--show-values", stdin="\u202etel +1 201\u200b555 0123".encode())
    assert "+1 201\\u200b555 0123" in done.lines[0]


def test_nothing_found_is_0(scan: Run) -> None:
    assert scan(stdin=b"Order 20031 ships on Monday.") == Done(0, b"nothing found\n", "")


def test_json_is_one_object_a_line_whose_places_are_those_of_the_text(scan: Run, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(TEXT.encode())
    found = [json.loads(line) for line in scan("text", "--json", "--show-values").lines]
    assert [TEXT[each["start"] : each["end"]] for each in found] == [each["value"] for each in found]
    assert {(each["entity"], each["line"], each["column"]) for each in found} == {
        ("EMAIL_ADDRESS", 2, 11),
        ("IBAN_CODE", 3, 1),
        ("EMAIL_ADDRESS", 3, 33),
    }
    hidden = scan("text", "--json")
    assert b"jane" not in hidden.stdout
    assert (json.loads(hidden.lines[0])["first"], json.loads(hidden.lines[0])["length"]) == ("j", 16)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_mask_prints_the_text_as_it_was_but_for_what_was_found(scan: Run, encoding: str) -> None:
    done = scan("--mask", stdin=TEXT.encode(encoding))
    printed = done.stdout.decode(encoding)
    mail, again = re.findall(r"<EMAIL_ADDRESS_\w{8}>", printed)
    (iban,) = re.findall(r"<IBAN_CODE_\w{10}>", printed)
    assert mail == again
    masked = TEXT.replace("jane@example.com", mail).replace("DE89 3704 0044 0532 0130 00", iban)
    assert (done.returncode, done.stdout) == (3, masked.encode(encoding))
    assert scan("--mask", stdin=TEXT.encode(encoding)).stdout != done.stdout  # or values could be guessed from it


def test_bytes_that_are_no_text_stay_and_are_told_of(scan: Run) -> None:
    done = scan("--mask", stdin=b"caf\xe9 \xff jane@example.com")
    assert re.fullmatch(rb"caf\xe9 \xff <EMAIL_ADDRESS_\w{8}>", done.stdout)
    assert "2 bytes are not UTF-8" in done.stderr


def test_a_policy_says_what_to_look_for_and_what_becomes_of_it(scan: Run, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    text = b"E12345 <jane@example.com> DE89 3704 0044 0532 0130 00"
    rows = [line.split()[:4] for line in scan("--policy", "policy.yaml", stdin=text).lines[:2]]
    assert rows == [["STAFF_ID", "1:1", "0.90", "observe"], ["EMAIL_ADDRESS", "1:9", "1.00", "block"]]
    masked = scan("--policy", "policy.yaml", "--mask", stdin=text)
    assert re.fullmatch(rb"E12345 <<EMAIL_ADDRESS_\w{8}>> DE89 3704 0044 0532 0130 00", masked.stdout)
    assert scan("--policy", "policy.yaml", "--entities", "STAFF_ID", stdin=text).lines[-1] == "1 finding: 1 STAFF_ID"


def test_entities_and_languages_replace_what_is_looked_for(scan: Run) -> None:
    text = b"jane@example.com, DNI 12345678Z, www.example.com"
    done = scan("--entities", "ES_NIF,URL", "--entities", "EMAIL_ADDRESS", "--languages", "en,es", stdin=text)
    assert done.lines[-1] == "3 findings: 1 EMAIL_ADDRESS, 1 ES_NIF, 1 URL"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--entities", "EMAIL_ADRESS"), "did you mean EMAIL_ADDRESS?"),
        (("--entities", "ES_NIF"), "only where `languages` has 'es'"),
        (("--languages", "xx"), "--languages: 'xx' is not a known language"),
        (("--mask", "--json"), "Leave out --json"),
        (("nowhere.txt",), "nowhere.txt: No such file"),
        (("--policy", "none.yaml"), "none.yaml: No such file"),
        (("--policy", "bare.yaml"), "has no section `pii`"),
        (("--policy", "off.yaml"), "everything is off"),
    ],
)
def test_a_mistake_is_1_and_one_sentence(scan: Run, tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    (tmp_path / "bare.yaml").write_text("version: 1\n")
    (tmp_path / "off.yaml").write_text("version: 1\npii: {mode: off}\n")
    done = scan(*arguments, stdin=b"jane@example.com")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_text_that_takes_too_long_is_1_and_named(scan: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatehouse.cli.pii.pii_config", lambda _: PiiConfig(timeout_s=1e-6))
    done = scan(stdin=b"a\njane@example.com")
    assert done.returncode == 1
    assert "-: it could not be scanned from line 1 on (timeout)" in done.stderr


def test_a_small_text_takes_a_new_process_few_seconds() -> None:
    """It took 2.6 s on two shared cores, most of it for Python's imports."""
    begin = time.monotonic()
    done = subprocess.run([COMMAND, "pii", "scan"], input=TEXT.encode(), capture_output=True, check=False)
    assert done.returncode == 3, done.stderr
    assert time.monotonic() - begin < 20


def test_a_big_file_has_a_bar_on_a_terminal_and_it_leaves_the_findings_alone(tmp_path: Path) -> None:
    (tmp_path / "big.txt").write_text(("word " * 15 + "\n") * 8_000 + "jane@example.com\n")
    main_end, terminal = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "pii", "scan", str(tmp_path / "big.txt")],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "NO_COLOR": "1", "TERM": "xterm"},
    )
    os.close(terminal)
    shown = b""
    try:
        while block := os.read(main_end, 4096):
            shown += block
    except OSError:  # Linux says so when the other side is closed
        pass
    out, _ = process.communicate(timeout=60)
    os.close(main_end)
    assert b"scanning" in shown
    assert b"\x1b[3" not in shown  # colours
    assert out.decode().splitlines()[0].split()[:2] == ["EMAIL_ADDRESS", "8001:1"]
    assert process.returncode == 3


# -- pieces ---
ENGINE = Engine(PiiConfig())
BITS = st.sampled_from(
    ["jane@example.com", " ", "\n", "word ", "+44 20 7946 0958", "4111 1111 1111 1111", "x" * 300, "1" * 40, "é,"]
)


@settings(max_examples=60)
@given(st.lists(st.tuples(BITS, st.integers(1, 12)), max_size=60), st.integers(1, 5_000))
def test_pieces_are_the_whole_text_and_a_value_is_found_wherever_it_is_cut(
    bits: list[tuple[str, int]], chunk: int
) -> None:
    text = "".join(bit * times for bit, times in bits)
    joined, found, offset = "", [], 0
    chunks = (text[at : at + chunk] for at in range(0, len(text), chunk))
    for piece, findings in scan_long_text(chunks, ENGINE.scan, 2_500):
        joined += piece
        found += [(each.entity, offset + each.start, offset + each.end) for each in findings]
        assert all(0 <= each.start < each.end <= len(piece) for each in findings)
        offset += len(piece)
    assert joined == text
    # At the edge of a piece what stands beyond 500 characters is not seen: a value may be found more, never less.
    covered = {at for _, start, end in found for at in range(start, end)}
    assert covered >= {at for each in ENGINE.scan(text) for at in range(each.start, each.end)}


def test_a_finding_longer_than_a_piece_is_covered_to_its_end() -> None:
    text = "a" * 100 + "X" * 12_000 + "b" * 100

    def runs(window: str) -> list[Finding]:
        start, end = window.find("X"), window.rfind("X") + 1
        return [Finding("LONG", start, end, 1.0)] if end else []

    covered, offset = 0, 0
    for piece, findings in scan_long_text([text], runs, 2_500):
        covered += sum(piece[each.start : each.end].count("X") for each in findings)
        offset += len(piece)
    assert (covered, offset) == (12_000, len(text))


def test_a_text_that_comes_whole_is_cut_in_time_that_grows_as_it_does() -> None:
    def spent(size: int) -> float:
        text = "a line of a file\n" * (size // 17)
        begin = time.thread_time()
        assert sum(len(piece) for piece, _ in scan_long_text([text], lambda _: [], 2_500)) == len(text)
        return time.thread_time() - begin

    assert min(spent(8_000_000) for _ in range(2)) < 8 * max(spent(2_000_000), 0.01)


def test_a_character_cut_between_two_blocks_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatehouse.guards.pii.long_text._READ", 3)
    for encoding in ("utf-8", "utf-16"):
        raw = "j\u00f6rg \U0001f600 m\u00fcller".encode(encoding)
        file = TextFile(io.BytesIO(raw))
        text = "".join(file)
        assert text.lstrip("\ufeff") == "j\u00f6rg \U0001f600 m\u00fcller"
        assert (file.encode(text), file.strange) == (raw, 0)


def test_it_explains_a_finding(scan: Run) -> None:
    done = scan("-", "--explain", stdin=b"call me, my phone is 555-0123")
    assert done.lines[0].endswith("in prose: label, groups")
    (document,) = map(json.loads, scan("-", "--explain", "--json", stdin=b"phone 555-0123").lines)
    assert (document["kind"], document["evidence"]) == ("prose", ["label", "groups"])
