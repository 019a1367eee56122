"""Sends an event to one address: a signed Standard Webhooks webhook, a Slack-compatible webhook, or an e-mail.

Promises: no redirect is followed, only the status of an answer is kept, an attempt ends in `SEND_TIMEOUT_S`, and
    neither
errors nor log lines name a secret. `gateway/notification_senders.py` makes the senders from policy.yaml.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from math import floor
from typing import Any, ClassVar, Final
from urllib.parse import SplitResult, unquote

import aiosmtplib
import httpx
from standardwebhooks import Webhook

from gatehouse.core.clock import now
from gatehouse.notifications.messages import Notice, mail, message, slack_body, webhook_body

SEND_TIMEOUT_S: Final = 15.0
"""The time limit of one whole attempt."""

# For each scheme of a mail server: whether TLS starts at once, whether STARTTLS is required, and the usual port.
SMTP_SCHEMES: Final = {"smtps": (True, False, 465), "smtp": (False, True, 587), "smtp+plaintext": (False, False, 25)}
_sending: ContextVar[bool] = ContextVar("gatehouse_notification", default=False)


class NotDelivered(Exception):
    """Report a failed attempt. The message may be stored: it holds no secret and no text of the receiver's.

    Attributes:
        retry_after_s: how long the receiver asks to wait.
    """

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Sender(ABC):
    """Send to one address.

    Attributes:
        name: the address's name in the outbox and the log; not secret.
        base_url: where people reach the gateway, without a slash at the end.
    """

    kind: ClassVar[str]
    name: str
    base_url: str

    @abstractmethod
    async def send(self, event: Notice) -> None:
        """Send an event to this address, in at most `SEND_TIMEOUT_S`.

        Raises:
            NotDelivered: the address did not accept it, or may not have.
        """


@dataclass(frozen=True, slots=True)
class WebhookSender(Sender):
    """Send a webhook as https://www.standardwebhooks.com defines it. Receivers know a repeat by the event's id."""

    kind = "webhook"
    url: str
    key: Webhook = field(repr=False)
    tls: ssl.SSLContext = field(repr=False)

    async def send(self, event: Notice) -> None:
        body, at = _json(webhook_body(event, self.base_url)), now()
        headers = {
            "webhook-id": event.id,
            "webhook-timestamp": str(floor(at.timestamp())),
            "webhook-signature": self.key.sign(event.id, at, body),
        }
        await _post(self.url, body, headers, self.tls)


@dataclass(frozen=True, slots=True)
class SlackSender(Sender):
    """Send to Slack's incoming webhooks or compatible ones. The address is its own secret."""

    kind = "slack"
    url: str = field(repr=False)
    tls: ssl.SSLContext = field(repr=False)

    async def send(self, event: Notice) -> None:
        await _post(self.url, _json(slack_body(message(event, self.base_url, now()))), {}, self.tls)


@dataclass(frozen=True, slots=True)
class EmailSender(Sender):
    """Send to one mailbox."""

    kind = "email"
    to: str
    sender: str
    server: SplitResult = field(repr=False)
    tls: ssl.SSLContext = field(repr=False)

    async def send(self, event: Notice) -> None:
        at, server = now(), self.server
        found = mail(event, message(event, self.base_url, at), sender=self.sender, to=self.to, now=at)
        use_tls, start_tls, port = SMTP_SCHEMES[server.scheme]
        client = aiosmtplib.SMTP(
            hostname=server.hostname,
            port=server.port or port,
            username=unquote(server.username) if server.username else None,
            password=unquote(server.password) if server.password else None,
            local_hostname=socket.gethostname(),
            timeout=SEND_TIMEOUT_S,
            use_tls=use_tls,
            start_tls=start_tls,
            tls_context=self.tls,
        )
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await client.connect()
                await client.send_message(found, sender=self.sender, recipients=[self.to])
        except (aiosmtplib.SMTPException, OSError) as error:
            raise NotDelivered(_smtp_reason(error)) from None
        else:
            with suppress(aiosmtplib.SMTPException, OSError):  # the server has accepted the mail already
                await client.quit(timeout=2)
        finally:
            client.close()


def _json(body: Mapping[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


async def _post(url: str, body: str, headers: Mapping[str, str], tls: ssl.SSLContext) -> None:
    _keep_addresses_out_of_the_log()
    quiet = _sending.set(True)
    try:
        async with (
            asyncio.timeout(SEND_TIMEOUT_S),
            httpx.AsyncClient(verify=tls, timeout=SEND_TIMEOUT_S, follow_redirects=False) as client,
            client.stream(
                "POST",
                url,
                content=body.encode(),
                headers={"content-type": "application/json", "user-agent": "gatehouse", **headers},
            ) as response,  # the answer's body is not read
        ):
            status, wanted = response.status_code, response.headers.get("retry-after")
    except TimeoutError:
        raise NotDelivered(f"no answer in {SEND_TIMEOUT_S:.0f} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise NotDelivered(type(error).__name__) from None
    finally:
        _sending.reset(quiet)
    if not 200 <= status < 300:
        raise NotDelivered(f"HTTP {status}", retry_after(wanted))


def retry_after(header: str | None) -> float:
    """Return the seconds of a Retry-After header (RFC 9110 section 10.2.3); 0 where it cannot be read."""
    if not header:
        return 0.0
    if header.strip().isascii() and header.strip().isdigit():
        return float(header.strip()[:9])
    try:
        return max(0.0, (parsedate_to_datetime(header) - now()).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _smtp_reason(error: Exception) -> str:
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused) and error.recipients:
        return f"SMTP {error.recipients[0].code}"
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"SMTP {error.code}"
    if isinstance(error, TimeoutError):
        return f"no answer in {SEND_TIMEOUT_S:.0f} s"
    if type(error) is aiosmtplib.SMTPException and "STARTTLS" in str(error):  # the library's message
        return "the mail server has no STARTTLS"
    return type(error).__name__


class _Unlogged(logging.Filter):
    """Keep httpx from logging the address of each request, because Slack's is a secret."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _sending.get()


def _keep_addresses_out_of_the_log() -> None:
    logger = logging.getLogger("httpx")
    if not any(isinstance(found, _Unlogged) for found in logger.filters):
        logger.addFilter(_Unlogged())
