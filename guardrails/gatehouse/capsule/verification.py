"""Verifies a chain as a whole: its records, the Merkle tree over them, every checkpoint of it, and where it ends.

Promises: everything is read once and in order; what is wrong first is what is named; a cut-off tail is found when a
checkpoint, or the chain's head, speaks of records that are not there. No I/O here: `inspection` brings the rows.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote

from gatehouse.capsule.checkpoint import Checkpoint, InvalidNote, Verifier, open_checkpoint, origin_of
from gatehouse.capsule.keyring import Keyring
from gatehouse.capsule.merkle import Frontier, subtrees
from gatehouse.capsule.seal import GENESIS, Fault, Head, head_behind
from gatehouse.capsule.segments import verified
from gatehouse.capsule.stored import ChainEnd, StoredCapsule
from gatehouse.core.errors import SetupError


class LedgerProblem(StrEnum):
    """What can be wrong with a ledger beyond a single record."""

    TAIL_CUT_OFF = "tail cut off"
    WRONG_SUBTREES = "wrong subtree hashes"
    WRONG_CHECKPOINT = "wrong checkpoint"
    WRONG_HEAD = "wrong head"
    CALL_WITHOUT_CAPSULE = "call without a capsule"
    CAPSULE_WITHOUT_CALL = "capsule without a call"
    LINE_WITHOUT_RECORD = "line without a record"
    LINE_OF_ANOTHER_RECORD = "line of another record"
    RECORD_WITHOUT_LINE = "record without a line"
    MALFORMED_LINE = "malformed line"


@dataclass(frozen=True, slots=True)
class LedgerFinding:
    """What is wrong, and where. As text it is one sentence.

    Attributes:
        sequence: of the first record concerned, when it is known.
        capsule_id: what that record calls itself.
    """

    problem: Fault | LedgerProblem
    detail: str
    sequence: int | None = None
    capsule_id: str | None = None

    def __str__(self) -> str:
        who = f" ({self.capsule_id})" if self.capsule_id else ""
        where = "" if self.sequence is None else f"record {self.sequence}{who}: "
        return f"{where}{self.problem}: {self.detail}"


class Broken(Exception):
    """Carries the first finding out of the walk."""

    def __init__(self, problem: LedgerProblem, detail: str, sequence: int | None = None, capsule_id: str | None = None):
        super().__init__(detail)
        self.finding = LedgerFinding(problem, detail, sequence, capsule_id)


@dataclass(frozen=True, slots=True)
class Note:
    """A checkpoint as it was found.

    Attributes:
        size: leaves, as its place says; where the place says nothing, as the note says.
        source: where it was found, for a person.
    """

    size: int
    source: str
    data: bytes


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What became of one chain.

    Attributes:
        chain: its name; None for an export whose records were not asked to be of one.
        records: how many verified.
        head: where they lead.
        checkpoints: at how many sizes there was one, which was right.
        finding: what is wrong first; None when all of it verified.
        root: of the Merkle tree over those that verified, where they begin with the chain's first.
    """

    chain: str | None
    records: int
    head: Head
    checkpoints: int
    finding: LedgerFinding | None
    root: bytes | None


def verify(
    records: Iterable[StoredCapsule],
    keyring: Keyring,
    *,
    chain: str | None,
    notes: Sequence[Iterable[Note]] = (),
    end: ChainEnd | None = None,
    start: Head = GENESIS,
    stored_tree: bool = True,
    progress: Callable[[int], None] = lambda _: None,
    workers: int | None = None,
) -> ChainReport:
    """Walk the chain from its first record to its last.

    Args:
        chain: its name, which every record must say; None takes any, and no notes.
        notes: checkpoints of the chain, each iterable by rising size.
        end: what the chain's writers noted of its end; None where nothing is known of that.
        start: what the first record follows, taken on trust; the tree can only be rebuilt from the first.
        stored_tree: whether records and end bring what is stored of the tree, to be compared.
        progress: told how many more records verified.
        workers: as `segments.verified` takes it.
    """
    walk = Walk(chain, keyring, heapq.merge(*notes, key=lambda note: note.size), start, stored_tree)
    finding: LedgerFinding | None = None
    try:
        walk.check_notes()
        for segment in verified(records, keyring, chain, start, workers=workers):
            walk.take(segment.records)
            progress(len(segment.records))
            if segment.broken is not None:
                broken = segment.broken
                finding = LedgerFinding(broken.fault, broken.detail, broken.sequence, broken.capsule_id)
                break
        else:
            walk.finish()
            if end is not None:
                walk.compare(end)
    except Broken as broken_end:
        finding = broken_end.finding
    root = walk.frontier.root() if start == GENESIS else None
    return ChainReport(chain, walk.records, walk.head, walk.checkpoints, finding, root)


