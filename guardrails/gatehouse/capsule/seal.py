"""Sealing capsules into a chain, and finding the first record of a chain that somebody changed.

Capsule Protocol Specification 1.0, sections 3 and 4: SHA3-256 over the canonical bytes, Ed25519 over the 64 hex
characters of the hash, previous_hash linking each record to the one before. Pure: no clock, no database.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha3_256
from typing import Any, Final, NoReturn

from gatehouse.capsule.canonical import NotCanonical, canonical, parse
from gatehouse.capsule.keyring import Epoch, Keyring
from gatehouse.capsule.keys import Signer

# Where a capsule says when it was sealed: the protocol leaves signed_at outside the hash, where anybody may change it.
SEALED_AT: Final = "sealed_at"
# bytes.fromhex reads capitals and spaces too; the protocol writes neither.
_SIGNATURE: Final = re.compile("[0-9a-f]{128}")


@dataclass(frozen=True, slots=True)
class SealedCapsule:
    """One record of a chain as it is stored: the signed bytes, and columns that repeat what they say.

    Attributes:
        canonical: the bytes that were hashed; the truth that every other field is checked against.
        hash: SHA3-256 of `canonical`, 64 lower-case hex characters.
        signature: Ed25519 over the characters of `hash`, 128 lower-case hex characters.
        signed_by: name of the key in the keyring.
    """

    id: str
    sequence: int
    previous_hash: str | None
    canonical: bytes
    hash: str
    signature: str
    signed_by: str
    signed_at: datetime


class Fault(StrEnum):
    """What can be wrong with a record."""

    MALFORMED = "malformed record"
    HASH_MISMATCH = "hash mismatch"
    NOT_CANONICAL = "not canonical"
    COLUMN_MISMATCH = "column mismatch"
    WRONG_CHAIN = "wrong chain"
    GAP = "gap"
    DUPLICATE = "duplicate"
    SWAPPED = "swapped"
    WRONG_PREVIOUS_HASH = "wrong previous_hash"
    UNKNOWN_KEY = "unknown key"
    KEY_OUTSIDE_EPOCH = "key outside its epoch"
    BAD_SIGNATURE = "bad signature"


@dataclass(eq=False)
class BrokenChain(Exception):
    """The first record of a chain that does not verify.

    Attributes:
        fault: what is wrong.
        sequence: where in the chain; every record before it verified.
        capsule_id: what the record found there calls itself.
        detail: one clause that says what was found and what belongs there.
    """

    fault: Fault
    sequence: int
    capsule_id: str | None
    detail: str

    def __str__(self) -> str:
        return f"record {self.sequence} ({self.capsule_id or 'no id'}): {self.fault}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Head:
    """A place in a chain: after the record with this sequence and hash. `epoch` is that of its key, if known."""

    sequence: int = -1
    hash: str | None = None
    epoch: int = -1


GENESIS: Final = Head()


def seal(
    document: Mapping[str, Any], *, sequence: int, previous_hash: str | None, signer: Signer, at: datetime
) -> SealedCapsule:
    """Give a capsule its place in the chain and sign it. `document` is left as it is.

    Args:
        document: a capsule as `gatehouse.capsule.document` makes it.
        previous_hash: hash of the record at `sequence - 1`; None for the first.
        at: when it is sealed, with a time zone; kept in the signed bytes too.

    Raises:
        NotCanonical: the protocol does not allow the document.
    """
    context, at = document["context"], at.astimezone(UTC)
    data = canonical(
        {
            **document,
            "sequence": sequence,
            "previous_hash": previous_hash,
            "context": {**context, "environment": {**context["environment"], SEALED_AT: at.isoformat()}},
        }
    )
    digest = sha3_256(data).hexdigest()
    return SealedCapsule(
        id=document["id"],
        sequence=sequence,
        previous_hash=previous_hash,
        canonical=data,
        hash=digest,
        signature=signer.sign(digest.encode()).hex(),
        signed_by=signer.signed_by,
        signed_at=at,
    )


def verify_next(
    row: SealedCapsule,
    keyring: Keyring,
    head: Head,
    *,
    chain: str | None = None,
    following: SealedCapsule | None = None,
) -> Head:
    """Verify the record after `head`; `following` only helps to tell a swapped record from a missing one.

    Raises:
        BrokenChain: it is not what belongs there.
    """
    document = _verify_record(row, head.sequence + 1)
    _verify_place(row, head, following)
    if chain is not None and document["domain"] != chain:
        _fail(Fault.WRONG_CHAIN, row, f"it belongs to chain {document['domain']!r}, not {chain!r}")
    return Head(row.sequence, row.hash, _verify_signature(row, keyring, document["domain"], head).number)


def head_behind(row: SealedCapsule, keyring: Keyring) -> Head:
    """The place in the chain after a record, as the record presents itself."""
    epoch = keyring.find(row.signed_by)
    return Head(row.sequence, row.hash, epoch.number if epoch else -1)


def _verify_record(row: SealedCapsule, expected: int) -> dict[str, Any]:
    """The record against itself: hash, form, and each column against the bytes."""
    if sha3_256(row.canonical).hexdigest() != row.hash:
        _fail(Fault.HASH_MISMATCH, row, "its bytes do not have the hash beside them", expected)
    try:
        document = parse(row.canonical)
    except NotCanonical as error:
        _fail(Fault.NOT_CANONICAL, row, str(error), expected)
    environment = document["context"]["environment"]
    sealed_at = _time(environment[SEALED_AT]) if SEALED_AT in environment else row.signed_at
    for name, stored, said in (
        ("id", row.id, document["id"]),
        ("sequence", row.sequence, document["sequence"]),
        ("previous_hash", row.previous_hash, document["previous_hash"]),
        ("signed_at", row.signed_at, sealed_at),
    ):
        if stored != said:
            _fail(Fault.COLUMN_MISMATCH, row, f"{name} is stored as {stored}, the signed bytes say {said}", expected)
    return document


def _verify_place(row: SealedCapsule, head: Head, following: SealedCapsule | None) -> None:
    expected = head.sequence + 1
    if row.sequence < expected:
        _fail(Fault.DUPLICATE, row, f"sequence {row.sequence} was there before", expected)
    if row.sequence > expected:
        # Whoever takes records out leaves a sequence that only rises.
        if following is not None and following.sequence <= row.sequence:
            _fail(Fault.SWAPPED, row, f"sequence {row.sequence} stands in its place", expected)
        _fail(Fault.GAP, row, f"it is missing; the next record is {row.sequence}", expected)
    if row.previous_hash != head.hash:
        _fail(Fault.WRONG_PREVIOUS_HASH, row, f"it follows {row.previous_hash}, the record before is {head.hash}")


def _verify_signature(row: SealedCapsule, keyring: Keyring, chain: str, head: Head) -> Epoch:
    epoch = keyring.find(row.signed_by)
    if epoch is None:
        _fail(Fault.UNKNOWN_KEY, row, f"signed by {row.signed_by}, which the keyring does not hold")
    if epoch.number < head.epoch or not keyring.allows(epoch, chain, row.sequence):
        _fail(Fault.KEY_OUTSIDE_EPOCH, row, f"key {epoch.number} ({epoch.name}) was not the one to sign here")
    signed = _SIGNATURE.fullmatch(row.signature) and epoch.verifies(row.hash.encode(), bytes.fromhex(row.signature))
    if not signed:
        _fail(Fault.BAD_SIGNATURE, row, f"key {epoch.number} ({epoch.name}) did not sign this hash")
    return epoch


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _fail(fault: Fault, row: SealedCapsule, detail: str, sequence: int | None = None) -> NoReturn:
    raise BrokenChain(fault, row.sequence if sequence is None else sequence, row.id, detail)
