"""One writing process of `python -m bench ledger`: `python -m bench.writer NAME URL FOLDER WRITERS SECONDS`.

It prints `ready` when connected, begins at the first line on stdin, and prints as JSON what it handed in, what was
refused and how long it took until everything was stored.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from gatehouse.capsule.document import Content, call_capsule
from gatehouse.core.call import Outcome, Status, Usage
from gatehouse.core.clock import new_call_id, now
from gatehouse.core.decision import Decision, Verdict
from gatehouse.ledger.settlement import decision_row, settlement

DECISION = Decision(Verdict.ALLOW, ("small-models-only", "office-hours"), "0" * 64)
OUTCOME = Outcome(Status.SUCCESS, 200, "gpt-4o-mini", "openai", Usage(412, 87, 499), 0.000114, cache_hit=False)
CONTENT = Content(prompt_hash="c" * 64)
REQUEST: dict[str, Any] = {
    "route": "/v1/chat/completions",
    "call_type": "acompletion",
    "model": "fast",
    "stream": True,
    "caller": {"key_hash": "a" * 64, "key_alias": "research-agent", "user": "u-17", "team": "research"},
    "agent": {"id": "crawler", "session": "s-2931"},
}
# As many calls may wait to be settled as a busy gateway has open; more would only measure the queue.
_OPEN = 400

Store = Callable[[UUID, datetime], Awaitable[None]]


def document(call_id: UUID, started_at: datetime) -> dict[str, Any]:
    """Return the same record for both."""
    return call_capsule(
        call_id=call_id,
        started_at=started_at,
        request=REQUEST,
        decision=DECISION,
        outcome=OUTCOME,
        duration_ms=812.4,
        content=CONTENT,
    )


async def ours(url: str, folder: Path) -> tuple[Store, Callable[[], Awaitable[None]]]:
    """Do everything for a call: commit its intent, then seal, store and log its capsule."""
    from gatehouse.capsule.keys import KeyFolder
    from gatehouse.ledger.audit_log import AuditLog
    from gatehouse.ledger.recorder import Recorder

    recorder = Recorder(url, AuditLog(folder / "logs"), KeyFolder(folder / "keys"), folder / "spool")
    await recorder.start()

    async def store(call_id: UUID, started_at: datetime) -> None:
        intent = {"call_id": str(call_id), "started_at": started_at.isoformat(), "request": REQUEST}
        await recorder.open(intent | {"decision": decision_row(DECISION)})
        recorder.settle(
            settlement(
                call_id=call_id,
                started_at=started_at,
                request=REQUEST,
                decision=DECISION,
                outcome=OUTCOME,
                ended_at=now(),
                duration_ms=812.4,
                by_team=False,
                content=CONTENT,
            )
        )
        while recorder.backlog > _OPEN:  # noqa: ASYNC110
            await asyncio.sleep(0.002)

    async def finish() -> None:
        while recorder.backlog:  # noqa: ASYNC110
            await asyncio.sleep(0.002)

    return store, finish


async def theirs(url: str, folder: Path) -> tuple[Store, Callable[[], Awaitable[None]]]:
    """Write with the reference: its own chain, seal and Postgres storage, with its own retries."""
    from qp_capsule import Capsule, CapsuleChain, Seal
    from qp_capsule.storage_pg import PostgresCapsuleStorage

    storage = PostgresCapsuleStorage(url)
    chain, seal = CapsuleChain(storage), Seal(key_path=folder / "qp-key", enable_pq=False)
    await storage.get_latest()

    async def store(call_id: UUID, started_at: datetime) -> None:
        await chain.seal_and_store(Capsule.from_dict(document(call_id, started_at)), seal=seal)

    async def finish() -> None:
        await storage.close()

    return store, finish


async def main(name: str, url: str, folder: Path, writers: int, seconds: float) -> None:
    store, finish = await (ours if name == "gatehouse" else theirs)(url, folder)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    begin = time.perf_counter()
    stored, lost = 0, 0

    async def writer() -> None:
        nonlocal stored, lost
        while time.perf_counter() - begin < seconds:
            try:
                await store(new_call_id(), now())
                stored += 1
            except Exception:  # what a caller of the reference would see
                lost += 1

    await asyncio.gather(*(writer() for _ in range(writers)))
    await finish()
    print(json.dumps({"stored": stored, "lost": lost, "seconds": time.perf_counter() - begin}), flush=True)


if __name__ == "__main__":
    import logging

    logging.disable(logging.WARNING)
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])))
