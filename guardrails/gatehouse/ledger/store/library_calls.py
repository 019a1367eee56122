"""The SQL of calls in library mode: what their caller reports, and who seals them.

Such a call is nobody's until it is due: reported, or `expires_at` is over. Then one gateway takes it for a while;
should that die meanwhile, another takes it next. Only the database's clock counts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from gatehouse.ledger.rows import DecisionRow, PromptRow, ReportRow, RequestRow
from gatehouse.storage.connection import Connection

# For how long a call is its sealer's: longer than a database that is restarted is away.
_LEASE_S: Final = 60.0
# So many are sealed in one transaction.
_MOST: Final = 100


@dataclass(frozen=True, slots=True)
class LibraryCall:
    """A call in library mode.

    Attributes:
        prompt: None once it is sealed.
        reported: what its caller said; None while nothing is.
        open: whether it may still be reported.
    """

    call_id: UUID
    started_at: datetime
    request: RequestRow
    decision: DecisionRow | None
    prompt: PromptRow | None
    reported: ReportRow | None
    open: bool

    @property
    def masking_scope(self) -> str:
        """Where the same value has the same placeholder as in this call."""
        return (self.prompt and self.prompt.get("scope")) or f"call:{self.call_id}"


async def find(connection: Connection, call_id: UUID) -> LibraryCall | None:
    """A call that was let through in library mode; None where there is none by that id."""
    cursor = await connection.execute(
        """select call_id, started_at, request, decision, prompt, reported,
                  settled_at is null and reported is null and expires_at > clock_timestamp()
             from gatehouse.calls where call_id = %s and expires_at is not null""",
        (call_id,),
    )
    row = await cursor.fetchone()
    return None if row is None else LibraryCall(*row)


async def report(connection: Connection, call_id: UUID, reported: ReportRow) -> bool:
    """Keep what a caller says of a call, unless that was said before or comes too late; whether it was kept."""
    cursor = await connection.execute(
        """update gatehouse.calls set reported = %s::jsonb, seal_after = clock_timestamp()
            where call_id = %s and settled_at is null and reported is null and expires_at > clock_timestamp()""",
        (json.dumps(reported), call_id),
    )
    return cursor.rowcount == 1


async def take_due(connection: Connection, me: UUID) -> list[LibraryCall]:
    """Take calls that are due; each is given to one taker at a time."""
    cursor = await connection.execute(
        """update gatehouse.calls set gateway_id = %s, seal_after = clock_timestamp() + %s * interval '1 second'
             where call_id in (select call_id from gatehouse.calls
                                where settled_at is null and seal_after <= clock_timestamp()
                                order by seal_after limit %s for update skip locked)
            returning call_id, started_at, request, decision, prompt, reported, false""",
        (me, _LEASE_S, _MOST),
    )
    return [LibraryCall(*row) for row in await cursor.fetchall()]
