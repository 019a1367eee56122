"""Brings everything that is known of the ledger together and has it verified: tables, checkpoint files, exports.

What a gateway writes while this reads is left out, never half seen: the folder is listed before the database's moment.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from gatehouse.capsule.checkpoint import InvalidNote
from gatehouse.capsule.export import read_json
from gatehouse.capsule.keyring import Keyring
from gatehouse.capsule.merkle import Frontier
from gatehouse.capsule.seal import GENESIS, BrokenChain, Head, SealedCapsule
from gatehouse.capsule.stored import FIRST, LAST, ChainEnd, StoredCapsule
from gatehouse.capsule.verification import (
    ChainReport,
    LedgerFinding,
    LedgerProblem,
    Note,
    chain_of,
    chains_to_verify,
    notes_by_chain,
    unverified,
    verify,
)
from gatehouse.core.errors import SetupError
from gatehouse.ledger.log_comparison import LogFile, LogReport, Records, compare
from gatehouse.ledger.store import capsules as db
from gatehouse.ledger.store.checkpoints import checkpoints_after
from gatehouse.ledger.witness_folder import LATEST, SUFFIX, WitnessFolder


class Progress:
    """Told how it goes; does nothing by itself."""

    def expect(self, records: int) -> None:
        """So many records will be read."""

    def expect_log(self, size: int) -> None:
        """After the records, so many bytes of the audit log will be read."""

    def advance(self, count: int) -> None:
        """So many more have verified, or were read."""


QUIET = Progress()


@dataclass(frozen=True, slots=True)
class CallsReport:
    """The two tables against each other: findings, none when each call has its capsule and each capsule its call."""

    findings: tuple[LedgerFinding, ...]


def verify_ledger(
    database_url: str,
    checkpoint_dir: Path,
    keyring: Keyring,
    *,
    chain: str | None = None,
    given: Sequence[Note] = (),
    log: Sequence[LogFile] | None = None,
    progress: Progress = QUIET,
) -> Iterator[ChainReport | CallsReport | LogReport]:
    """Verify every chain, or one, against all that speaks of it; then, for every chain, calls against capsules, and
    the audit log against both.

    Args:
        given: checkpoints that somebody kept outside, as `read_note` reads them.
        log: the audit log's files, opened before this is called; None where there are none to compare.

    Raises:
        SetupError: it cannot be read, or there is no such chain.
    """
    kept = notes_by_chain(given)
    for note in given:
        if chain not in (None, chain_of(note)):
            raise SetupError(f"{note.source}: it is of chain {chain_of(note)!r}. Leave out --chain, or this file.")
    listed = _folders(checkpoint_dir)
    with db.reading(database_url) as connection:
        stored = db.chain_names(connection)
        folders = _by_chain(listed, checkpoint_dir, {*stored, *kept})
        names = chains_to_verify({*stored, *folders, *kept}, chain)
        nothing = Frontier().to_bytes()
        ends = {name: db.head_of(connection, name) or ChainEnd(name, frontier=nothing) for name in names}
        progress.expect(sum(end.size for end in ends.values()))
        for name, end in ends.items():
            yield verify(
                db.capsules(connection, name),
                keyring,
                chain=name,
                notes=[
                    _stored_notes(connection, name),
                    *(folder.notes() for folder in folders.get(name, ())),
                    kept.get(name, []),
                ],
                end=end,
                progress=progress.advance,
            )
        if chain is None:
            yield _calls(connection)
        if log is not None:
            progress.expect_log(sum(os.fstat(each.file.fileno()).st_size for each in log))
            records = Records(partial(db.recorded, connection), partial(db.recorded_by, connection))
            yield compare(log, records, {key.name for key in keyring.epochs}, chain=chain, progress=progress.advance)


def verify_export(
    file: BinaryIO,
    keyring: Keyring,
    *,
    chain: str | None = None,
    given: Sequence[Note] = (),
    first: int = 0,
    progress: Progress = QUIET,
) -> ChainReport:
    """Verify an export of a chain, ours or another program's of the Capsule Protocol.

    Args:
        chain: what every record must say; the chain of the given checkpoints when there are some.
        first: where the file begins; what came before is taken on trust, and checkpoints cannot be compared.

    Raises:
        SetupError: the checkpoints are not all of that chain, or not to be compared.
    """
    named = {chain_of(note) for note in given} | ({chain} if chain is not None else set())
    if len(named) > 1:
        raise SetupError(f"checkpoints: they are of {', '.join(sorted(named))}. Verify one chain at a time.")
    if given and first:
        raise SetupError("checkpoints: only a chain from its first record can be compared with them. Leave out --from.")
    reader = _Reader(file, first)
    return reader.report(
        verify(
            reader,
            keyring,
            chain=named.pop() if named else None,
            notes=[sorted(given, key=lambda note: note.size)],
            start=reader.start(),
            stored_tree=False,
            progress=progress.advance,
        )
    )


def knows(database_url: str, checkpoint_dir: Path, chain: str) -> bool:
    """Whether anything speaks of that chain.

    Raises:
        SetupError: as `verify_ledger`.
    """
    listed = _folders(checkpoint_dir)
    with db.reading(database_url) as connection:
        names = db.chain_names(connection)
    return chain in names or chain in _by_chain(listed, checkpoint_dir, set(names))


def read_note(path: Path) -> Note:
    """A checkpoint file, as somebody kept it; nothing of it is verified.

    Raises:
        SetupError: it is not there, or not a checkpoint.
    """
    try:
        data = path.read_bytes()
        return Note(unverified(data).size, str(path), data)
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}. Name a file that can be read.") from None
    except InvalidNote as error:
        raise SetupError(f"{path}: it is not a checkpoint ({error}). Name a file that a gateway signed.") from None


class CheckpointFolder:
    """The checkpoints of one chain in the folder that witnesses collect, as they are now.

    Attributes:
        path: of the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self._sizes = array("q")
        for path in folder.iterdir():
            if path.suffix == SUFFIX and path.stem.isdecimal() and len(path.stem) == 20:
                self._sizes.append(min(int(path.stem), LAST))
        self._sizes = array("q", sorted(self._sizes))
        latest = folder / LATEST
        self._latest = latest.read_bytes() if latest.exists() else None

    def notes(self) -> Iterator[Note]:
        """Every checkpoint, by size."""
        latest = self._latest_note()
        for size in self._sizes:
            if latest is not None and latest.size <= size:
                yield latest
                latest = None
            path = self.path / f"{size:020}{SUFFIX}"
            try:
                yield Note(size, str(path), path.read_bytes())
            except OSError as error:
                raise SetupError(f"{path}: {error.strerror}. Let this user read the checkpoints.") from None
        if latest is not None:
            yield latest

    def _latest_note(self) -> Note | None:
        if self._latest is None:
            return None
        try:
            size = unverified(self._latest).size
        except InvalidNote:
            size = 0  # the walk opens it first of all, and says what is wrong
        return Note(size, str(self.path / LATEST), self._latest)


