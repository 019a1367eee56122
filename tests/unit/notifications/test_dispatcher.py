"""The dispatcher goes on when the database is back, and says so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from gatehouse.notifications import outbox
from gatehouse.notifications.dispatcher import Dispatcher
from gatehouse.notifications.messages import Notice
from gatehouse.storage import reconnecting


class Sender:
    """Sends nothing: no notification is due."""

    name, kind = "hook", "webhook"

    async def send(self, event: Notice) -> None:
        raise AssertionError


class Connection:
    """Hears of nothing."""

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def execute(self, query: str) -> None: ...

    async def notifies(self) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield


async def test_it_says_that_notifications_go_on_once_the_database_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looked = asyncio.Event()
    away = [psycopg.OperationalError("away")] * 2  # for the task that sends, and for the one that listens

    async def connect(url: str) -> Any:
        if away:
            raise away.pop()
        return Connection()

    async def claim(*_: object) -> list[Any]:
        looked.set()
        return []

    async def give_up_unknown(*_: object) -> list[Any]:
        return []

    monkeypatch.setattr(reconnecting, "connect", connect)
    monkeypatch.setattr(reconnecting, "RETRY_S", 0)
    monkeypatch.setattr(outbox, "claim", claim)
    monkeypatch.setattr(outbox, "give_up_unknown", give_up_unknown)
    caplog.set_level(logging.INFO, "gatehouse.notifications")
    dispatcher = Dispatcher("postgresql://", [Sender()])
    await dispatcher.start()
    await looked.wait()
    await dispatcher.stop()
    said = [record.getMessage() for record in caplog.records]
    assert [each for each in said if each.startswith("notifications ")] == [
        "notifications wait: the database is gone (OperationalError)",
        "notifications go on",
    ]
