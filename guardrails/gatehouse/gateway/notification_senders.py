"""Makes senders from policy.yaml's `notifications` and from the environment, which holds their secrets.

A missing or malformed variable keeps the gateway from starting; no message quotes its value.
"""

from __future__ import annotations

import binascii
import ssl
from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

import httpx
from standardwebhooks import Webhook

from gatehouse.core.errors import SetupError
from gatehouse.notifications.senders import SMTP_SCHEMES, EmailSender, Sender, SlackSender, WebhookSender
from gatehouse.policy.model import NotificationPolicy

DEFAULT_PUBLIC_URL: Final = "http://127.0.0.1:4000"
_SECRET_BYTES: Final = range(24, 65)  # Standard Webhooks, "Signature scheme"


def addresses(entries: Iterable[NotificationPolicy], environ: Mapping[str, str]) -> tuple[Sender, ...]:
    """Return policy.yaml's addresses with their secrets.

    Raises:
        SetupError: a variable that policy.yaml names is missing or malformed.
    """
    tls, base_url = httpx.create_ssl_context(), public_url(environ)
    made = [_sender(each, environ, base_url, tls) for each in entries]
    urls = [each.url for each in made if isinstance(each, SlackSender)]
    if len(set(urls)) < len(urls):
        raise SetupError("notifications: two variables hold the same Slack address. Leave one of them out.")
    return tuple(made)


def public_url(environ: Mapping[str, str]) -> str:
    """Return where people reach the gateway: `GATEHOUSE_PUBLIC_URL`, without a slash at the end.

    Raises:
        SetupError: it is not an address.
    """
    url = environ.get("GATEHOUSE_PUBLIC_URL", "").strip().rstrip("/") or DEFAULT_PUBLIC_URL
    if not _is_http(url) or any(char in url for char in "?#@<>|"):
        raise SetupError(
            f"GATEHOUSE_PUBLIC_URL: {url!r} is not an address of the gateway. Set one such as https://gate.example."
        )
    return url


def _sender(entry: NotificationPolicy, environ: Mapping[str, str], base_url: str, tls: ssl.SSLContext) -> Sender:
    def secret(variable: str | None) -> str:
        if variable and (value := environ.get(variable, "").strip()):
            return value
        raise SetupError(f"notifications: {variable}, which {entry.name} needs, is not set. Put it into .env.")

    if entry.type == "webhook":
        return WebhookSender(entry.name, base_url, str(entry.url), _key(entry, secret(entry.secret_env)), tls)
    if entry.type == "slack":
        url = secret(entry.url_env)
        if not _is_http(url):
            raise SetupError(f"notifications: {entry.url_env} holds no address. Put the webhook's https://... into it.")
        return SlackSender(entry.name, base_url, url, tls)
    server = _server(entry, secret(entry.smtp_url_env))
    return EmailSender(entry.name, base_url, str(entry.to), str(entry.sender), server, tls)


def _key(entry: NotificationPolicy, secret: str) -> Webhook:
    try:
        key = b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) not in _SECRET_BYTES or not secret.startswith("whsec_"):
        raise SetupError(
            f"notifications: {entry.secret_env} is not a signing key. Put whsec_ and the base64 of 24 to 64 random "
            'bytes into it: echo "whsec_$(openssl rand -base64 32)".'
        )
    return Webhook(key)


def _server(entry: NotificationPolicy, url: str) -> SplitResult:
    try:
        server = urlsplit(url)
        usable = server.scheme in SMTP_SCHEMES and bool(server.hostname) and server.port != 0 and url.isprintable()
    except ValueError:
        usable = False
    if not usable:
        raise SetupError(
            f"notifications: {entry.smtp_url_env} names no mail server. Put smtps://user:password@host:465, "
            "smtp://user:password@host:587 (with STARTTLS) or smtp+plaintext://host:25 into it."
        )
    if server.password and server.scheme == "smtp+plaintext":
        raise SetupError(
            f"notifications: {entry.smtp_url_env} would send a password in the clear. Use smtp:// or smtps://."
        )
    return server


def _is_http(url: str) -> bool:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parts.scheme in ("http", "https") and bool(parts.host) and url.isprintable() and " " not in url
