"""Records calls as a gateway does, in a process without LiteLLM; tests kill it in the middle.

`python -m tests.support.ledger_writer DATABASE_URL FOLDER CALLERS`: each caller opens a call, notes its id in
`FOLDER/opened-PID`, and settles it, until the process is killed or gets SIGTERM, on which it stops as a gateway does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from pathlib import Path

import psycopg
from gatehouse.capsule.keys import KeyFolder
from gatehouse.core.call import Outcome, Status, Usage
from gatehouse.core.clock import new_call_id, now
from gatehouse.core.decision import Decision, Verdict
from gatehouse.core.errors import GovernanceUnavailable
from gatehouse.ledger.audit_log import AuditLog
from gatehouse.ledger.recorder import Recorder
from gatehouse.ledger.settlement import decision_row, settlement

DECISION = Decision(Verdict.ALLOW, (), "0" * 64)
REQUEST = {
    "route": "/v1/chat/completions",
    "call_type": "acompletion",
    "model": "demo",
    "stream": False,
    "caller": {"key_hash": "a" * 64, "key_alias": "soak", "team": "soak"},
}


async def caller(recorder: Recorder, opened: int, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        if not recorder.accepting:  # the pipeline refuses the call
            await asyncio.sleep(0.1)
            continue
        call_id, started_at = new_call_id(), now()
        with contextlib.suppress(GovernanceUnavailable):
            await recorder.open(
                {
                    "call_id": str(call_id),
                    "started_at": started_at.isoformat(),
                    "request": REQUEST,
                    "decision": decision_row(DECISION),
                }
            )
            os.write(opened, f"{call_id}\n".encode())
        await asyncio.sleep(random.random() * 0.01)
        recorder.settle(
            settlement(
                call_id=call_id,
                started_at=started_at,
                request=REQUEST,
                decision=DECISION,
                outcome=Outcome(Status.SUCCESS, http_status=200, model="demo", usage=Usage(9, 4, 13), cost_usd=1.7e-5),
                ended_at=now(),
                duration_ms=5.0,
                by_team=False,
            )
        )
        if recorder.backlog > 500:
            await asyncio.sleep(0.1)  # a model is slower than this loop


async def main(database_url: str, folder: Path, callers: int) -> None:
    recorder = Recorder(database_url, AuditLog(folder / "logs"), KeyFolder(folder / "keys"), folder / "spool")
    while True:
        try:
            await recorder.start(120)
            break
        except psycopg.OperationalError:  # Postgres is away; what runs a gateway would start it again
            await asyncio.sleep(0.5)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    opened = os.open(folder / f"opened-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    await asyncio.gather(*(caller(recorder, opened, stopping) for _ in range(callers)))
    await recorder.stop(60)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
