"""Checks the parts of the gateway, at most once in two seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio
from litellm.proxy import proxy_server

from gatehouse.core.clock import monotonic
from gatehouse.core.health import HealthCheck
from gatehouse.core.settings import Settings
from gatehouse.gateway.hooks import governance
from gatehouse.ledger.recorder import Recorder
from gatehouse.pipeline.in_force import PolicyInForce, PolicyInForceHolder

# The time limit for one probe; a slower part is not healthy.
_PROBE_S = 2.0

# Every visitor may ask, so the parts are probed no more often than this.
_FRESH_S = 2.0

# No call can be answered without these; without the others calls continue, or only the keys that need them wait.
_VITAL = frozenset({"plugin", "ledger", "query_engine", "scanner"})


def watch(settings: Settings, governed: PolicyInForceHolder, recorder: Callable[[], Recorder | None]) -> HealthCheck:
    """Return a function that reports the state of every part: `{status, parts, policy_version}`."""
    lock = asyncio.Lock()
    last: dict[str, str] = {}
    asked_at = float("-inf")
    cache = (
        redis.asyncio.Redis(
            host=settings.redis_host,
            port=settings.redis_port,
            password=settings.redis_password,
            socket_timeout=_PROBE_S,
        )
        if settings.redis_host
        else None
    )

    async def look() -> dict[str, str]:
        engine, cached = await asyncio.gather(_probe(_query_engine), _probe(cache.ping if cache is not None else None))
        writer = recorder()
        return {
            "plugin": "up" if governance.armed and not governance.answers_cached else "down",
            "ledger": _ledger(writer),
            "policy": "stale" if governed.error else "up",
            "scanner": _scanner(governed.current),
            "query_engine": engine,
            "cache": cached,
        }

    async def state() -> dict[str, Any]:
        nonlocal last, asked_at
        async with lock:
            if monotonic() - asked_at > _FRESH_S:
                last, asked_at = await look(), monotonic()
        down = {part for part, state in last.items() if state == "down"}
        limping = {"spooling", "stale"} & set(last.values())
        status = "down" if down & _VITAL else "degraded" if down or limping else "ok"
        return {"status": status, "parts": last, "policy_version": governed.current.version}

    return state


def _scanner(governance: PolicyInForce) -> str:
    if governance.scanner is None:
        return "off" if governance.ready else "down"
    return "up" if governance.scanner.alive else "down"


def _ledger(writer: Recorder | None) -> str:
    if writer is None or not writer.accepting:
        return "down"
    return "up" if writer.writable else "spooling"


async def _probe(ask: Callable[[], Awaitable[object]] | None) -> str:
    if ask is None:
        return "off"
    try:
        async with asyncio.timeout(_PROBE_S):
            await ask()
    except Exception:
        return "down"
    return "up"


async def _query_engine() -> None:
    """Ask the database through Prisma's engine, as LiteLLM does."""
    await proxy_server.prisma_client.db.query_raw("select 1")
