"""A task that loses its connection gets another one, and says so once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, cast

import psycopg
import pytest
from gatehouse.core import metrics
from gatehouse.storage import reconnecting
from gatehouse.storage.reconnecting import Reconnecting

GONE = psycopg.OperationalError("gone")
LOG = logging.getLogger("gatehouse.test")


class Work:
    """Works as its arguments say: None works and ends, True works before the next one, an error just fails."""

    def __init__(self, *happens: Any) -> None:
        self._happens = list(happens)
        self.lost: list[Exception] = []
        self.task = Reconnecting("postgresql://", self, self._lost, what="tests", log=LOG, stage="test")

    async def __call__(self, connection: Any) -> None:
        happens = self._happens.pop(0)
        if happens is True:
            self.task.working()
            happens = self._happens.pop(0)
        if happens is not None:
            raise happens
        self.task.working()

    async def _lost(self, error: Exception) -> None:
        self.lost.append(error)


class Open:
    async def __aenter__(self) -> Open:
        return self

    async def __aexit__(self, *_: object) -> None: ...


@pytest.fixture(autouse=True)
def refused(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Exception]]:
    """Return a list of errors that the next connects raise, in its order."""
    errors: list[Exception] = []

    async def connect(url: str) -> Any:
        if errors:
            raise errors.pop(0)
        return cast(Any, Open())

    monkeypatch.setattr(reconnecting, "connect", connect)
    monkeypatch.setattr(reconnecting, "RETRY_S", 0)
    yield errors
    assert not errors


async def test_who_waits_does_not_hear_of_a_restart_that_is_over() -> None:
    work = Work(True, GONE, None)
    await work.task.run()
    assert work.lost == []
    assert work.task.up


async def test_who_waits_hears_that_a_second_connection_did_not_help(refused: list[Exception]) -> None:
    refused += [GONE, OSError("no route")]
    work = Work(None)
    await work.task.run()
    assert [type(each) for each in work.lost] == [psycopg.OperationalError, OSError]


async def test_a_failure_is_logged_once_a_kind_and_so_is_its_end(
    refused: list[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOG.name)
    refused += [GONE] * 5
    await Work(None).task.run()
    assert caplog.messages == ["tests wait: the database is gone (OperationalError)", "tests go on"]


async def test_only_failures_that_are_not_the_databases_are_counted() -> None:
    before = metrics.plugin_errors.labels(stage="test")._value.get()
    work = Work(GONE, True, KeyError("ours"), None)
    await work.task.run()
    assert metrics.plugin_errors.labels(stage="test")._value.get() == before + 1
    assert [type(each) for each in work.lost] == [psycopg.OperationalError, KeyError]