class _Reader:
    """The records of an export; where one cannot be read, the file ends, and the report says why."""

    def __init__(self, file: BinaryIO, first: int) -> None:
        self._rows = read_json(file)
        self._first = first
        self._broken: BrokenChain | None = None
        self._next = self._read()

    def start(self) -> Head:
        if self._first == 0 or self._next is None:
            return GENESIS
        return Head(self._first - 1, self._next.previous_hash)

    def __iter__(self) -> Iterator[StoredCapsule]:
        while self._next is not None:
            row, self._next = self._next, self._read()
            yield StoredCapsule("", row)

    def report(self, report: ChainReport) -> ChainReport:
        """What the walk found, unless the file could not be read before."""
        broken, found = self._broken, report.finding
        if broken is None or (found is not None and found.problem is not LedgerProblem.TAIL_CUT_OFF):
            return report
        return replace(
            report, finding=LedgerFinding(broken.fault, broken.detail, report.head.sequence + 1, broken.capsule_id)
        )

    def _read(self) -> SealedCapsule | None:
        try:
            return next(self._rows, None)
        except BrokenChain as error:
            self._broken = error
            return None


def _folders(checkpoint_dir: Path) -> list[CheckpointFolder]:
    try:
        return [CheckpointFolder(folder) for folder in sorted(checkpoint_dir.iterdir()) if folder.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SetupError(f"{error.filename}: {error.strerror}. Let this user read the checkpoints.") from None


def _by_chain(folders: list[CheckpointFolder], directory: Path, known: set[str]) -> dict[str, list[CheckpointFolder]]:
    """Whose checkpoints lie in which folder: as the folder is called, or else as the first that can be read says."""
    witness = WitnessFolder(directory)
    names = {witness.folder(chain): chain for chain in known}
    found: dict[str, list[CheckpointFolder]] = {}
    for folder in folders:
        chain = names.get(folder.path)
        for note in folder.notes() if chain is None else ():
            try:
                chain = chain_of(note)
                break
            except (SetupError, InvalidNote):
                chain = unquote(folder.path.name)
        if chain is not None:
            found.setdefault(chain, []).append(folder)
    return found


def _stored_notes(connection: db.Connection, chain: str) -> Iterator[Note]:
    for size, data in checkpoints_after(connection, chain, FIRST):
        yield Note(size, f"the stored checkpoint of {size}", data)


def _calls(connection: db.Connection) -> CallsReport:
    findings = []
    for problem, count_of, what in (
        (LedgerProblem.CALL_WITHOUT_CAPSULE, db.calls_without_capsule, "settled calls are not in the ledger"),
        (LedgerProblem.CAPSULE_WITHOUT_CALL, db.capsules_without_call, "capsules are of no settled call"),
    ):
        count, first = count_of(connection)
        if count:
            findings.append(LedgerFinding(problem, f"{count} {what}, the first is {first}", None, str(first)))
    return CallsReport(tuple(findings))
