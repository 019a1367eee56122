"""Sends what is in the outbox as a gateway does, in a process that tests kill in the middle.

`python -m tests.support.notifier DATABASE_URL WEBHOOK_URL LEASE_S`, with its key in HOOK_SECRET.
"""

from __future__ import annotations

import asyncio
import os
import sys

from gatehouse.gateway.notification_senders import addresses
from gatehouse.notifications import dispatcher
from gatehouse.policy.model import NotificationPolicy


async def main(database_url: str, url: str, lease_s: float) -> None:
    dispatcher.LEASE_S = lease_s  # type: ignore[misc]
    entry = NotificationPolicy(type="webhook", url=url, secret_env="HOOK_SECRET")
    await dispatcher.Dispatcher(database_url, addresses([entry], os.environ)).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
