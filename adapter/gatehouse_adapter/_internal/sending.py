"""Sends requests with httpx: the client set-up, the retry loop and the reading of bodies within a limit.

Every failure becomes one of the adapter's errors. A returned response is open; the receiver closes it.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar

import httpx

from gatehouse_adapter._internal import answers, clock, failures, retries
from gatehouse_adapter._internal.breaker import Breaker, Permit
from gatehouse_adapter._internal.settings import Settings
from gatehouse_adapter.errors import (
    BadRequest,
    CircuitOpen,
    ConfigurationError,
    ConnectionFailed,
    GatehouseError,
    InvalidResponse,
    TimedOut,
)

T = TypeVar("T")

MAX_BODY_BYTES = 64 * 1024 * 1024
_CONNECT_SECONDS = 10.0
# uvicorn closes connections that were idle for 5 s. Dropping them earlier avoids a call on a closing connection.
_KEEPALIVE_SECONDS = 3.0


def new_client(
    transport: httpx.AsyncBaseTransport | None, *, verify: ssl.SSLContext | str | bool = True, proxy: str | None = None
) -> httpx.AsyncClient:
    """Return an httpx client for one gateway.

    Raises:
        ConfigurationError: the certificates cannot be read, or the proxy is not an address.
    """
    if isinstance(verify, str):
        try:
            verify = ssl.create_default_context(cafile=verify)
        except (OSError, ValueError) as exc:
            raise ConfigurationError(
                f"The certificates {verify!r} cannot be read ({exc}). Set verify to a file of PEM certificates."
            ) from None
    limits = httpx.Limits(keepalive_expiry=_KEEPALIVE_SECONDS, max_connections=100, max_keepalive_connections=20)
    try:
        return httpx.AsyncClient(transport=transport, limits=limits, verify=verify, proxy=proxy)
    except (ValueError, httpx.InvalidURL):
        # Not quoted: it may hold a password.
        raise ConfigurationError("proxy is not an address. Set one such as http://127.0.0.1:3128.") from None
    except ImportError:
        raise ConfigurationError("A SOCKS proxy needs one more package. Install httpx[socks].") from None


class Sender:
    def __init__(self, settings: Settings, client: httpx.AsyncClient, breaker: Breaker) -> None:
        self._settings = settings
        self._breaker = breaker
        self._client = client

    @asynccontextmanager
    async def deadline(self, seconds: float) -> AsyncIterator[float]:
        """Yield a deadline on the monotonic clock, and end the block with TimedOut when it passes."""
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                yield clock.monotonic() + seconds
        except TimeoutError:
            if not limit.expired():
                raise
            raise TimedOut(
                f"{self._settings.base_url} did not answer within {seconds:g} s. "
                "Allow a longer timeout, or ask for a shorter answer."
            ) from None

    async def open(
        self,
        method: str,
        path: str,
        *,
        deadline: float,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        silence: float | None = None,
    ) -> httpx.Response:
        """Return a 2xx response whose body is still to be read. Retry what is safe, if the wait ends before `deadline`.

        Args:
            silence: seconds without a byte of the answer until it is given up; None for the timeout.
        """
        content = None if body is None else _encode(body)
        permit = self._permit()
        retries_allowed = 0 if permit is Permit.PROBE else self._settings.max_retries
        try:
            request = partial(self._request, method, path, content, headers, silence or self._settings.timeout)
            response = await self._attempts(request, deadline, retries_allowed)
        except GatehouseError as error:
            if _is_failure(error):
                self._breaker.failed(permit, clock.monotonic())
            else:
                self._breaker.succeeded(permit)
            raise
        except asyncio.CancelledError:
            if clock.monotonic() >= deadline:
                self._breaker.failed(permit, clock.monotonic())
            else:
                self._breaker.left(permit)
            raise
        except BaseException:
            self._breaker.left(permit)
            raise
        self._breaker.succeeded(permit)
        return response

    def _permit(self) -> Permit:
        now = clock.monotonic()
        permit = self._breaker.enter(now)
        if permit is not None:
            return permit
        wait = self._breaker.wait(now)
        raise CircuitOpen(
            f"{self._settings.base_url} failed several times in a row, so nothing was sent. "
            + (f"Try again in {wait:.0f} s." if wait else "Another call is trying now; try again soon."),
            retry_after=wait,
        )

    async def _attempts(
        self, new_request: Callable[[], httpx.Request], deadline: float, max_retries: int
    ) -> httpx.Response:
        attempt = 0
        while True:
            cause: httpx.HTTPError | None = None
            try:
                request = new_request()
                response = await self._client.send(request, stream=True, follow_redirects=False)
                if response.is_success:
                    return response
                failure = await self._refusal(response)
            except httpx.HTTPError as exc:
                cause, failure = exc, self.broken(exc)
            wait = retries.delay(failure, cause, attempt=attempt, jitter=clock.jitter())
            if attempt == max_retries or wait is None or clock.monotonic() + wait >= deadline:
                raise failure from cause
            await clock.sleep(wait)
            attempt += 1

    async def ask(
        self,
        method: str,
        path: str,
        read: Callable[[Any], T],
        *,
        kind: type[Any] = dict,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """Return what `read` makes of the JSON of a whole answer, within the timeout.

        Args:
            kind: the type that the JSON must have: dict or list.
        """
        async with self.deadline(self._settings.timeout) as deadline:
            response = await self.open(method, path, deadline=deadline, body=body, headers=headers)
            found = await self.read(response)
        with self.reading(response):
            return read(answers.json_value(found, kind))

    async def probe(self, path: str) -> tuple[int, bytes]:
        """Return status and body of one GET, whatever the status, without retries."""
        try:
            request = self._request("GET", path, None, None, self._settings.timeout)
            response = await self._client.send(request, stream=True, follow_redirects=False)
            return response.status_code, await self.read(response)
        except httpx.HTTPError as exc:
            raise self.broken(exc) from exc

    async def read(self, response: httpx.Response) -> bytes:
        """Read the whole body and close the response."""
        parts: list[bytes] = []
        size = 0
        try:
            with self.reading(response):
                async for part in response.aiter_bytes():
                    parts.append(part)
                    size += len(part)
                    if size > MAX_BODY_BYTES:
                        raise ValueError(f"it is longer than {MAX_BODY_BYTES} bytes")
        except httpx.HTTPError as exc:
            raise self.broken(exc, response) from exc
        finally:
            await response.aclose()
        return b"".join(parts)

    @contextmanager
    def reading(self, response: httpx.Response) -> Iterator[None]:
        """Turn the ValueErrors of an answer's reader into an InvalidResponse about the answer."""
        try:
            yield
        except ValueError as exc:
            kind = response.headers.get("content-type", "no content type")
            raise InvalidResponse(
                f"The answer of {self._settings.base_url} ({kind}) is not what a gateway sends: {exc}. "
                "Check the address, and look for a proxy that changes answers.",
                status=response.status_code,
                call_id=failures.call_id(response.headers),
            ) from None

    def broken(self, exc: httpx.HTTPError, response: httpx.Response | None = None) -> GatehouseError:
        """Return the error for a connection that failed, perhaps after `response` had begun."""
        return failures.from_transport(
            exc,
            base_url=self._settings.base_url,
            api_key=self._settings.api_key,
            status=None if response is None else response.status_code,
            call_id=None if response is None else failures.call_id(response.headers),
        )

    def error_inside(self, answer: Mapping[str, Any], response: httpx.Response) -> GatehouseError:
        """Return the error in an answer whose status is 2xx."""
        return failures.from_error_object(
            answer["error"],
            status=response.status_code,
            call_id=failures.call_id(response.headers),
            api_key=self._settings.api_key,
        )

    def _request(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str] | None, seconds: float
    ) -> httpx.Request:
        return self._client.build_request(
            method,
            self._settings.base_url + path,
            content=content,
            headers={
                "authorization": f"Bearer {self._settings.api_key}",
                "content-type": "application/json",
                "user-agent": "gatehouse-adapter",
                **(headers or {}),
            },
            timeout=httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS)),
        )

    async def _refusal(self, response: httpx.Response) -> GatehouseError:
        try:
            body = await self.read(response)
        except GatehouseError:
            body = b""  # the status alone says more than a truncated explanation
        return failures.from_answer(
            response.status_code,
            response.headers,
            body,
            base_url=self._settings.base_url,
            api_key=self._settings.api_key,
            now=clock.now(),
        )


def _is_failure(error: GatehouseError) -> bool:
    """Tell whether the gateway failed, and neither refused the call nor lacked a free connection here."""
    if isinstance(error.__cause__, httpx.PoolTimeout):
        return False
    return isinstance(error, ConnectionFailed | TimedOut) or (error.status is not None and error.status >= 500)


def _encode(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise BadRequest(
            f"The request cannot be written as JSON: {type(exc).__name__}: {exc}. Nothing was sent. "
            "Messages and options hold only text, numbers, booleans, lists and dicts."
        ) from exc
