"""Opening the reviewer's copy of a request: who may, and what is written down of it.

Promises: only those who may decide on a request, and whoever asked, see all of it; the values behind placeholders only
those who may vote on it now, and the audit log says who did before they see any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gatehouse.approvals import lifecycle, queries
from gatehouse.approvals.audit_entries import Journal
from gatehouse.approvals.model import Approval, Voter
from gatehouse.approvals.review_copy import open_request, open_values
from gatehouse.core.errors import Gone
from gatehouse.core.keys import InstallationKeys
from gatehouse.storage.connection import Connection


@dataclass(frozen=True, slots=True)
class Opened:
    """A request as its approval binds it.

    Attributes:
        request: caller, route, body, policy_version; SHA-256 of its RFC 8785 form is `approval.asked`.
        values: what each placeholder stands for; None where they were not asked for.
    """

    request: Mapping[str, Any] = field(repr=False)
    values: Mapping[str, str] | None = field(default=None, repr=False)

    @property
    def body(self) -> Mapping[str, Any]:
        """What would go upstream, but for what an approver edited."""
        body: Mapping[str, Any] = self.request["body"]
        return body


class ReviewDesk:
    """Opens copies.

    Args:
        keys: what copies are encrypted under.
        journal: where it is written down who opened values.
    """

    def __init__(self, keys: InstallationKeys, journal: Journal) -> None:
        self._keys = keys
        self._journal = journal

    async def open(
        self, connection: Connection, approval: Approval, by: Voter, now: datetime, *, values: bool = False
    ) -> Opened:
        """Open the whole request.

        Args:
            values: with what its placeholders stand for.

        Raises:
            AccessDenied: this person may not.
            Gone: the approval is over, or there is no copy of its request.
        """
        refused = lifecycle.may_open(approval, by, now, values=values)
        if refused is not None:
            raise refused
        kept = await queries.copy_of(connection, approval.id)
        if kept is None:
            raise Gone("The copy of this request is erased, or was never made. Its summary is what is left.")
        request = await asyncio.to_thread(open_request, self._keys, kept, approval.asked)
        if not values:
            return Opened(request)
        found = open_values(self._keys, kept, approval.asked)
        self._journal.opened(approval, by)
        return Opened(request, found)
