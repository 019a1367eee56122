"""What the ledger says of a call that a page shows: its capsule is really verified, and compared with what is shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from gatehouse.capsule.keyring import Keyring, read_keyring
from gatehouse.capsule.seal import BrokenChain, Head, verify_next
from gatehouse.console.queries import StoredCall
from gatehouse.core.errors import SetupError
from gatehouse.ledger.prover import prove
from gatehouse.ledger.store import capsules as db


@dataclass(frozen=True, slots=True)
class Badge:
    """What the console says of a call's record, and whether it can be believed.

    Attributes:
        state: `verified`, `open` while the call is under way, or `broken`.
        said: one sentence.
    """

    state: str
    said: str


_OPEN = Badge("open", "The call is under way. It is sealed when it has ended.")


def badges(connection: db.Connection, keyring_path: Path, calls: Sequence[StoredCall]) -> dict[UUID, Badge]:
    """Return a badge for each call: its capsule's hash, signature and key hold, and it says what the page shows."""
    keyring = read_keyring(keyring_path)
    return {call.call_id: _badge(connection, keyring, call, linked=False) for call in calls}


def badge(connection: db.Connection, keyring_path: Path, call: StoredCall) -> Badge:
    """Return the badge of one call, for which the capsule before it and the signed checkpoint over it hold too."""
    keyring = read_keyring(keyring_path)
    found = _badge(connection, keyring, call, linked=True)
    if found.state != "verified":
        return found
    try:
        prove(connection, keyring, call.call_id)
    except SetupError as error:
        if "no checkpoint covers" in str(error):
            return Badge("verified", f"{found.said} No checkpoint is over it yet.")
        return Badge("broken", str(error))
    return Badge("verified", f"{found.said} A signed checkpoint covers it.")


def _badge(connection: db.Connection, keyring: Keyring, call: StoredCall, *, linked: bool) -> Badge:
    stored = db.capsule_of(connection, call.call_id)
    if stored is None:
        return _OPEN if not call.record else Badge("broken", "The call has ended and is not in the ledger.")
    sealed = stored.sealed
    head = Head(sealed.sequence - 1, sealed.previous_hash)
    if linked and sealed.sequence > 0:
        before = next(iter(db.capsules(connection, stored.chain, sealed.sequence - 1, sealed.sequence - 1)), None)
        head = Head(sealed.sequence - 1, before.sealed.hash if before else None)
    try:
        verify_next(sealed, keyring, head, chain=stored.chain)
    except BrokenChain as error:
        return Badge("broken", str(error))
    wrong = _differs(json.loads(sealed.canonical), call)
    if wrong:
        return Badge("broken", f"The ledger says another {wrong} than the table of calls that this page shows.")
    return Badge("verified", f"Record {sealed.sequence} of chain {stored.chain}: hash, signature and key are right.")


def _differs(capsule: dict[str, Any], call: StoredCall) -> str | None:
    """Return what of the row is not what was sealed; None when all of it is."""
    caller, agent = call.request.get("caller") or {}, call.request.get("agent") or {}
    context, resources = capsule["context"], capsule["execution"]["resources_used"]
    sealed_caller = context["environment"].get("caller") or {}
    for what, shown, sealed in (
        ("status", call.record.get("status"), capsule["outcome"]["status"]),
        ("model", call.request.get("model"), capsule["reasoning"]["model"]),
        ("caller", caller, sealed_caller),
        ("agent", agent.get("id") or "", context["agent_id"]),
        ("session", agent.get("session"), context["session_id"]),
        ("cost", _amount(call.record.get("cost_usd")), _amount(resources.get("cost_usd"))),
        ("decision", call.decision.get("verdict") or "", capsule["reasoning"]["selected_option"]),
        ("list of rules", call.decision.get("policies") or [], context["environment"].get("policies") or []),
    ):
        if shown != sealed:
            return what
    return None


def _amount(value: object) -> Decimal | None:
    return None if value is None else Decimal(str(value))
