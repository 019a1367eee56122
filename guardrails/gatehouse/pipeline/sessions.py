"""Refuses the calls of sessions that a person stopped (`gatehouse sessions stop`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from gatehouse.core.call import GovernedCall
from gatehouse.core.errors import SessionStopped

log = logging.getLogger("gatehouse.sessions")

# Every gateway knows within a second of a session that was stopped.
ASK_EVERY_S: Final = 0.5

Stopped = frozenset[tuple[str, str]]


class StoppedSessions:
    """Know which sessions are stopped.

    Args:
        ask: returns the key's hash and the name of every session that is stopped. Without it there are none.
    """

    def __init__(self, ask: Callable[[], Awaitable[Stopped]] | None = None) -> None:
        self._ask = ask or _none
        self._stopped: Stopped = frozenset()

    def check(self, call: GovernedCall) -> None:
        """Check that the call's session may go on.

        Raises:
            SessionStopped: it may not.
        """
        if call.agent.session is not None and (call.caller.key_hash or "", call.agent.session) in self._stopped:
            raise SessionStopped(
                "An operator stopped this session. Ask them to resume it, or begin another.", policies=("sessions",)
            )

    async def load(self) -> None:
        """Ask which sessions are stopped."""
        self._stopped = await self._ask()

    async def run(self) -> None:
        """Ask twice a second, until this is cancelled."""
        failing = False
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            try:
                async with asyncio.timeout(ASK_EVERY_S * 4):
                    await self.load()
                failing = False
            except Exception as error:  # calls are refused for want of an intent as long as the database is away
                if not failing:
                    log.warning("the database does not say which sessions are stopped (%s)", type(error).__name__)
                failing = True


async def _none() -> Stopped:
    return frozenset()
