"""Approvals in the audit log: a line when one is asked for, one when it is decided or over without a decision, and one
whenever somebody opens the values behind its placeholders.

Promises: the gateway that did it writes it, once; no word of a request, nor of a reviewer's comment, is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from gatehouse.approvals.model import Approval, State, Voter
from gatehouse.core.call import AuditLine
from gatehouse.core.clock import now
from gatehouse.core.text import clean


@dataclass(frozen=True, slots=True)
class Change:
    """What became of an approval that waited for a decision, or that begins to wait.

    Attributes:
        by: ids of the users whose doing it was; none where its time was over.
    """

    approval: Approval
    by: tuple[str, ...] = ()


class AuditEntries:
    """Writes down what one gateway did to approvals.

    Args:
        write: appends a line to the audit log.
    """

    def __init__(self, write: Callable[[AuditLine], None] = lambda _line: None) -> None:
        self._write = write

    def note(self, changes: Iterable[Change]) -> None:
        """Write these down; call it once they are committed."""
        for change in changes:
            self._write(line(change))

    def opened(self, approval: Approval, by: Voter) -> None:
        """Write down that somebody opens the values behind a request's placeholders; call it before they see any."""
        data = {"approval_id": str(approval.id), "digest": approval.digest, "opened_by": clean(by.user_id)}
        self._write(_line("approval_values_opened", data))


def line(change: Change) -> AuditLine:
    """Return the line of a change."""
    approval = change.approval
    asked = approval.state is State.REQUESTED
    data: dict[str, Any] = {"approval_id": str(approval.id), "state": approval.state.value, "digest": approval.digest}
    if asked:
        data |= {
            "caller": dict(approval.requested_by),
            "route": approval.route,
            "model": approval.model,
            "policies": list(approval.rule_ids),
            "policy_version": approval.policy_version,
            "needed": approval.needed,
            "expires_at": approval.expires_at.isoformat(timespec="milliseconds"),
        }
    else:
        data["decided_by"] = list(change.by)
    if approval.edited_from is not None:
        data["edited_from"] = approval.edited_from
    if approval.edit is not None:
        data["edit"] = approval.edit.row
    if approval.replaced_by is not None:
        data["replaced_by"] = str(approval.replaced_by)
    return _line("approval_requested" if asked else "approval_decided", data)


def _line(event: str, data: dict[str, Any]) -> AuditLine:
    return {"timestamp": now().isoformat(timespec="milliseconds"), "event_type": event, "data": data}
