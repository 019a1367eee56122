"""The calls of a stopped session are refused, also those that people held meanwhile; other sessions go on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from gatehouse.approvals.gate import ApprovalRequest
from gatehouse.approvals.model import Approval
from gatehouse.core.call import Agent, Caller, GovernedCall
from gatehouse.core.decision import Verdict
from gatehouse.core.errors import SessionStopped
from gatehouse.pipeline import sessions
from gatehouse.pipeline.sessions import Stopped, StoppedSessions

from tests.support.admission import Case, Gate

_ASKS = """
rules:
  - {id: asks, when: 'true', then: require_approval, approvers: {users: [margaret]}}
"""


class Table:
    """Stands for the table of stopped sessions."""

    def __init__(self, *rows: tuple[str, str]) -> None:
        self.rows: Stopped = frozenset(rows)
        self.fails = False
        self.asked = asyncio.Event()

    async def ask(self) -> Stopped:
        self.asked.set()
        if self.fails:
            raise ConnectionError
        return self.rows

    async def ask_again(self) -> None:
        """Wait until it was asked anew, and the answer was taken."""
        for _ in range(2):
            self.asked.clear()
            await self.asked.wait()


def of(case: Case, session: str | None, key: str | None = "k") -> GovernedCall:
    return replace(case.call, agent=Agent(session=session), caller=Caller(key_hash=key))


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path, "rules: []")


async def test_only_the_session_that_was_stopped_is_refused(case: Case) -> None:
    stopped = StoppedSessions(Table(("k", "one"), ("", "two")).ask)
    await stopped.load()
    for session, key in (("one", "other"), ("two", "k"), ("One", "k"), (None, "k"), ("three", None)):
        stopped.check(of(case, session, key))
    for session, key in (("one", "k"), ("two", None)):
        with pytest.raises(SessionStopped) as refused:
            stopped.check(of(case, session, key))
        assert (refused.value.status, refused.value.code) == (403, "session_stopped")


async def test_a_session_is_stopped_and_resumed_while_the_gateway_runs(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "ASK_EVERY_S", 0.01)
    table = Table()
    stopped = StoppedSessions(table.ask)
    asking = asyncio.create_task(stopped.run())
    await table.ask_again()
    stopped.check(of(case, "one"))
    table.rows = frozenset({("k", "one")})
    await table.ask_again()
    with pytest.raises(SessionStopped):
        stopped.check(of(case, "one"))
    table.fails = True  # what is known stays known
    await table.ask_again()
    with pytest.raises(SessionStopped):
        stopped.check(of(case, "one"))
    table.fails, table.rows = False, frozenset()
    await table.ask_again()
    stopped.check(of(case, "one"))
    asking.cancel()


async def test_a_refused_call_is_recorded_with_the_reason_and_is_not_scanned(case: Case) -> None:
    case.stopped = frozenset({("k", "one")})
    await case.sessions.load()
    case.call = of(case, "one")
    with pytest.raises(SessionStopped):
        await case.decide()
    decision = case.scope.considered.decision
    assert decision is not None
    assert (decision.verdict, decision.policies) == (Verdict.DENY, ("sessions",))
    assert case.scanner.seen == []


async def test_a_session_that_is_stopped_while_people_decide_sends_nothing(tmp_path: Path) -> None:
    class Slow(Gate):
        async def admit(self, asked: ApprovalRequest) -> Approval:
            case.stopped = frozenset({("k", "one")})
            await case.sessions.load()
            return await super().admit(asked)

    case = Case(tmp_path, _ASKS, gate=Slow())
    case.call = of(case, "one")
    with pytest.raises(SessionStopped):
        await case.decide()
