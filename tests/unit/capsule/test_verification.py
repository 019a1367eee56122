"""A ledger is verified as a whole: whatever was changed is found and named, the first of it first."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gatehouse.capsule import keys
from gatehouse.capsule.checkpoint import Checkpoint, origin_of, sign_checkpoint
from gatehouse.capsule.document import DEFAULT_CHAIN
from gatehouse.capsule.merkle import Frontier, subtrees
from gatehouse.capsule.seal import GENESIS, Fault, Head
from gatehouse.capsule.segments import verified
from gatehouse.capsule.stored import ChainEnd, StoredCapsule
from gatehouse.capsule.verification import ChainReport, LedgerProblem, Note, verify
from gatehouse.core.errors import SetupError

from tests.support.capsules import AT, capsule, chain

LENGTH = 11


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> keys.Keys:
    return keys.create(tmp_path_factory.mktemp("keys"), AT)


def stored(held: keys.Keys, length: int) -> list[StoredCapsule]:
    sealed = chain(held.signer, (capsule(number) for number in range(length)))
    _, nodes = Frontier().append(bytes.fromhex(row.hash) for row in sealed)
    return [StoredCapsule(DEFAULT_CHAIN, row, subtrees(row.sequence, nodes)) for row in sealed]


@pytest.fixture(scope="module")
def rows(held: keys.Keys) -> list[StoredCapsule]:
    return stored(held, LENGTH)


def note(held: keys.Keys, rows: list[StoredCapsule], size: int, origin: str = origin_of(DEFAULT_CHAIN)) -> Note:
    frontier, _ = Frontier().append(bytes.fromhex(row.sealed.hash) for row in rows[:size])
    signed = Checkpoint(origin, size, frontier.root())
    return Note(size, f"note {size}", sign_checkpoint(signed, held.keyring.active.public_key, held.signer.sign))


def check(held: keys.Keys, rows: list[StoredCapsule], *notes: Note, **options: Any) -> ChainReport:
    return verify(rows, held.keyring, chain=DEFAULT_CHAIN, notes=[notes], **options)


def finds(report: ChainReport, problem: Fault | LedgerProblem, sequence: int | None) -> None:
    assert report.finding is not None
    assert (report.finding.problem, report.finding.sequence) == (problem, sequence), str(report.finding)


def head_of(rows: list[StoredCapsule]) -> ChainEnd:
    frontier, _ = Frontier().append(bytes.fromhex(row.sealed.hash) for row in rows)
    last = rows[-1].sealed
    return ChainEnd(DEFAULT_CHAIN, len(rows), last.hash, last.signed_by, frontier.to_bytes())


def test_a_chain_with_its_tree_checkpoints_and_head_verifies(held: keys.Keys, rows: list[StoredCapsule]) -> None:
    notes = [note(held, rows, size) for size in (0, 1, 4, 4, 7, LENGTH)]
    frontier, _ = Frontier().append(bytes.fromhex(row.sealed.hash) for row in rows)
    report = check(held, rows, *notes, end=head_of(rows))
    assert report == ChainReport(
        DEFAULT_CHAIN, LENGTH, Head(LENGTH - 1, rows[-1].sealed.hash, 0), 5, None, frontier.root()
    )


def test_a_cut_off_tail_is_found_by_any_checkpoint_over_it(held: keys.Keys, rows: list[StoredCapsule]) -> None:
    for size in range(1, LENGTH + 1):
        finds(check(held, rows[: size - 1], note(held, rows, size)), LedgerProblem.TAIL_CUT_OFF, size - 1)


@pytest.mark.parametrize("at", range(LENGTH))
def test_a_changed_node_of_the_tree_is_found_at_its_record(held: keys.Keys, rows: list[StoredCapsule], at: int) -> None:
    for wrong in {rows[at].subtrees + bytes(32), rows[at].subtrees[:-1], rows[at].subtrees[:-1] + b"\0"}:
        if wrong != rows[at].subtrees:
            changed = [*rows[:at], replace(rows[at], subtrees=wrong), *rows[at + 1 :]]
            finds(check(held, changed), LedgerProblem.WRONG_SUBTREES, at)


def test_records_sealed_again_do_not_match_the_checkpoint_of_before(held: keys.Keys, rows: list[StoredCapsule]) -> None:
    kept = [note(held, rows, 4), note(held, rows, 9)]
    rewritten = stored(held, 5) + [StoredCapsule(DEFAULT_CHAIN, row, b"") for row in _other_suffix(held, rows, 5)]
    report = check(held, rewritten, *kept, stored_tree=False)
    finds(report, LedgerProblem.WRONG_CHECKPOINT, None)
    assert report.finding is not None
    assert "note 9" in report.finding.detail
    assert "from 4 to 8" in report.finding.detail
    assert report.checkpoints == 1


def _other_suffix(held: keys.Keys, rows: list[StoredCapsule], at: int) -> Any:
    head = Head(at - 1, rows[at - 1].sealed.hash)
    return chain(held.signer, (capsule(100 + number) for number in range(LENGTH - at)), head)


def test_a_checkpoint_that_is_not_the_ledgers_is_found(
    held: keys.Keys, rows: list[StoredCapsule], tmp_path: Path
) -> None:
    good = note(held, rows, 4)
    thief = keys.create(tmp_path / "thief", AT)
    for wrong in (
        replace(good, data=good.data[:-5] + b"AAA=\n"),
        replace(good, data=good.data.replace(b"\n4\n", b"\n5\n")),
        replace(good, data=b""),
        replace(good, size=5),
        replace(good, size=LENGTH + 5),
        replace(good, size=-1),
        note(thief, rows, 4),
        note(held, rows, 4, origin_of("calls/other")),
    ):
        finds(check(held, rows, wrong), LedgerProblem.WRONG_CHECKPOINT, None)


def test_the_first_wrong_thing_is_named(held: keys.Keys, rows: list[StoredCapsule]) -> None:
    tree = replace(rows[3], subtrees=bytes(64))
    record = replace(rows[5], sealed=replace(rows[5].sealed, hash="0" * 64))
    late = Note(6, "late", b"")
    finds(check(held, [*rows[:3], tree, *rows[4:5], record, *rows[6:]], late), LedgerProblem.WRONG_SUBTREES, 3)
    finds(check(held, [*rows[:5], record, *rows[6:]], late), Fault.HASH_MISMATCH, 5)
    finds(check(held, [*rows[:5], record, *rows[6:]], Note(5, "early", b"")), LedgerProblem.WRONG_CHECKPOINT, None)
    finds(check(held, [*rows[:3], *rows[4:]]), Fault.GAP, 3)


@pytest.mark.parametrize(
    "change",
    [
        lambda head: replace(head, hash="0" * 64),
        lambda head: replace(head, hash=None),
        lambda head: replace(head, frontier=head.frontier[:-1] + b"\0"),
        lambda head: replace(head, frontier=b""),
        lambda head: replace(head, signed_by="f" * 64),
        lambda head: replace(head, signed_by=None),
        lambda head: replace(head, size=LENGTH - 1),
        lambda head: replace(head, frontier=None),
        lambda head: ChainEnd(DEFAULT_CHAIN, frontier=Frontier().to_bytes()),
    ],
)
def test_a_changed_head_is_found(
    held: keys.Keys, rows: list[StoredCapsule], change: Callable[[ChainEnd], ChainEnd]
) -> None:
    report = check(held, rows, end=change(head_of(rows)))
    assert report.finding is not None
    assert report.finding.problem is LedgerProblem.WRONG_HEAD


def test_a_head_that_speaks_of_fewer_names_the_first_record_that_it_leaves_out(
    held: keys.Keys, rows: list[StoredCapsule]
) -> None:
    finds(check(held, rows, end=replace(head_of(rows), size=LENGTH - 1)), LedgerProblem.WRONG_HEAD, LENGTH - 1)
    finds(check(held, rows, end=ChainEnd(DEFAULT_CHAIN)), LedgerProblem.WRONG_HEAD, None)


def test_a_head_that_speaks_of_more_is_a_cut_off_tail(held: keys.Keys, rows: list[StoredCapsule]) -> None:
    finds(check(held, rows[:-2], end=head_of(rows)), LedgerProblem.TAIL_CUT_OFF, LENGTH - 2)
    finds(check(held, [], end=head_of(rows)), LedgerProblem.TAIL_CUT_OFF, 0)


def test_an_empty_chain_verifies(held: keys.Keys) -> None:
    end = ChainEnd(DEFAULT_CHAIN, frontier=Frontier().to_bytes())
    assert check(held, [], end=end).finding is None


def test_a_part_of_a_chain_follows_what_it_is_trusted_to_follow(held: keys.Keys, rows: list[StoredCapsule]) -> None:
    start = Head(3, rows[3].sealed.hash)
    assert check(held, rows[4:], start=start).records == LENGTH - 4
    finds(check(held, rows[5:], start=start), Fault.GAP, 4)


@pytest.mark.parametrize("broken_at", [None, 0, 99, 100, 101, 250, 299, 349])
def test_many_processes_find_what_one_finds(held: keys.Keys, broken_at: int | None) -> None:
    rows = stored(held, 350)
    if broken_at is not None:
        rows[broken_at] = replace(rows[broken_at], sealed=replace(rows[broken_at].sealed, signature="0" * 128))
    alone, together = (check(held, rows, note(held, rows, 120), workers=workers) for workers in (0, 2))
    assert alone == together
    assert alone.records == (350 if broken_at is None else broken_at)


def test_a_verification_whose_helper_is_killed_says_so(held: keys.Keys) -> None:
    rows = stored(held, 900)
    found = verified(rows, held.keyring, DEFAULT_CHAIN, GENESIS, workers=2)
    next(found)
    for process in multiprocessing.active_children():
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(SetupError, match="one of its processes was ended"):
        list(found)
    assert multiprocessing.active_children() == []
