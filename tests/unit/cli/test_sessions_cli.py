"""`gatehouse sessions` finds the one session that is meant, by the caller's name or the recorded one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from gatehouse.cli import sessions as command
from gatehouse.cli.sessions import chosen, recorded
from gatehouse.core.errors import SetupError
from gatehouse.core.keys import Purpose
from gatehouse.core.names import hidden
from gatehouse.ledger.store.sessions import Session

from tests.support.masking import KEYS

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ONE = Session("a" * 64, "one", "ci-bot", "planner", AT, AT, 3, 0, 0.0123, None)


def test_a_name_is_looked_for_as_records_may_show_it() -> None:
    key = KEYS.key(Purpose.RECORDS)
    assert recorded("session-1", KEYS) == ["session-1", hidden("session-1", key)]
    assert recorded("Ada Lovelace", KEYS) == ["Ada Lovelace", hidden("Ada Lovelace", key)]
    assert recorded(hidden("Ada Lovelace", key), KEYS) == [hidden("Ada Lovelace", key)]


def test_nothing_is_stopped_where_it_is_not_clear_what() -> None:
    assert chosen([ONE], "one") == ONE
    with pytest.raises(SetupError, match="no call named it"):
        chosen([], "one")
    with pytest.raises(SetupError, match="Give --key with one of these: ci-bot, bbbbbbbbbbbb"):
        chosen([ONE, replace(ONE, key_hash="b" * 64, key_alias=None)], "one")


@pytest.mark.parametrize(
    ("key", "found"), [("ci-bot", True), ("aaaa", True), ("a", False), ("bbbb", False), ("", False)]
)
def test_a_key_is_named_by_its_alias_or_the_beginning_of_its_hash(key: str, found: bool) -> None:
    assert command._is_of(ONE, key) is found


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({}, "idle     2026-01-02 03:04:05+00:00       3 calls     $0.012  one  (key ci-bot)  agent planner"),
        ({"running": 1, "cost_usd": 1234.5}, "running  2026-01-02 03:04:05+00:00       3 calls  $1,234.50  one"),
        (
            {"running": 1, "stopped_at": AT, "cost_usd": None},
            "stopped  2026-01-02 03:04:05+00:00       3 calls    no cost",
        ),
        ({"last_at": None, "key_alias": None, "agent": None, "session": "x\x1b[2J"}, "x\\x1b[2J  (key aaaaaaaaaaaa)"),
    ],
)
def test_a_line_says_what_a_session_does(change: dict[str, object], shown: str) -> None:
    assert shown in command._line(replace(ONE, **change))
