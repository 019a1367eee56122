"""Starts a gateway with rules that ask people, and a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.support.gateway import MASTER_KEY, Gateway, config_with_upstream
from tests.support.postgres import Postgres
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream

CHROMIUM = os.environ.get("GATEHOUSE_CHROMIUM") or shutil.which("chromium")

_POLICY = """
version: 1
pii: {mode: mask, entities: {EMAIL_ADDRESS: mask}}
rules:
  - id: humans-first
    when: request.model == "up-chat" && caller.team != "pairs"
    then: require_approval
    reason: A person looks at these.
    approvers: {roles: [proxy_admin], users: [rita], hold: 60s}
  - id: four-eyes
    when: request.model == "up-chat" && caller.team == "pairs"
    then: require_approval
    approvers: {roles: [proxy_admin], users: [rita], count: 2, hold: 60s}
  - id: mail-is-noted
    mode: observe
    when: pii.EMAIL_ADDRESS > 0
    then: deny
"""


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("console")
    (folder / "policy.yaml").write_text(_POLICY)
    postgres, redis, upstream = Postgres(), Redis(), Upstream()
    server = Gateway(
        postgres.create_database(),
        redis.port,
        config=config_with_upstream(upstream.url, folder),
        policy=folder / "policy.yaml",
        environ={"GATEHOUSE_SETTLE_GRACE_SECONDS": "1"},
    )
    try:
        yield server.start()
    finally:
        server.close()
        upstream.close()
        redis.close()
        postgres.close()


@pytest.fixture(scope="session")
def rita(gateway: Gateway) -> str:
    """Return the key of a person whom the rules name and who is no administrator."""
    return user_key(gateway, "rita", "internal_user")


@pytest.fixture(scope="session")
def agent(gateway: Gateway) -> str:
    """Return the key of an agent that asks."""
    return user_key(gateway, "agnes", "internal_user")


def user_key(gateway: Gateway, user: str, role: str) -> str:
    """Return a key of a new user."""
    with gateway.client() as client:
        answer = client.post("/user/new", json={"user_id": user, "user_role": role, "auto_create_key": False})
        answer.raise_for_status()
    return gateway.new_key(user_id=user, key_alias=f"{user}-key")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a browser, not for the session: while Playwright runs, no other test can run a loop in this thread."""
    if not CHROMIUM:
        pytest.skip("no Chromium is on the PATH: apt install chromium, or name one in GATEHOUSE_CHROMIUM")
    with sync_playwright() as playwright:
        # Chromium's sandbox wants a user of its own, which CI has not.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        with playwright.chromium.launch(executable_path=CHROMIUM, args=arguments) as launched:
            yield launched


@pytest.fixture
def context(browser: Browser, gateway: Gateway) -> Iterator[BrowserContext]:
    expect.set_options(timeout=30_000)
    with browser.new_context(base_url=gateway.url) as opened:
        yield opened


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """Yield a page that fails its test when a script breaks or violates the security policy."""
    complaints: list[str] = []
    opened = context.new_page()
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda line: "Content Security Policy" in line.text and complaints.append(line.text))
    yield opened
    assert complaints == []


def sign_in(page: Page, key: str = MASTER_KEY) -> None:
    """Sign in through the form, as a person does."""
    page.context.clear_cookies()
    page.goto("/governance/sign-in")
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Inbox")).to_be_visible()


def docs_picture(name: str) -> Path | None:
    """Return where a picture for the documentation goes; None unless GATEHOUSE_DOCS_PICTURES names a folder."""
    folder = os.environ.get("GATEHOUSE_DOCS_PICTURES")
    return Path(folder) / name if folder else None
