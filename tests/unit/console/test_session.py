"""The console takes only its own cookies and form tokens, of this session, for eight hours."""

from __future__ import annotations

import pytest
from gatehouse.console.session import MASTER, Sealer, Session, new_session

SEALER = Sealer("sk-master-key-of-the-installation")
NOW = 1_800_000_000.0


def changed(text: str) -> list[str]:
    """Return the text with one character at a time changed."""
    return [f"{text[:at]}{'A' if letter != 'A' else 'B'}{text[at + 1 :]}" for at, letter in enumerate(text)]


def test_a_cookie_opens_its_session_until_eight_hours_are_over() -> None:
    session = new_session("a" * 64, NOW)
    cookie = SEALER.seal(session)
    assert Sealer("sk-master-key-of-the-installation").open(cookie, NOW + 8 * 3600 - 1) == session
    assert SEALER.open(cookie, NOW + 8 * 3600) is None
    assert cookie.isascii()
    assert cookie == cookie.strip('"; ,\\')


def test_no_cookie_that_was_changed_opens_another_session() -> None:
    session = new_session(MASTER, NOW)
    opened = [SEALER.open(each, NOW) for each in changed(SEALER.seal(session))]
    # The last characters of a signature hold bits that nobody reads.
    assert set(opened) <= {None, session}
    assert opened.count(None) >= len(opened) - 1


@pytest.mark.parametrize("cookie", ["", ".", "a.b", "master", "x" * 5_000, "é.ü", "\ud800", "W10", "W10."])
def test_what_is_no_cookie_opens_nothing(cookie: str) -> None:
    assert SEALER.open(cookie, NOW) is None


def test_what_another_master_key_or_another_purpose_signed_opens_nothing() -> None:
    session = new_session(MASTER, NOW)
    assert SEALER.open(Sealer("sk-another-master-key").seal(session), NOW) is None
    assert SEALER.open(f"{session.nonce}.{SEALER.csrf_token(session)}", NOW) is None
    assert not Sealer("sk-another-master-key").is_csrf_token(session, SEALER.csrf_token(session))


def test_a_form_is_of_one_session() -> None:
    one, other = Session(MASTER, int(NOW), "one"), Session(MASTER, int(NOW), "other")
    token = SEALER.csrf_token(one)
    assert SEALER.is_csrf_token(one, token)
    assert not SEALER.is_csrf_token(other, token)
    assert not any(SEALER.is_csrf_token(one, each) for each in ("", "é", "\ufffd", token[:-2], *changed(token)[:-1]))
