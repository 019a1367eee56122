"""Notifications go to a real mail server, encrypted where they must be, and callers write no header."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from gatehouse.core.clock import new_call_id, now
from gatehouse.gateway.notification_senders import addresses
from gatehouse.notifications import senders
from gatehouse.notifications.messages import Notice
from gatehouse.notifications.senders import NotDelivered, Sender
from gatehouse.policy.model import NotificationPolicy

from tests.support.mailbox import Mailbox, certificate

BOSS, GATE = "boss@example.com", "gate@example.com"
ENTRY = NotificationPolicy.model_validate({"type": "email", "to": BOSS, "from": GATE, "smtp_url_env": "SMTP_URL"})
LOGIN = ("gate@example.com", "p@ss word/%")
QUOTED = "gate%40example.com:p%40ss%20word%2F%25"
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # said by the test's server
Make = Callable[..., Awaitable[Mailbox]]


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("mail"))


@pytest.fixture
def trusted(pem: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the certificate, which the gateway trusts in this test."""
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    return pem


@pytest.fixture
async def mailbox() -> AsyncIterator[Make]:
    made: list[Mailbox] = []

    async def make(*arguments: Path, **options: Any) -> Mailbox:
        made.append(Mailbox(*arguments, **options))
        await made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.close()


def sender(url: str) -> Sender:
    return addresses([ENTRY], {"SMTP_URL": url})[0]


def event(**summary: str) -> Notice:
    return Notice("evt_1", "approval_requested", new_call_id(), now(), {"key_alias": "billing", **summary})


async def test_a_mail_says_who_asks_and_links_to_the_request(mailbox: Make) -> None:
    server, told = await mailbox(), event(reason="Zu teuer: 5 €")
    await sender(f"smtp+plaintext://127.0.0.1:{server.port}").send(told)
    ((mail_from, recipients, found),) = server.taken
    assert (mail_from, recipients) == (GATE, [BOSS])
    assert (found["Subject"], found["From"], found["To"]) == ("Approval wanted", GATE, BOSS)
    body = found.get_content()
    assert "Zu teuer: 5 €" in body
    assert f"http://127.0.0.1:4000/governance/approvals/{told.approval_id}" in body


@pytest.mark.parametrize("ending", ["\r\n", "\n", "\r", "\u2028", "\x85", "\0", "\r\n.\r\n"])
async def test_no_caller_adds_a_header_a_recipient_or_a_command(mailbox: Make, ending: str) -> None:
    server = await mailbox()
    hostile = f"gpt{ending}Bcc: victim@example.com{ending}RCPT TO:<victim@example.com>{ending}QUIT{ending}" + "é" * 100
    await sender(f"smtp+plaintext://127.0.0.1:{server.port}").send(event(model=hostile, agent=hostile, team=hostile))
    ((_, recipients, found),) = server.taken
    assert recipients == [BOSS]
    assert found["Bcc"] is None
    header, _, _ = server.raw[0].partition(b"\r\n\r\n")
    assert not any(line.startswith((b"Bcc", b"RCPT", b"QUIT")) for line in header.splitlines())
    assert not any(line.startswith(("Bcc", "RCPT", "QUIT")) for line in found.get_content().splitlines())


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_what_goes_over_a_network_is_encrypted(mailbox: Make, trusted: Path, scheme: str) -> None:
    server = await mailbox(trusted, wrapped=scheme == "smtps", login=LOGIN)
    await sender(f"{scheme}://{QUOTED}@127.0.0.1:{server.port}").send(event())
    assert server.encrypted == [True]


async def test_a_server_without_starttls_gets_neither_mail_nor_password(mailbox: Make) -> None:
    server = await mailbox(login=LOGIN)
    with pytest.raises(NotDelivered, match="has no STARTTLS"):
        await sender(f"smtp://{QUOTED}@127.0.0.1:{server.port}").send(event())
    assert server.taken == []


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_a_certificate_that_nobody_vouches_for_is_refused(mailbox: Make, pem: Path, scheme: str) -> None:
    server = await mailbox(pem, wrapped=scheme == "smtps")
    with pytest.raises(NotDelivered):
        await sender(f"{scheme}://127.0.0.1:{server.port}").send(event())
    assert server.taken == []


@pytest.mark.parametrize(
    ("answer", "reason"), [("451 later, says billing", "SMTP 451"), ("554 spam, says billing", "SMTP 554")]
)
async def test_a_refusal_keeps_no_word_of_the_server(mailbox: Make, answer: str, reason: str) -> None:
    server = await mailbox()
    server.answers = [answer]
    with pytest.raises(NotDelivered) as refused:
        await sender(f"smtp+plaintext://127.0.0.1:{server.port}").send(event())
    assert str(refused.value) == reason


async def test_a_wrong_password_is_told_without_it(
    mailbox: Make, trusted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = await mailbox(trusted, login=LOGIN)
    with pytest.raises(NotDelivered) as refused:
        await sender(f"smtp://someone:hunter2@127.0.0.1:{server.port}").send(event())
    assert str(refused.value) == "SMTP 535"
    ours = [each.getMessage() for each in caplog.records if not each.name.startswith("mail.")]  # aiosmtpd's own
    assert "hunter2" not in str(ours)


async def test_a_server_that_says_nothing_costs_one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "SEND_TIMEOUT_S", 0.3)
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with asyncio.timeout(20):
        with pytest.raises(NotDelivered, match="no answer"):
            await sender(f"smtp+plaintext://127.0.0.1:{port}").send(event())
    server.close()
    for writer in held:
        writer.close()


async def test_a_server_that_is_not_there_is_told(mailbox: Make) -> None:
    server = await mailbox()
    server.close()
    with pytest.raises(NotDelivered, match="SMTPConnectError"):
        await sender(f"smtp+plaintext://127.0.0.1:{server.port}").send(event())
