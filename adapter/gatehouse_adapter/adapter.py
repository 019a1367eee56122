"""LiteLLMAdapter: what an agent talks to.

It promises typed results, errors that say what happened, and that no call is carried out twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, overload

import httpx

from gatehouse_adapter._internal import answers, failures, settings
from gatehouse_adapter._internal.sending import Sender, new_client
from gatehouse_adapter.errors import BadRequest, ConfigurationError, GatehouseError
from gatehouse_adapter.results import Completion, Health, Model
from gatehouse_adapter.streams import ChatStream

__all__ = ["LiteLLMAdapter"]

_PROBE_SECONDS = 10.0


class LiteLLMAdapter:
    """A client of one gateway, for asyncio. Use it as an async context manager, or call `aclose` at the end.

    Args:
        base_url: the gateway's address, with or without `/v1`; else LITELLM_BASE_URL.
        api_key: a virtual key or the master key; else LITELLM_MASTER_KEY.
        timeout: seconds that one call may take in all, retries included. For a stream: until it begins, and then from
            chunk to chunk.
        max_retries: how often a call is sent again that no gateway has begun to carry out.
        transport: an httpx transport to use instead of the network.
        http_client: an httpx client to use, with its proxies and certificates; it stays the caller's to close.

    Raises:
        ConfigurationError: no address or no key, or one that cannot be used.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 300.0,
        max_retries: int = 2,
        transport: httpx.AsyncBaseTransport | None = None,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        if transport is not None and http_client is not None:
            raise ConfigurationError(
                "transport and http_client were both given. Give the transport to the http_client."
            )
        self._settings = settings.load(base_url=base_url, api_key=api_key, timeout=timeout, max_retries=max_retries)
        self._owns_client = http_client is None
        self._client = new_client(transport) if http_client is None else http_client
        self._sender = Sender(self._settings, self._client)

    def __repr__(self) -> str:
        return f"LiteLLMAdapter(base_url={self._settings.base_url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes all connections, streams in progress included, unless the http_client is the caller's."""
        if self._owns_client:
            await self._client.aclose()

    async def validate_proxy_health(self) -> Health:
        """Whether the gateway takes calls, by its two free probes; no model is called and no error raised."""
        try:
            async with self._sender.deadline(min(self._settings.timeout, _PROBE_SECONDS)):
                readiness = await self._probe("/health/readiness")
                governance = await self._probe("/governance/v1/health")
        except GatehouseError as error:
            return Health(healthy=False, status="unreachable", reason=error.message, parts={})
        return answers.health(readiness, governance)

    async def get_available_models(self) -> tuple[Model, ...]:
        """The models that this key may call. Raises GatehouseError."""
        async with self._sender.deadline(self._settings.timeout) as deadline:
            response = await self._sender.open("GET", "/v1/models", deadline=deadline)
            body = await self._sender.read(response)
        with self._sender.reading(response):
            return answers.models(answers.json_object(body))

    @overload
    async def complete_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        model: str,
        *,
        stream: Literal[False] = False,
        approval_id: str | None = None,
        **options: Any,
    ) -> Completion: ...

    @overload
    async def complete_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        model: str,
        *,
        stream: Literal[True],
        approval_id: str | None = None,
        **options: Any,
    ) -> ChatStream: ...

    @overload
    async def complete_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        model: str,
        *,
        stream: bool,
        approval_id: str | None = None,
        **options: Any,
    ) -> Completion | ChatStream: ...

    async def complete_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        model: str,
        *,
        stream: bool = False,
        approval_id: str | None = None,
        **options: Any,
    ) -> Completion | ChatStream:
        """Asks a model.

        Args:
            messages: as the OpenAI chat API has them.
            model: an id out of `get_available_models`.
            stream: return a ChatStream of pieces instead of the whole answer.
            approval_id: `error.approval.id` of an ApprovalRequired, once the approval is granted.
            options: anything else of the OpenAI chat API, such as `temperature` or `tools`.

        Raises:
            GatehouseError: see gatehouse_adapter.errors. A stream also raises while it is read.
        """
        headers: dict[str, str] = {}
        if approval_id is not None:
            if not settings.is_header_value(approval_id):
                raise BadRequest("approval_id holds characters that no id has. Nothing was sent. Copy it again.")
            headers["x-gatehouse-approval"] = approval_id
        body = {**options, "model": model, "messages": list(messages)}
        if not stream:
            return await self._whole(body, headers)
        body = {"stream_options": {"include_usage": True}, **body, "stream": True}
        return await self._stream(body, headers)

    async def _whole(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> Completion:
        async with self._sender.deadline(self._settings.timeout) as deadline:
            response = await self._sender.open(
                "POST", "/v1/chat/completions", deadline=deadline, body=body, headers=headers
            )
            answer = await self._sender.read(response)
        with self._sender.reading(response):
            raw = answers.json_object(answer)
            if raw.get("error"):
                raise self._sender.error_inside(raw, response)
            return answers.completion(raw, response.headers, failures.call_id(response.headers))

    async def _stream(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> ChatStream:
        async with self._sender.deadline(self._settings.timeout) as deadline:
            response = await self._sender.open(
                "POST",
                "/v1/chat/completions",
                deadline=deadline,
                body=body,
                headers={**headers, "accept": "text/event-stream"},
            )
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "text/event-stream":
                answer = await self._sender.read(response)
                with self._sender.reading(response):
                    raw = answers.json_object(answer)
                    if raw.get("error"):
                        raise self._sender.error_inside(raw, response)
                    raise ValueError("a stream was asked for, and it is none")
        return ChatStream(response, self._sender, timeout=self._settings.timeout)

    async def _probe(self, path: str) -> tuple[int, dict[str, Any]]:
        status, body = await self._sender.probe(path)
        try:
            return status, answers.json_object(body)
        except ValueError:
            return status, {}
