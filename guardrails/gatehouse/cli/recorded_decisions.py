"""Reads recorded decisions and their facts with SQL; synchronous, for commands."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from gatehouse.core.decision import Verdict
from gatehouse.ledger.store.capsules import BATCH, Connection
from gatehouse.policy.replay import PastDecision


def count(connection: Connection, since: timedelta) -> int:
    """Count the calls of that period whose facts are recorded."""
    row = connection.execute(
        "select count(*) from gatehouse.calls where decision ? 'facts' and started_at >= now() - %s", (since,)
    ).fetchone()
    return int(row[0]) if row else 0


def recorded(connection: Connection, since: timedelta) -> Iterator[PastDecision]:
    """Yield those calls, the oldest first, with no more than a batch of them in memory."""
    with connection.cursor(name="decisions") as cursor:
        cursor.itersize = BATCH
        cursor.execute(
            """select call_id::text, decision from gatehouse.calls
                where decision ? 'facts' and started_at >= now() - %s order by started_at""",
            (since,),
        )
        for call_id, decision in cursor:
            yield PastDecision(call_id, Verdict(decision["verdict"]), tuple(decision["policies"]), decision["facts"])
