"""The console in a real browser: a reviewer watches a request appear, decides in two keys, and the held call ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import psycopg
import pytest
from playwright.sync_api import Page, expect

from tests.console.conftest import docs_picture, sign_in, user_key
from tests.support.gateway import MASTER_KEY, Gateway
from tests.support.process import wait_until

HOSTILE = """<script>document.title = "taken"</script><img src=x onerror="document.title='taken'">"""


@contextmanager
def held(gateway: Gateway, key: str, text: str, **headers: str) -> Iterator[Future[httpx.Response]]:
    """Send a call that waits for a person."""

    def ask() -> httpx.Response:
        with gateway.client(key) as client:
            body = {"model": "up-chat", "messages": [{"role": "user", "content": text}]}
            return client.post("/v1/chat/completions", json=body, headers=headers)

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(ask)


def card(page: Page, text: str):  # type: ignore[no-untyped-def]
    return page.get_by_role("article").filter(has_text=text)


def test_a_request_appears_without_reload_and_two_keys_approve_it(page: Page, gateway: Gateway, agent: str) -> None:
    sign_in(page)
    with held(gateway, agent, "Tell bob@mail.example hello") as answer:
        shown = card(page, "humans-first")
        expect(shown).to_be_visible()
        for said in ("agnes asks up-chat", "A person looks at these.", "agnes-key", "left", "never"):
            expect(shown).to_contain_text(said)
        expect(shown).not_to_contain_text("bob@mail.example")
        page.keyboard.press("a")
        expect(shown.get_by_role("button", name="Approve")).to_be_focused()
        page.keyboard.press("Enter")
        assert answer.result().status_code == 200
    expect(page.get_by_text("Nothing waits for a decision.")).to_be_visible()


def test_a_comment_outlives_the_list_and_reaches_the_caller(page: Page, gateway: Gateway, agent: str) -> None:
    sign_in(page)
    with held(gateway, agent, "first of two") as first:
        shown = card(page, "first of two")
        shown.get_by_label("Comment").fill("Ask for less.")
        with held(gateway, agent, "second of two") as second:
            expect(card(page, "second of two")).to_be_visible()
            expect(shown.get_by_label("Comment")).to_have_value("Ask for less.")
            expect(shown.get_by_label("Comment")).to_be_focused()
            shown.get_by_role("button", name="Reject").click()
            refused = first.result()
            card(page, "second of two").get_by_role("button", name="Approve").click()
            assert second.result().status_code == 200
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "approval_rejected"
    assert "Ask for less." in refused.json()["error"]["message"]
    page.goto("/governance/history")
    row = page.get_by_role("row").filter(has_text="Ask for less.")
    expect(row).to_contain_text("rejected")


def test_four_eyes_are_two_people(page: Page, gateway: Gateway, rita: str, browser) -> None:  # type: ignore[no-untyped-def]
    with gateway.client() as client:
        team = client.post("/team/new", json={"team_alias": "pairs"}).json()["team_id"]
    key = gateway.new_key(team_id=team)
    sign_in(page)
    with held(gateway, key, "two people") as answer, browser.new_context(base_url=gateway.url) as other:
        card(page, "two people").get_by_role("button", name="Approve").click()
        expect(card(page, "two people")).to_contain_text("1 of 2")
        expect(card(page, "two people")).to_contain_text("You have voted on this already.")
        assert not answer.done()
        second = other.new_page()
        sign_in(second, rita)
        card(second, "two people").get_by_role("button", name="Approve").click()
        assert answer.result().status_code == 200


def test_a_reviewer_approves_less_than_was_asked_also_without_script(
    gateway: Gateway,
    agent: str,
    rita: str,
    browser,  # type: ignore[no-untyped-def]
) -> None:
    with (
        browser.new_context(base_url=gateway.url, java_script_enabled=False) as context,
        held(gateway, agent, "rather long") as answer,
    ):
        page = context.new_page()
        sign_in(page, rita)
        wait_until(lambda: page.reload() is not None and card(page, "rather long").count() == 1, "the request")
        card(page, "rather long").get_by_role("link", name="agnes asks").click()
        page.get_by_text("Approve less than was asked").click()
        page.get_by_label("Fewer tokens in the answer").fill("77")
        page.get_by_role("button", name="Approve").click()
        expect(page.get_by_role("main")).to_contain_text("max_tokens: 77")
        assert answer.result().status_code == 200
        assert answer.result().headers["x-gatehouse-edited"] == "max_tokens"
        page.goto("/governance/history?state=replaced")
        page.get_by_role("row").nth(1).get_by_role("link").click()
        page.get_by_role("link", name="what it became").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(re.compile("approved|consumed"))


def test_a_reviewer_reads_all_of_a_request_and_sees_values_only_when_they_ask(
    gateway: Gateway,
    agent: str,
    rita: str,
    browser,  # type: ignore[no-untyped-def]
) -> None:
    text = f"all of it, for bob@mail.example: {'word ' * 10_000} {HOSTILE} the-very-end"
    with (
        browser.new_context(base_url=gateway.url, java_script_enabled=False) as context,
        held(gateway, agent, text) as answer,
    ):
        page = context.new_page()
        sign_in(page, rita)
        wait_until(lambda: page.reload() is not None and card(page, "all of it").count() == 1, "the request")
        card(page, "all of it").get_by_role("link", name="agnes asks").click()
        end = page.get_by_text("the-very-end")
        expect(end).to_be_hidden()
        page.get_by_text("1. user").click()
        expect(end).to_be_visible()
        expect(page.locator("main script, main img")).to_have_count(0)
        expect(page.get_by_role("main")).not_to_contain_text("bob@mail.example")
        whole = page.request.get(page.get_by_role("link", name="Download all of it").get_attribute("href") or "")
        assert "attachment" in whole.headers["content-disposition"]
        assert "the-very-end" in whole.json()["body"]["messages"][0]["content"]
        page.get_by_role("button", name="Show what placeholders stand for").click()
        expect(page.get_by_role("main")).to_contain_text("bob@mail.example")
        page.get_by_role("button", name="Reject").click()
        assert answer.result().status_code == 403
        expect(page.get_by_role("main")).to_contain_text("The approval is over, and the copy of its request is erased.")
        expect(page.get_by_role("main")).not_to_contain_text("the-very-end")


def test_the_history_shows_what_nobody_decided_in_time(page: Page, gateway: Gateway) -> None:
    with psycopg.connect(gateway.database_url) as connection:
        connection.execute(
            """insert into gatehouse.approvals
                      (id, digest, requested_by, route, model, rule_ids, policy_version, summary, approvers, expires_at)
               values (gen_random_uuid(), 'late', '{"user": "late-larry"}', '/', 'm', '{r}', 'v', '{}', '{}',
                       now() - interval '1 second')"""
        )
    sign_in(page)
    for address in ("/governance/history", "/governance/history?state=", "/governance/history?state=expired"):
        page.goto(address)
        expect(page.get_by_role("row").filter(has_text="late-larry")).to_contain_text("expired")


def test_who_is_no_approver_sees_no_buttons(page: Page, gateway: Gateway, rita: str, agent: str, browser) -> None:  # type: ignore[no-untyped-def]
    viewer = user_key(gateway, "vera", "proxy_admin_viewer")
    sign_in(page, viewer)
    with held(gateway, agent, "not for everybody") as answer, browser.new_context(base_url=gateway.url) as other:
        shown = card(page, "not for everybody")
        expect(shown).to_contain_text("The rule names others")
        expect(shown.get_by_role("button")).to_have_count(0)
        shown.get_by_role("link", name="agnes asks").click()
        address = page.url
        csrf = page.locator("form.out input[name=csrf]").get_attribute("value")
        refused = page.request.post(
            f"{address}/vote", form={"csrf": csrf or "", "vote": "approve"}, headers={"origin": gateway.url}
        )
        assert refused.status == 403
        own = other.new_page()
        sign_in(own, agent)
        expect(card(own, "not for everybody")).to_contain_text("You asked for this yourself.")
        sign_in(own, rita)
        own.goto(address)
        own.get_by_role("button", name="Approve").click()
        assert answer.result().status_code == 200
        expect(own.get_by_role("heading", name="Approval")).to_contain_text(re.compile("approved|consumed"))


def test_what_a_prompt_says_is_only_ever_text(page: Page, gateway: Gateway, agent: str) -> None:
    sign_in(page)
    with held(gateway, agent, HOSTILE, **{"x-gatehouse-agent": HOSTILE, "x-gatehouse-session": "'\"><b>"}) as answer:
        expect(card(page, "document.title")).to_contain_text("<script>")
        for path in ("/governance", card(page, "document.title").get_by_role("link").first.get_attribute("href")):
            page.goto(path or "")
            expect(page.locator("main script, main img, main b b")).to_have_count(0)
            assert "taken" not in page.title()
        page.get_by_role("button", name="Reject").click()
        assert answer.result().status_code == 403


def test_calls_are_shown_with_a_seal_that_was_verified(page: Page, gateway: Gateway) -> None:
    ids = []
    with gateway.client() as client:
        for text in ("mail a@b.example", "nothing"):
            body = {"model": "demo", "messages": [{"role": "user", "content": text}]}
            ids.append(client.post("/v1/chat/completions", json=body).headers["x-gatehouse-call-id"])
    gateway.wait_settled()
    sign_in(page)
    page.get_by_role("link", name="Calls").click()
    expect(page.get_by_text("Verified").first).to_be_visible()
    expect(page.get_by_text("Broken")).to_have_count(0)
    page.goto(f"/governance/calls/{ids[0]}")
    expect(page.get_by_role("main")).to_contain_text("observed mail-is-noted")
    expect(page.get_by_role("main")).to_contain_text("hash, signature and key are right")
    page.goto("/governance/calls?rule=mail-is-noted&days=1")
    expect(page.locator(f"a[href='/governance/calls/{ids[0]}']")).to_have_count(1)
    expect(page.locator(f"a[href='/governance/calls/{ids[1]}']")).to_have_count(0)
    # Somebody changes the table that pages read: the ledger knows better.
    with psycopg.connect(gateway.database_url) as connection:
        connection.execute(
            "update gatehouse.calls set request = jsonb_set(request, '{model}', '\"gpt\"') where call_id = %s",
            (ids[1],),
        )
    page.goto(f"/governance/calls/{ids[1]}")
    expect(page.get_by_text("The ledger says another model")).to_be_visible()
    page.goto("/governance/calls")
    expect(page.get_by_text("Broken")).to_have_count(1)


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_its_screen(page: Page, gateway: Gateway, width: int, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    sign_in(page)
    for name in ("Inbox", "History", "Calls", "Spend", "Policy", "Health"):
        page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(name)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name


def test_signing_out_ends_the_session(page: Page, gateway: Gateway) -> None:
    sign_in(page, MASTER_KEY)
    cookies = page.context.cookies()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.context.add_cookies(cookies)  # type: ignore[arg-type]
    page.goto("/governance/calls")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_pictures_for_the_documentation(page: Page, gateway: Gateway, agent: str) -> None:
    page.set_viewport_size({"width": 1000, "height": 640})
    with gateway.client() as client:
        for _ in range(3):
            client.post("/v1/chat/completions", json={"model": "demo", "messages": [{"role": "user", "content": "hi"}]})
    gateway.wait_settled()
    sign_in(page)
    text = "Write to dana@mail.example that the order of 14 March is late, and offer her a refund."
    headers = {"x-gatehouse-agent": "support-bot", "x-gatehouse-session": "ticket-4711"}
    with held(gateway, agent, text, **headers) as answer:
        expect(card(page, "support-bot")).to_be_visible()
        page.screenshot(path=docs_picture("console-inbox.png"))
        card(page, "support-bot").get_by_role("button", name="Approve").click()
        assert answer.result().status_code == 200
    for name in ("Calls", "Spend", "Policy"):
        page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(name)
        page.screenshot(path=docs_picture(f"console-{name.lower()}.png"))
