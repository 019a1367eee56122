"""A stop is seen in readiness before the server turns anybody away."""

from __future__ import annotations

import signal

import pytest
import uvicorn
from gatehouse.gateway import draining_server
from gatehouse.gateway.draining_server import DRAIN_S, LEAD_S, DrainingServer


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def server(told: list[str]) -> DrainingServer:
    return DrainingServer(uvicorn.Config(app=lambda: None), lambda: told.append("stopping"))


async def test_it_serves_on_for_the_lead_after_the_signal(
    server: DrainingServer, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    time = 100.0
    monkeypatch.setattr(draining_server, "monotonic", lambda: time)
    assert not await server.on_tick(1)
    server.handle_exit(signal.SIGTERM, None)
    assert told == ["stopping"]
    time += LEAD_S / 2
    assert not await server.on_tick(1)
    time += LEAD_S
    assert await server.on_tick(1)
    assert server.should_exit


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]])
async def test_an_interrupt_or_a_second_signal_stops_it_at_once(
    server: DrainingServer, told: list[str], signals: list[int]
) -> None:
    for each in signals:
        server.handle_exit(each, None)
    assert await server.on_tick(1)
    assert len(told) <= 1


def test_a_stop_takes_less_than_compose_allows() -> None:
    ledger_s = 5  # `Recorder.stop`
    assert LEAD_S + DRAIN_S + ledger_s < 40
