"""Lets commands talk to a gateway: finds its address and key, and turns every failure into one sentence.

Promises: a key found in `.env` goes only to that stack's own gateway.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from gatehouse.core.errors import SetupError
from gatehouse.core.home import find_home
from gatehouse.core.text import printable
from gatehouse.embedded import envfile
from gatehouse.embedded.settings import read_settings

URL_NAMES: Final = ("GATEHOUSE_URL", "LITELLM_BASE_URL")
KEY_NAMES: Final = ("GATEHOUSE_API_KEY", "LITELLM_MASTER_KEY")
# Longer than the gateway's longest silence on a stream of events.
TIMEOUT: Final = httpx.Timeout(60, connect=10)


class GatewayAway(SetupError):
    """Report that the gateway is unreachable or cannot answer now, so a retry may help."""


def address(url: str | None, key: str | None, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the URL and the key: as given, else from the environment, else of the embedded stack.

    Raises:
        SetupError: one is missing or malformed.
    """
    url = url or next((environ[name] for name in URL_NAMES if environ.get(name)), None)
    key = key or next((environ[name] for name in KEY_NAMES if environ.get(name)), None)
    if url is None:
        home = find_home(environ, Path.cwd())
        values = envfile.load(home)
        url = read_settings(home, values).gateway_url
        key = key or values.get("LITELLM_MASTER_KEY")
    if not key:
        raise SetupError(f"key: none is set for {printable(url)}. Set {KEY_NAMES[0]} to a key of your own user.")
    if not (key.isascii() and key.isprintable()):
        raise SetupError("key: it has characters that no key has. Copy it again, without line breaks.")
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise SetupError(f"url: {printable(url)!r} is not an http address. Give one such as http://127.0.0.1:4000.")
    return url.rstrip("/").removesuffix("/v1"), key


class GatewayClient:
    """Send requests to a gateway, whose answers are JSON objects."""

    def __init__(self, url: str, key: str, transport: httpx.BaseTransport | None = None) -> None:
        self._url = url
        self._http = httpx.Client(
            base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=TIMEOUT, transport=transport
        )

    def __enter__(self) -> GatewayClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send one request and return the answer.

        Raises:
            GatewayAway: the gateway is unreachable, or cannot answer now.
            SetupError: the gateway refuses; the message is its own.
        """
        with self._failures():
            answer = self._http.request(method, path, **options)
            self._check(answer)
            return self._object(answer.text)

    @contextmanager
    def events(self, path: str) -> Iterator[Iterator[tuple[str, dict[str, Any]]]]:
        """Yield the name and data of server-sent events as they arrive.

        Raises:
            GatewayAway: the stream breaks off, also while it is read.
            SetupError: as `ask`.
        """
        with self._failures(), self._http.stream("GET", path) as answer:
            if answer.status_code != 200:
                answer.read()
            self._check(answer)
            yield self._events(answer)

    def _events(self, answer: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
        name = ""
        for line in answer.iter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, self._object(value)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (httpx.TransportError, httpx.StreamError) as error:
            why = printable(error) or type(error).__name__
            raise GatewayAway(f"{printable(self._url)}: {why}. Check the address, and that the gateway runs.") from None
        except httpx.HTTPError as error:
            raise SetupError(
                f"{printable(self._url)}: {printable(error)}. Check that it is a gateway's address."
            ) from None

    def _check(self, answer: httpx.Response) -> None:
        status = answer.status_code
        if status == 200:
            return
        try:
            reason = json.loads(answer.text)["error"]["message"]
        except (ValueError, LookupError, TypeError, RecursionError):
            reason = f"it answered {status}. Check that it is a gateway's address."
        if status == 401:
            reason = "it does not know the key. Set GATEHOUSE_API_KEY to a key of this gateway."
        kind = GatewayAway if status in (502, 503, 504) else SetupError
        raise kind(f"{printable(self._url)}: {printable(reason)[:1_000]}")

    def _object(self, text: str) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise SetupError(f"{printable(self._url)}: its answer is not a JSON object. Check that it is a gateway.")
        return found
