"""Makes proof files out of the ledger, and checks them with a whole keyring, which says when each key's time was."""

from __future__ import annotations

import json
from uuid import UUID

from gatehouse.capsule.checkpoint import InvalidNote, Verifier, open_checkpoint, origin_of
from gatehouse.capsule.keyring import Epoch, Keyring
from gatehouse.capsule.merkle import inclusion_nodes, inclusion_proof
from gatehouse.capsule.proof import CapsuleProof, Flaw, Part, check_proof
from gatehouse.capsule.stored import StoredCapsule
from gatehouse.core.errors import SetupError
from gatehouse.ledger.store import capsules as db
from gatehouse.ledger.store.checkpoints import checkpoint_over


class NotInLedger(SetupError):
    """The call has no capsule."""


class NotCovered(SetupError):
    """No checkpoint is over the call's capsule yet."""


def prove(connection: db.Connection, keyring: Keyring, call_id: UUID) -> CapsuleProof:
    """The proof of a call's capsule, against the smallest checkpoint over it; checked as its reader will.

    Raises:
        NotInLedger, NotCovered: there is nothing to prove, or nothing to prove it with.
        SetupError: the ledger does not hold together.
    """
    stored = find(connection, call_id)
    sealed = stored.sealed
    covering = checkpoint_over(connection, stored.chain, sealed.sequence + 1)
    if covering is None:
        raise NotCovered(
            f"call {call_id}: no checkpoint covers its capsule yet. `gatehouse audit checkpoint` signs one now."
        )
    size, note = covering
    try:
        nodes = db.tree_nodes(connection, stored.chain, inclusion_nodes(sealed.sequence, size))
        path = inclusion_proof(sealed.sequence, size, nodes)
    except (KeyError, ValueError):
        raise SetupError(
            f"call {call_id}: records of chain {stored.chain!r} are missing. `gatehouse audit verify` says which."
        ) from None
    proof = CapsuleProof(
        sealed.canonical, sealed.hash, sealed.signature, sealed.signed_by, sealed.sequence, tuple(path), note
    )
    finding = check(proof.to_bytes(), keyring)
    if finding is not None:
        raise SetupError(f"call {call_id}: {finding}. `gatehouse audit verify` says what else is wrong.")
    return proof


def find(connection: db.Connection, call_id: UUID) -> StoredCapsule:
    """The call's capsule.

    Raises:
        NotInLedger: it has none.
    """
    stored = db.capsule_of(connection, call_id)
    if stored is None:
        raise NotInLedger(f"call {call_id}: it is not in the ledger. A call is sealed when it has ended.")
    return stored


def check(data: bytes, keyring: Keyring) -> Flaw | None:
    """What is wrong with a proof file, if anything: as `check_proof`, and no key may have signed after its time."""
    chain = _chain_of(data)
    finding = check_proof(data, _verifiers(chain, keyring.epochs))
    if finding is not None:
        return finding
    proof = CapsuleProof.parse(data)
    epoch = keyring.find(proof.signed_by)
    if epoch is None or not keyring.allows(epoch, chain, proof.index):
        return Flaw(Part.SIGNATURE, f"key {proof.signed_by} was not the one to sign record {proof.index}")
    size = open_checkpoint(proof.checkpoint, _verifiers(chain, keyring.epochs)).size
    in_time = [epoch for epoch in keyring.epochs if not keyring.has_retired(epoch, chain, size - 1)]
    try:
        open_checkpoint(proof.checkpoint, _verifiers(chain, in_time))
    except InvalidNote:
        return Flaw(Part.CHECKPOINT, f"its key was retired before there were {size} records")
    return None


def _verifiers(chain: str, epochs: tuple[Epoch, ...] | list[Epoch]) -> list[Verifier]:
    return [Verifier(origin_of(chain), epoch.public_key) for epoch in epochs]


def _chain_of(data: bytes) -> str:
    """The chain that the capsule in a proof file names; `check_proof` says what is wrong with one that names none."""
    try:
        chain = json.loads(CapsuleProof.parse(data).canonical)["domain"]
        origin_of(chain)
        return str(chain)
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
