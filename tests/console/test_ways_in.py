"""The console lets no attacker in: each test tries one way, without a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
from gatehouse.console.session import Sealer, new_session

from tests.console.conftest import user_key
from tests.support.gateway import MASTER_KEY, Gateway
from tests.support.process import PATIENCE_S

PAGES = ("", "/pending", "/history", "/calls", "/spend", "/policy", "/health")
AUDITORS_PAGES = ("/calls", "/spend", "/policy", "/health")
COOKIE = "gatehouse_console"


@pytest.fixture
def anybody(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client(None) as client:
        yield client


def signed_in(gateway: Gateway, key: str = MASTER_KEY) -> httpx.Client:
    client = gateway.client(None)
    answer = try_key(client, gateway, key)
    assert answer.status_code == 303, answer.text
    return client


def try_key(client: httpx.Client, gateway: Gateway, key: str, to: str = "") -> httpx.Response:
    path = "/governance/sign-in" + (f"?to={quote(to)}" if to else "")
    return client.post(path, data={"key": key}, headers={"origin": gateway.url})


def csrf_of(client: httpx.Client) -> str:
    found = re.search(r'name="csrf" value="([\w-]{43})"', client.get("/governance").text)
    assert found
    return found[1]


def shut(answer: httpx.Response) -> bool:
    return answer.status_code == 303 and answer.headers["location"].startswith("/governance/sign-in")


@pytest.mark.parametrize("path", PAGES)
def test_without_a_cookie_there_is_only_the_door(anybody: httpx.Client, path: str) -> None:
    assert shut(anybody.get(f"/governance{path}"))
    # A key in a header opens the API, never a page.
    assert shut(anybody.get(f"/governance{path}", headers={"authorization": f"Bearer {MASTER_KEY}"}))


def test_a_forged_cookie_opens_nothing(gateway: Gateway, anybody: httpx.Client) -> None:
    good = signed_in(gateway).cookies[COOKIE]
    sealer, now = Sealer("sk-another-master-key"), 1e12
    for cookie in (
        sealer.seal(new_session("master", now)),
        good[:-6] + "AAAAA=",
        "A" + good[1:],
        good[:40],
        "master",
        "x" * 5000,
    ):
        assert shut(anybody.get("/governance", headers={"cookie": f"{COOKIE}={cookie}"})), cookie[:20]


def test_a_cookie_is_over_after_eight_hours() -> None:
    sealer = Sealer(MASTER_KEY)
    cookie = sealer.seal(new_session("master", 1000.0))
    assert sealer.open(cookie, 1000.0 + 8 * 3600 - 1) is not None
    assert sealer.open(cookie, 1000.0 + 8 * 3600) is None


def test_the_cookie_is_for_this_site_alone_and_holds_no_key(gateway: Gateway, anybody: httpx.Client) -> None:
    cookie = try_key(anybody, gateway, MASTER_KEY).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/governance" in cookie
    assert MASTER_KEY not in cookie
    answer = anybody.post(
        "/governance/sign-in",
        data={"key": MASTER_KEY},
        headers={"origin": gateway.url, "x-forwarded-proto": "https"},
    )
    assert "Secure" in answer.headers["set-cookie"]


def test_every_page_forbids_inline_script_and_frames(gateway: Gateway) -> None:
    client = signed_in(gateway)
    for path in (*PAGES, "/sign-in", "/nothing-here/at-all", "/static/console.js"):
        answer = client.get(f"/governance{path}")
        if answer.status_code == 404:
            continue
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", answer.text), path


def test_a_form_from_elsewhere_does_nothing(gateway: Gateway) -> None:
    client = signed_in(gateway)
    csrf = csrf_of(client)
    vote = {"vote": "approve"}
    approval = "/governance/approvals/0190c0de-0000-7000-8000-000000000000"
    doors = ("/governance/sign-out", f"{approval}/vote", f"{approval}/values")
    for headers, fields in (
        ({}, {"csrf": csrf}),
        ({"origin": "https://elsewhere.example"}, {"csrf": csrf}),
        ({"origin": "null"}, {"csrf": csrf}),
        ({"origin": f"{gateway.url}.elsewhere.example"}, {"csrf": csrf}),
        ({"origin": gateway.url}, {"csrf": ""}),
        ({"origin": gateway.url}, {"csrf": csrf_of(signed_in(gateway))}),
    ):
        for path in doors:
            assert client.post(path, data=vote | fields, headers=headers).status_code == 403, (path, headers)
    # Nobody has asked for that one: a form of ours gets as far as that.
    for path in doors[1:]:
        assert client.post(path, data=vote | {"csrf": csrf}, headers={"origin": gateway.url}).status_code == 404
    assert client.get("/governance").status_code == 200


def test_another_site_cannot_read_a_page(gateway: Gateway) -> None:
    client = signed_in(gateway)
    for headers in (
        {"origin": "https://elsewhere.example"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    ):
        assert client.get("/governance/calls", headers=headers).status_code == 403


def test_an_ordinary_key_does_not_open_the_door(gateway: Gateway, anybody: httpx.Client) -> None:
    assert try_key(anybody, gateway, gateway.new_key()).status_code == 403
    assert shut(anybody.get("/governance"))


def test_pages_of_auditors_are_closed_to_others(gateway: Gateway, rita: str) -> None:
    client = signed_in(gateway, rita)
    assert client.get("/governance").status_code == 200
    for path in (*AUDITORS_PAGES, "/calls/0190c0de-0000-7000-8000-000000000000"):
        assert client.get(f"/governance{path}").status_code == 403


def test_a_key_that_is_blocked_or_deleted_ends_its_sessions(gateway: Gateway) -> None:
    for number, (path, body) in enumerate((("/key/block", "key"), ("/key/delete", "keys"))):
        key = user_key(gateway, f"leaver-{number}", "proxy_admin_viewer")
        client = signed_in(gateway, key)
        assert client.get("/governance/calls").status_code == 200
        with gateway.client() as admin:
            admin.post(path, json={body: [key] if body == "keys" else key}).raise_for_status()
        assert shut(client.get("/governance/calls"))


@pytest.mark.parametrize(
    "target",
    [
        "https://elsewhere.example",
        "//elsewhere.example",
        "/governance/../ui",
        "/governance\\..",
        "/ui",
        "/governance/\n",
    ],
)
def test_signing_in_leads_to_the_console_and_nowhere_else(gateway: Gateway, anybody: httpx.Client, target: str) -> None:
    assert try_key(anybody, gateway, MASTER_KEY, target).headers["location"] == "/governance"


def test_a_link_leads_to_its_page_after_signing_in(gateway: Gateway, anybody: httpx.Client) -> None:
    first = anybody.get("/governance/calls?days=1")
    assert first.headers["location"] == "/governance/sign-in?to=%2Fgovernance%2Fcalls%3Fdays%3D1"
    second = try_key(anybody, gateway, MASTER_KEY, "/governance/calls?days=1")
    assert second.headers["location"] == "/governance/calls?days=1"


@pytest.mark.parametrize(
    "path",
    [
        "/governance/static/..%2f..%2fsession.py",
        "/governance/static/%2e%2e/router.py",
        "/governance/static/console.css%00.py",
        "/governance/static/templates/base.html",
        "/governance/calls/../../v1/audit/capsules",
        "/governance//calls",
        "/governance/approvals/x",
        "/governance/%2e%2e/key/list",
    ],
)
def test_path_tricks_lead_nowhere(gateway: Gateway, anybody: httpx.Client, path: str) -> None:
    answer = anybody.get(httpx.URL(gateway.url, raw_path=path.encode()))
    assert answer.status_code in (303, 307, 400, 401, 403, 404), answer.text
    assert "import" not in answer.text
    assert "{%" not in answer.text


def test_guessing_keys_is_slow_whatever_address_the_guesser_claims(gateway: Gateway) -> None:
    # From an address of its own on this machine, which no header changes.
    transport = httpx.HTTPTransport(local_address="127.0.0.9")
    with httpx.Client(base_url=gateway.url, transport=transport, timeout=PATIENCE_S) as client:
        said = [
            client.post(
                "/governance/sign-in",
                data={"key": f"sk-guess-{number}"},
                headers={"origin": gateway.url, header: value.format(number)},
            ).status_code
            for number in range(11)
            for header, value in [
                (("x-forwarded-for", "203.0.113.{}"), ("forwarded", "for=203.0.113.{}"), ("x-real-ip", "203.0.113.{}"))[
                    number % 3
                ]
            ]
        ]
        assert said == [403] * 10 + [429]
        answer = client.post("/governance/sign-in", data={"key": MASTER_KEY}, headers={"origin": gateway.url})
        assert answer.status_code == 429
        assert "retry-after" in answer.headers
    assert signed_in(gateway).get("/governance").status_code == 200