class Walk:
    """How far the walk has come; `frontier` is the tree over everything before."""

    def __init__(
        self, chain: str | None, keyring: Keyring, notes: Iterator[Note], start: Head, stored_tree: bool
    ) -> None:
        self.records = 0
        self.head = start
        self.frontier = Frontier()
        self.checkpoints = 0
        self._keyring = keyring
        self._notes = notes
        self._verifiers = [Verifier(origin_of(chain), epoch.public_key) for epoch in keyring.epochs] if chain else []
        self._has_tree = start == GENESIS
        self._stored_tree = stored_tree
        self._compared_through = -1
        self._last: Note | None = None
        self._note: Note | None = next(notes, None)

    def take(self, records: list[StoredCapsule]) -> None:
        """Go over records that verified, and stop at every checkpoint between them."""
        while records:
            upto = len(records)
            if self._note is not None and self._has_tree:
                upto = min(upto, self._note.size - self.frontier.size)
            part, records = records[:upto], records[upto:]
            if self._has_tree:
                self._grow(part)
            self.records += len(part)
            self.head = head_behind(part[-1].sealed, self._keyring)
            self.check_notes()

    def check_notes(self) -> None:
        """Compare the checkpoints over exactly what was walked."""
        while self._has_tree and self._note is not None and self._note.size <= self.frontier.size:
            self._compare(self._note)
            self._last, self._note = self._note, next(self._notes, None)

    def finish(self) -> None:
        """There are no more records: no checkpoint may speak of more."""
        if self._note is not None and self._has_tree:
            self._open(self._note)
            raise Broken(
                LedgerProblem.TAIL_CUT_OFF,
                f"{self._note.source} is over {self._note.size} records, {self.frontier.size} are there",
                self.frontier.size,
            )

    def compare(self, end: ChainEnd) -> None:
        """Compare the end of the walk with what the chain's writers noted."""
        if end.size != self.records:
            detail = f"the head that its writers noted speaks of {end.size} records, {self.records} are there"
            if end.size > self.records:
                raise Broken(LedgerProblem.TAIL_CUT_OFF, detail, self.records)
            raise Broken(LedgerProblem.WRONG_HEAD, detail, end.size or None)  # 0 where the head is gone
        # A rotation notes its key there before that key signs.
        signer = None if end.signed_by is None else self._keyring.find(end.signed_by)
        for name, right in (
            ("hash", end.hash == self.head.hash),
            ("frontier", not self._stored_tree or end.frontier == self.frontier.to_bytes()),
            ("signed_by", signer.number >= self.head.epoch if signer else end.signed_by is None and not end.size),
        ):
            if not right:
                raise Broken(LedgerProblem.WRONG_HEAD, f"{name} of the noted head is not what the records lead to")

    def _grow(self, part: list[StoredCapsule]) -> None:
        self.frontier, nodes = self.frontier.append(bytes.fromhex(record.sealed.hash) for record in part)
        if not self._stored_tree:
            return
        for record in part:
            sealed = record.sealed
            if record.subtrees != subtrees(sealed.sequence, nodes):
                raise Broken(
                    LedgerProblem.WRONG_SUBTREES,
                    "the Merkle tree's nodes stored with it are not those over the records up to it",
                    sealed.sequence,
                    sealed.id,
                )

    def _compare(self, note: Note) -> None:
        if self._last is not None and (note.size, note.data) == (self._last.size, self._last.data):
            return  # in the table, in the folder, kept by somebody: the same
        size, root = self._open(note)
        if root != self.frontier.root():
            raise Broken(
                LedgerProblem.WRONG_CHECKPOINT,
                f"{note.source} has root {root.hex()}; the records there make {self.frontier.root().hex()}: "
                f"from {max(self._compared_through, 0)} to {size - 1} they are not what they were when it was signed",
            )
        self.checkpoints += size != self._compared_through
        self._compared_through = size

    def _open(self, note: Note) -> tuple[int, bytes]:
        try:
            checkpoint = open_checkpoint(note.data, self._verifiers)
        except InvalidNote as error:
            raise Broken(LedgerProblem.WRONG_CHECKPOINT, f"{note.source}: {error}") from None
        if checkpoint.size != note.size:
            raise Broken(
                LedgerProblem.WRONG_CHECKPOINT, f"{note.source}: it is over {checkpoint.size} records, not {note.size}"
            )
        return checkpoint.size, checkpoint.root


_ORIGIN = origin_of("")


def notes_by_chain(given: Iterable[Note]) -> dict[str, list[Note]]:
    """Group checkpoints by the chain that each says it is of, by rising size.

    Raises:
        SetupError: one is of another program's log.
    """
    chains: dict[str, list[Note]] = {}
    for note in sorted(given, key=lambda note: note.size):
        chains.setdefault(chain_of(note), []).append(note)
    return chains


def chains_to_verify(known: Collection[str], chain: str | None) -> list[str]:
    """Return all chains by name, or the one that is asked for.

    Raises:
        SetupError: there is no such chain.
    """
    if chain not in (None, *known):
        there = ", ".join(sorted(known)) or "none yet"
        raise SetupError(f"chain {chain!r}: there is no such chain. There are: {there}.")
    return sorted(known) if chain is None else [chain]


def chain_of(note: Note) -> str:
    """The chain that a checkpoint says it is of.

    Raises:
        SetupError: it is of another program's log.
    """
    origin = unverified(note.data).origin
    if not origin.startswith(_ORIGIN):
        raise SetupError(f"{note.source}: it is a checkpoint of {origin!r}, no chain of Gatehouse. Name another file.")
    return unquote(origin.removeprefix(_ORIGIN))


def unverified(data: bytes) -> Checkpoint:
    """What a note's text says.

    Raises:
        InvalidNote: it is not the text of a checkpoint.
    """
    try:
        text, _, _ = data.decode().rpartition("\n\n")
    except UnicodeDecodeError:
        raise InvalidNote("it is not UTF-8") from None
    return Checkpoint.parse(text + "\n")
