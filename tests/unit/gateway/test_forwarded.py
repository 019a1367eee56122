"""A request's address is that of the connection, or what the operator's proxies say, and never what a caller says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from gatehouse.core.errors import SetupError
from gatehouse.core.http import Message, Scope
from gatehouse.core.proxies import TrustedProxies
from gatehouse.gateway.forwarded import with_caller
from hypothesis import given
from hypothesis import strategies as st

PROXIES = "127.0.0.1, 10.0.3.0/24, ::1,2001:db8:1::/48"


def seen(
    *headers: tuple[str, str], peer: str | None = "127.0.0.1", proxies: str = PROXIES, kind: str = "http"
) -> tuple[str | None, str, list[tuple[str, str]]]:
    """Return the caller's address, the scheme and the headers that the gateway sees."""
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        scopes.append(scope)

    async def receive() -> Message:
        return {}

    async def send(_: Message) -> None: ...

    scope = {
        "type": kind,
        "scheme": "http" if kind == "http" else "ws",
        "client": None if peer is None else (peer, 40000),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }
    asyncio.run(with_caller(app, TrustedProxies.parse(proxies))(scope, receive, send))
    got = [(name.decode(), value.decode("latin-1")) for name, value in scopes[0]["headers"]]
    return scopes[0]["client"] and scopes[0]["client"][0], scopes[0]["scheme"], got


CLAIMS = [
    ("x-forwarded-for", "203.0.113.9"),
    ("forwarded", "for=203.0.113.9"),
    ("x-real-ip", "203.0.113.9"),
    ("x-forwarded-proto", "https"),
]


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "10.0.3.7", "198.51.100.1", "", None])
def test_no_header_is_believed_unless_a_proxy_is_named(peer: str | None) -> None:
    assert seen(*CLAIMS, ("host", "gate"), peer=peer, proxies="") == (
        peer,
        "http",
        [("x-forwarded-proto", "https"), ("host", "gate")],
    )


@pytest.mark.parametrize("peer", ["127.0.0.2", "10.0.4.1", "2001:db8:2::1", "::ffff:127.0.0.2", "unix", "", None])
def test_who_is_no_proxy_says_nothing(peer: str | None) -> None:
    assert seen(*CLAIMS, peer=peer) == (peer, "http", [("x-forwarded-proto", "https")])


@pytest.mark.parametrize(
    ("said", "caller"),
    [
        (["203.0.113.9"], "203.0.113.9"),
        (["198.51.100.4, 203.0.113.9"], "203.0.113.9"),  # the caller wrote the first one
        (["198.51.100.4", "203.0.113.9"], "203.0.113.9"),
        (["198.51.100.4, 203.0.113.9, 10.0.3.8"], "203.0.113.9"),
        (["10.0.3.9, 203.0.113.9, 10.0.3.8,10.0.3.8"], "203.0.113.9"),
        (["203.0.113.9:8080"], "203.0.113.9"),
        (["[2001:db8:7::1]:443"], "2001:db8:7::1"),
        (["2001:DB8:7::1"], "2001:db8:7::1"),
        (["::ffff:203.0.113.9"], "203.0.113.9"),
        (["10.0.3.9, 10.0.3.8"], "10.0.3.9"),  # all of them are proxies: one of them asks itself
        (["203.0.113.9, unknown"], "127.0.0.1"),  # what is no address ends what is known
        (["203.0.113.9, unknown, 10.0.3.8"], "10.0.3.8"),
        (["203.0.113.9,"], "127.0.0.1"),
        ([""], "127.0.0.1"),
        ([], "127.0.0.1"),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_proxy_says_who_connected_to_it(said: list[str], caller: str, kind: str) -> None:
    got = seen(*(("x-forwarded-for", each) for each in said), ("x-real-ip", "192.0.2.1"), kind=kind)
    assert got[0] == caller
    assert got[2] == ([] if caller == "127.0.0.1" else [("x-forwarded-for", caller)])


@pytest.mark.parametrize("peer", ["::1", "::ffff:127.0.0.1", "10.0.3.255", "2001:db8:1:9::9"])
def test_a_proxy_is_known_by_address_or_network(peer: str) -> None:
    assert seen(CLAIMS[0], peer=peer)[0] == "203.0.113.9"


@given(st.lists(st.ip_addresses(v=4).map(str) | st.text("abc0123456789.:[], \xff", max_size=20), max_size=6))
def test_nothing_in_front_of_what_a_proxy_wrote_makes_a_difference(claims: list[str]) -> None:
    assert seen(*(("x-forwarded-for", each) for each in [*claims, "203.0.113.9"]))[0] == "203.0.113.9"


@pytest.mark.parametrize(
    ("kind", "said", "scheme"),
    [
        ("http", "https", "https"),
        ("websocket", "https", "wss"),
        ("http", "http", "http"),
        ("http", "gopher", "http"),
        ("http", "https, http", "http"),
    ],
)
def test_a_proxy_says_whether_its_caller_came_over_tls(kind: str, said: str, scheme: str) -> None:
    assert seen(("x-forwarded-proto", said), kind=kind)[1] == scheme


@pytest.mark.parametrize(
    "text", ["*", "0.0.0.0/0", "::/0", "127.0.0.1,0.0.0.0/0", "gate.example", "10.0.0.1/8", "1.2.3"]
)
def test_a_list_that_names_everybody_or_no_address_is_refused(text: str) -> None:
    with pytest.raises(SetupError, match=r"FORWARDED_ALLOW_IPS: .* Name the addresses or networks"):
        TrustedProxies.parse(text)


def test_lifespan_passes_as_it_is() -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        scopes.append(scope)

    scope = {"type": "lifespan"}
    asyncio.run(with_caller(app, TrustedProxies.parse(PROXIES))(scope, None, None))  # type: ignore[arg-type]
    assert scopes == [scope]
