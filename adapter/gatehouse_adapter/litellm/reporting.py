"""Reports calls to the gateway in the background: each once, with a bounded number of attempts.

A lost report leaves no gap in the ledger: the gateway seals a call without a report as `partial`. Log lines name calls
and reasons, never content.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final

from gatehouse_adapter._internal import clock
from gatehouse_adapter._internal.background import Background
from gatehouse_adapter.errors import GatehouseError
from gatehouse_adapter.litellm.endpoint import Away, Endpoint
from gatehouse_adapter.litellm.options import GovernorConfig

log = logging.getLogger("gatehouse_adapter.litellm")

MAX_WAITING: Final = 1_000
_AT_ONCE: Final = 16
# Together about four minutes, well within the fifteen after which the gateway closes a call by itself.
_PAUSES: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)
_MAY_PASS: Final = frozenset({408, 425, 429})

Verdict = Mapping[str, Any]
"""The reason why an answer may not be used: `code`, `message`, `policies`."""
Send = Callable[[], Awaitable[Verdict | None]]
Facts = Callable[[], Mapping[str, Any]]
"""Returns the report's facts besides status and time: model, usage, cost_usd, answer, tool_calls."""


class Reporter:
    """Send reports on the background loop."""

    def __init__(self, options: GovernorConfig, endpoint: Endpoint, home: Background) -> None:
        self._options = options
        self._endpoint = endpoint
        self._home = home
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._last = asyncio.Event()

    async def take(self, what: str, send: Send) -> Verdict | None:
        """Begin to send, and wait for the first attempt, no longer than a call may; `what` is for the log.

        Returns:
            The gateway's verdict on the answer, if it has given one by then.
        """
        if len(self._tasks) >= MAX_WAITING:
            log.error("the report on %s is dropped: %s wait already", what, MAX_WAITING)
            return None
        first: asyncio.Future[Verdict | None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._keep_sending(what, send, first))
        self._tasks.add(task)
        self._home.busy.add(self)
        task.add_done_callback(self._done)
        await asyncio.wait({first}, timeout=self._options.call_timeout_seconds)
        return first.result() if first.done() else None

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._tasks:
            self._home.busy.discard(self)

    async def settled(self, seconds: float) -> bool:
        """Wait until every report is sent, for a limited time; return whether it is."""
        tasks = tuple(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        return not any(not task.done() for task in tasks)

    async def farewell(self) -> None:
        """Try to send waiting reports one last time, at exit."""
        self._last.set()
        if not await self.settled(self._options.call_timeout_seconds):
            log.error(
                "%s reports on calls are lost with this process; the gateway closes these calls as partial",
                len(self._tasks),
            )

    async def _keep_sending(self, what: str, send: Send, first: asyncio.Future[Verdict | None]) -> None:
        for pause in (*_PAUSES, None):
            try:
                async with self._at_once:
                    verdict = await send()
                if not first.done():
                    first.set_result(verdict)
                elif verdict is not None:
                    log.warning("the answer to %s was used; the gateway withholds it: %s", what, verdict.get("code"))
                return
            except Away as away:
                reason = away.error.message
            except GatehouseError as error:
                if error.status not in _MAY_PASS:
                    _resolve(first)
                    log.error("the gateway refused the report on %s: %s", what, error)
                    return
                reason = error.message
            if _resolve(first):
                log.warning("the report on %s did not arrive and is sent again: %s", what, reason)
            if pause is None or self._last.is_set():
                break
            await self._pause(pause)
        log.error("the report on %s is given up; the gateway closes the call as partial", what)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds * clock.jitter()):
                await self._last.wait()


def _resolve(first: asyncio.Future[Verdict | None]) -> bool:
    """Resolve the first attempt without a verdict; return whether it was the first."""
    if first.done():
        return False
    first.set_result(None)
    return True


class Telling:
    """Send one report: collect its facts once, then send it as often as needed."""

    def __init__(self, options: GovernorConfig, endpoint: Endpoint, told: Mapping[str, Any], facts: Facts) -> None:
        self._seconds = options.call_timeout_seconds
        self._endpoint = endpoint
        self._told = told
        self._facts = facts
        self._content: bytes | None = None

    async def __call__(self) -> Verdict | None:
        if self._content is None:
            self._content = json.dumps({**self._told, **await self._found()}).encode()
        return await self._endpoint.audit(self._content, seconds=self._seconds)

    async def _found(self) -> Mapping[str, Any]:
        try:  # counting tokens takes time, so not on the loop
            return await asyncio.to_thread(self._find)
        except RuntimeError:  # no new threads while the interpreter exits
            return self._find()

    def _find(self) -> Mapping[str, Any]:
        try:
            return self._facts()
        except Exception as exc:  # LiteLLM itself cannot add up the answer; the call is still reported
            log.warning("a call is reported without its tokens and cost: %s", type(exc).__name__)
            return {}


class Report:
    """Send the one report of one call, from any thread; later results are ignored."""

    def __init__(self, call_id: str, tell: Callable[[Mapping[str, Any], Facts], Future[Verdict | None] | None]) -> None:
        self.call_id = call_id
        self._tell = tell
        self._started = clock.monotonic()
        self._unsaid = [True]

    def success(self, facts: Facts) -> Future[Verdict | None] | None:
        """Report a whole answer. Return the gateway's verdict, within the time that a call may take."""
        return self._say({"status": "success", "error": None}, facts)

    def failure(self, exc: BaseException, facts: Facts = dict) -> None:
        """Report a failure by the error's name, because its message may quote the request."""
        self._say({"status": "failure", "error": type(exc).__name__}, facts)

    def partial(self, facts: Facts = dict) -> None:
        """Report that the caller left before the answer was whole."""
        self._say({"status": "partial", "error": None}, facts)

    def _say(self, told: dict[str, Any], facts: Facts) -> Future[Verdict | None] | None:
        try:
            self._unsaid.pop()  # atomic, and safe where the garbage collector calls
        except IndexError:
            return None
        latency_ms = round((clock.monotonic() - self._started) * 1000)
        return self._tell({"call_id": self.call_id, **told, "latency_ms": latency_ms}, facts)
