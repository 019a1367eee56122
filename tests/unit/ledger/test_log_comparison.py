"""The audit log is compared with the ledger: what one of them does not have is found, what is under way is not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from gatehouse.capsule.verification import LedgerFinding, LedgerProblem
from gatehouse.core.errors import SetupError
from gatehouse.ledger.audit_line import with_capsule
from gatehouse.ledger.audit_log import FILE_NAME, AuditLog, encode
from gatehouse.ledger.log_comparison import MAX_LINE, LogReport, Records, compare, opened
from gatehouse.ledger.store.capsules import RecordedCall

ANNA, BERT = UUID(int=1), UUID(int=2)
KEY = "a" * 64


def record(number: int, gateway: UUID = ANNA, chain: str = "calls") -> RecordedCall:
    """Return the record with that sequence, which its gateway settled in this order."""
    return RecordedCall(chain, number, str(UUID(int=1000 + number)), f"{number:064x}", str(gateway), 10 * number)


def line(of: RecordedCall, writer: UUID | None = ANNA, key: str = KEY) -> dict[str, Any]:
    """Return the line about that record; older lines name neither their gateway nor a key."""
    data = {"call_id": of.id, "status": "success"}
    told = {"timestamp": "2026-01-01T00:00:00+00:00", "event_type": "chat_completion_success", "data": data}
    told = with_capsule(told, writer or ANNA, of.chain, of.sequence, of.hash, key)
    if writer is None:
        del told["data"]["gateway"], told["data"]["capsule"]["signed_by"]
    return told


class Ledger:
    """Holds records in memory, and counts how many were asked for."""

    def __init__(self, records: Iterable[RecordedCall]) -> None:
        self._records = {(each.chain, each.sequence): each for each in records}
        self.looked_up = 0
        self.walked = 0

    @property
    def records(self) -> Records:
        return Records(self._find, self._settled)

    def _find(self, chain: str, sequences: Sequence[int]) -> list[RecordedCall]:
        self.looked_up += len(sequences)
        return [self._records[chain, each] for each in sequences if (chain, each) in self._records]

    def _settled(self, gateway: str, after: int, before: int) -> Iterator[RecordedCall]:
        own = (each for each in self._records.values() if each.gateway == gateway and each.settled is not None)
        for each in sorted(own, key=lambda each: each.settled or 0):
            if after < (each.settled or 0) < before:
                self.walked += 1
                yield each


def write(folder: Path, lines: Iterable[dict[str, Any]], name: str = FILE_NAME) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"".join(encode(each) for each in lines))
    return folder / name


def compared(ledger: Iterable[RecordedCall], *paths: Path, chain: str | None = None) -> LogReport:
    with opened(paths) as files:
        return compare(files, Ledger(ledger).records, {KEY}, chain=chain)


def problems(report: LogReport) -> list[tuple[LedgerProblem, int | None]]:
    assert all(isinstance(each.problem, LedgerProblem) for each in report.findings)
    return [(LedgerProblem(each.problem), each.sequence) for each in report.findings]


def only(report: LogReport) -> LedgerFinding:
    (finding,) = report.findings
    return finding


@pytest.fixture
def ledger() -> list[RecordedCall]:
    return [record(number) for number in range(12)]


def test_a_log_whose_lines_are_all_of_records_agrees(tmp_path: Path, ledger: list[RecordedCall]) -> None:
    path = write(tmp_path, map(line, ledger))
    assert compared(ledger, path) == compared(ledger, tmp_path) == LogReport(12)


def test_the_newest_records_that_were_erased_are_named(tmp_path: Path, ledger: list[RecordedCall]) -> None:
    write(tmp_path, map(line, ledger))
    finding = only(compared(ledger[:9], tmp_path))
    assert (finding.problem, finding.sequence, finding.capsule_id) == (
        LedgerProblem.LINE_WITHOUT_RECORD,
        9,
        ledger[9].id,
    )
    assert "3 records" in finding.detail
    assert "calls 9-11" in finding.detail
    assert f"{FILE_NAME}, line 10" in finding.detail


@pytest.mark.parametrize("changes", [{"hash": "f" * 64}, {"id": str(UUID(int=5))}], ids=["hash", "call"])
def test_a_record_in_the_place_of_another_is_named(
    tmp_path: Path, ledger: list[RecordedCall], changes: dict[str, str]
) -> None:
    write(tmp_path, map(line, ledger))
    ledger[11] = replace(ledger[11], **changes)  # type: ignore[arg-type]
    assert problems(compared(ledger, tmp_path)) == [(LedgerProblem.LINE_OF_ANOTHER_RECORD, 11)]


def test_lines_that_were_taken_out_are_named_between_others_of_their_gateway(
    tmp_path: Path, ledger: list[RecordedCall]
) -> None:
    lines = [line(each) for each in ledger]
    write(tmp_path, [*lines[:4], *lines[6:]])
    report = compared(ledger, tmp_path)
    assert problems(report) == [(LedgerProblem.RECORD_WITHOUT_LINE, 4)]
    assert "2 records" in only(report).detail
    # What is before the first may have been in a file that is gone, what is after the last may be under way.
    write(tmp_path, lines[3:9])
    assert compared(ledger, tmp_path).findings == ()


def test_what_another_gateway_recorded_has_its_line_elsewhere(tmp_path: Path) -> None:
    ledger = [record(number, (ANNA, BERT)[number % 2]) for number in range(12)]
    write(tmp_path / "anna", [line(each) for each in ledger if each.gateway == str(ANNA)])
    write(tmp_path / "bert", [line(each, BERT) for each in ledger if each.gateway == str(BERT)])
    for folders in (["anna"], ["bert"], ["anna", "bert"]):
        assert compared(ledger, *(tmp_path / each for each in folders)).findings == ()
    write(tmp_path / "anna", [line(each) for each in ledger if each.gateway == str(ANNA) and each.sequence != 4])
    assert problems(compared(ledger, tmp_path / "anna")) == [(LedgerProblem.RECORD_WITHOUT_LINE, 4)]


def test_lines_of_a_dead_gateway_that_another_is_about_to_write_are_under_way(tmp_path: Path) -> None:
    """The other gateway took over calls 2 to 5: the lines of 3 and 5 exist, the dead one did not write the others."""
    ledger = [record(0), record(1), *(record(number, BERT) for number in range(2, 8))]
    write(tmp_path, [*(line(ledger[number]) for number in (0, 1, 3, 5))])
    assert compared(ledger, tmp_path).findings == ()
    write(
        tmp_path, [*(line(ledger[number]) for number in (0, 1, 3, 5)), *(line(ledger[n], BERT) for n in (2, 4, 6, 7))]
    )
    assert compared(ledger, tmp_path).findings == ()


def test_lines_of_before_they_named_their_gateway_are_compared_and_prove_no_gap(
    tmp_path: Path, ledger: list[RecordedCall]
) -> None:
    write(tmp_path, [line(each, None) for each in ledger if each.sequence != 5])
    assert compared(ledger, tmp_path) == LogReport(11)
    assert problems(compared(ledger[:11], tmp_path)) == [(LedgerProblem.LINE_WITHOUT_RECORD, 11)]


def test_lines_that_are_about_no_record_are_passed_over(tmp_path: Path, ledger: list[RecordedCall]) -> None:
    """Such lines are about approvals, about calls while the ledger was away, and older than the ledger."""
    bare = line(ledger[0])
    del bare["data"]["capsule"]
    asked = {"timestamp": "2026-01-01", "event_type": "approval_requested", "data": {"approval_id": "a"}}
    write(tmp_path, [asked, *map(line, ledger), bare])
    assert compared(ledger, tmp_path) == LogReport(12)


def test_a_call_in_flight_is_no_finding(tmp_path: Path, ledger: list[RecordedCall]) -> None:
    """Its record is committed before its line is written; or both came after the log was opened."""
    log = AuditLog(tmp_path, max_bytes=2_000)
    log.append(map(line, ledger[:4]))
    assert compared(ledger[:6], tmp_path).findings == ()
    with opened([tmp_path]) as files:
        for each in ledger[4:]:
            log.append([line(each)])  # the file moves aside meanwhile
        assert (tmp_path / f"{FILE_NAME}.1").exists()
        assert compare(files, Ledger(ledger[:4]).records, {KEY}) == LogReport(4)
    log.close()


@pytest.mark.parametrize("cut", [1, 40, 150])
def test_a_last_line_that_is_not_whole_is_passed_over(tmp_path: Path, ledger: list[RecordedCall], cut: int) -> None:
    path = write(tmp_path, map(line, ledger))
    path.write_bytes(path.read_bytes()[:-cut])
    assert compared(ledger[:11], tmp_path) == LogReport(11)
    # Also where the rest of it, and more, is written later.
    with opened([tmp_path]) as files:
        write(tmp_path / "rest", map(line, ledger))
        with path.open("ab") as file:
            file.write((tmp_path / "rest" / FILE_NAME).read_bytes()[-cut:] + encode(line(record(77))))
        assert compare(files, Ledger(ledger[:11]).records, {KEY}) == LogReport(11)


def test_files_that_moved_aside_are_read_too_also_compressed_ones(tmp_path: Path, ledger: list[RecordedCall]) -> None:
    lines = [line(each) for each in ledger]
    write(tmp_path, lines[9:])
    write(tmp_path, lines[6:9], f"{FILE_NAME}.1")
    (tmp_path / f"{FILE_NAME}.2.gz").write_bytes(gzip.compress(b"".join(map(encode, lines[3:6]))))
    write(tmp_path, lines[:3], f"{FILE_NAME}.3")
    write(tmp_path, [], "another.jsonl")
    assert compared(ledger, tmp_path) == LogReport(12)
    erased = [each for each in ledger if each.sequence not in (1, 4, 7, 11)]
    finding = only(compared(erased, tmp_path))
    assert "calls 1, calls 4, calls 7, calls 11" in finding.detail
    assert problems(compared(erased, tmp_path / f"{FILE_NAME}.2.gz")) == [(LedgerProblem.LINE_WITHOUT_RECORD, 4)]
    # The same file twice is one.
    assert compared(ledger, tmp_path, tmp_path / FILE_NAME) == LogReport(12)


def test_a_line_is_missed_across_two_files_that_follow_each_other_and_not_across_a_gap(
    tmp_path: Path, ledger: list[RecordedCall]
) -> None:
    lines = [line(each) for each in ledger]
    write(tmp_path, lines[7:])
    write(tmp_path, lines[:6], f"{FILE_NAME}.1")
    assert problems(compared(ledger, tmp_path)) == [(LedgerProblem.RECORD_WITHOUT_LINE, 6)]
    assert compared(ledger, tmp_path / FILE_NAME, tmp_path / f"{FILE_NAME}.1").findings == ()
    (tmp_path / f"{FILE_NAME}.1").rename(tmp_path / f"{FILE_NAME}.2")  # somebody took a file away
    assert compared(ledger, tmp_path).findings == ()


def test_one_chain_alone_is_compared_when_it_is_named(tmp_path: Path, ledger: list[RecordedCall]) -> None:
    other = [replace(record(number, chain="calls/research"), settled=10 * number + 5) for number in range(6)]
    lines = [line(each) for each in [*ledger, *other]]
    write(tmp_path, lines)
    assert compared([*ledger, *other], tmp_path) == LogReport(18)
    assert compared([*ledger, *other], tmp_path, chain="calls/research") == LogReport(6)
    assert compared(ledger, tmp_path, chain="calls") == LogReport(12)
    assert problems(compared(ledger, tmp_path)) == [(LedgerProblem.LINE_WITHOUT_RECORD, 0)]


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    told = line(record(3))
    change(told)
    return encode(told)


HOSTILE = {
    "no JSON": b"hello\n",
    "cut and glued": encode(line(record(3)))[:60] + encode(line(record(4))),
    "NUL bytes": b"\0" * 512 + b"\n",
    "not UTF-8": b'{"event_type": "\xff\xfe"}\n',
    "a list": b"[]\n",
    "a number": b"1\n",
    "deep": b"[" * 200_000 + b"\n",
    "a number without end": b'{"event_type": "x", "data": {"capsule": {"sequence": ' + b"9" * 9_999 + b"}}}\n",
    "long": b'{"event_type": "' + b"x" * (3 * MAX_LINE) + b'"}\n',
    "no data": b'{"event_type": "chat_completion_success"}\n',
    "data is a list": b'{"event_type": "x", "data": []}\n',
    "capsule is text": changed(lambda told: told["data"].update(capsule="calls 3")),
    "no chain": changed(lambda told: told["data"]["capsule"].pop("chain")),
    "chain with NUL": changed(lambda told: told["data"]["capsule"].update(chain="calls\0")),
    "chain with half a character": changed(lambda told: told["data"]["capsule"].update(chain="calls\ud800")),
    "sequence is text": changed(lambda told: told["data"]["capsule"].update(sequence="3")),
    "sequence is true": changed(lambda told: told["data"]["capsule"].update(sequence=True)),
    "sequence is a fraction": changed(lambda told: told["data"]["capsule"].update(sequence=3.0)),
    "sequence is below zero": changed(lambda told: told["data"]["capsule"].update(sequence=-1)),
    "sequence is too large": changed(lambda told: told["data"]["capsule"].update(sequence=2**63)),
    "no hash": changed(lambda told: told["data"]["capsule"].update(hash=None)),
    "no call": changed(lambda told: told["data"].update(call_id="3")),
    "key is a list": changed(lambda told: told["data"]["capsule"].update(signed_by=[])),
    "gateway is a number": changed(lambda told: told["data"].update(gateway=3)),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_line_is_named_and_the_others_are_compared(
    tmp_path: Path, ledger: list[RecordedCall], hostile: bytes
) -> None:
    lines = [encode(line(each)) for each in ledger]
    (tmp_path / FILE_NAME).write_bytes(b"".join([*lines[:5], hostile, *lines[5:]]))
    report = compared(ledger, tmp_path)
    assert report.lines == 12
    finding = only(report)
    assert finding.problem == LedgerProblem.MALFORMED_LINE
    assert f"{FILE_NAME}, line 6" in finding.detail
    assert "1 line is" in finding.detail


def test_a_finding_stays_short_however_much_is_wrong(tmp_path: Path) -> None:
    ledger = [record(number) for number in range(3_000)]
    write(tmp_path, map(line, ledger))
    report = compared(ledger[::2], tmp_path)
    assert "1500 records" in only(report).detail
    assert len(str(only(report))) < 1_000
    assert "and more" in only(report).detail


def test_lines_of_an_older_ledger_in_the_same_file_are_no_finding(tmp_path: Path, ledger: list[RecordedCall]) -> None:
    """The installation began anew with other keys, and the log folder stayed."""
    older = [replace(each, hash="e" * 64) for each in [*ledger, record(12)]]
    write(tmp_path, [*(line(each, BERT, "b" * 64) for each in older), *map(line, ledger)])
    assert compared(ledger, tmp_path) == LogReport(12, elsewhere=13)
    # Older lines name no key: those before the first that is right are of another ledger, those after it are not.
    write(tmp_path, [*(line(each, None) for each in older), *(line(each, None) for each in ledger)])
    assert compared(ledger, tmp_path) == LogReport(12, elsewhere=13)
    assert problems(compared(ledger[:11], tmp_path)) == [(LedgerProblem.LINE_WITHOUT_RECORD, 11)]
    # A key that is not known is another ledger's there alone: after lines of this one, records of a newer key are gone.
    later = [record(12), record(13)]
    write(tmp_path, [*map(line, ledger), *(line(each, key="b" * 64) for each in later)])
    assert problems(compared(ledger, tmp_path)) == [(LedgerProblem.LINE_WITHOUT_RECORD, 12)]
    # Each log that is named has a beginning of its own.
    write(tmp_path / "other", [line(each, BERT, "b" * 64) for each in older])
    write(tmp_path, map(line, ledger))
    assert compared(ledger, tmp_path, tmp_path / "other") == LogReport(12, elsewhere=13)
    # Where the keys are the same it is this ledger, of which nothing is left.
    write(tmp_path, map(line, older))
    assert [problem for problem, _ in problems(compared(ledger, tmp_path))] == [
        LedgerProblem.LINE_WITHOUT_RECORD,
        LedgerProblem.LINE_OF_ANOTHER_RECORD,
    ]


def test_a_file_that_is_not_there_or_not_whole_is_an_error(tmp_path: Path, ledger: list[RecordedCall]) -> None:
    with pytest.raises(SetupError, match=r"nothing\.jsonl: No such file"), opened([tmp_path / "nothing.jsonl"]):
        pass
    with pytest.raises(SetupError, match="no audit log is there"), opened([tmp_path]):
        pass
    path = tmp_path / "kept.gz"
    path.write_bytes(gzip.compress(b"".join(encode(line(each)) for each in ledger))[:-20])
    with pytest.raises(SetupError, match=r"kept\.gz"):
        compared(ledger, path)


def test_work_grows_with_the_log_and_no_faster(tmp_path: Path) -> None:
    """The comparison looks a record up once a line, and walks it once where lines are missing, in any order."""
    asked = []
    for count in (2_000, 8_000):
        ledger = Ledger(record(number) for number in range(count))
        shuffled = [record(number * 7919 % count) for number in range(count)]
        write(tmp_path, [line(each) for each in shuffled if each.sequence % 4])
        with opened([tmp_path]) as files:
            compare(files, ledger.records, {KEY})
        asked.append((ledger.looked_up, ledger.walked))
    assert asked == [(1_500, 1_997), (6_000, 7_997)]


def test_progress_is_told_of_every_byte(tmp_path: Path) -> None:
    path = write(tmp_path, (line(record(number)) for number in range(2_500)))
    told: list[int] = []
    with opened([tmp_path]) as files:
        compare(files, Ledger([]).records, {KEY}, progress=told.append)
    assert sum(told) == path.stat().st_size
    assert len(told) == 3
    assert json.loads(path.read_bytes().splitlines()[0])["data"]["gateway"] == str(ANNA)
