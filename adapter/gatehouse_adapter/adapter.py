"""LiteLLMAdapter: the client through which an agent calls a gateway.

It promises typed results, errors that explain themselves, and that no call is carried out twice.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Literal, Self, overload
from urllib.parse import urlencode

import httpx

from gatehouse_adapter._internal import answers, chat, clock, settings, spend
from gatehouse_adapter._internal.breaker import Breaker
from gatehouse_adapter._internal.guard import Guard
from gatehouse_adapter._internal.sending import Sender, new_client
from gatehouse_adapter.errors import AuthenticationFailed, BadRequest, ConfigurationError, GatehouseError, Refused
from gatehouse_adapter.results import Approval, BudgetStatus, Completion, CostEstimate, Health, Model, UsageStats
from gatehouse_adapter.safety import SafetyConfig
from gatehouse_adapter.streams import ChatStream

__all__ = ["LiteLLMAdapter"]

_PROBE_SECONDS = 10.0
_MAX_DAYS = 3660

ApprovalMode = Literal["raise", "wait"]


class LiteLLMAdapter:
    """Call one gateway with asyncio. Use it as an async context manager, or call `aclose` at the end.

    Args:
        base_url: the gateway's address, with or without `/v1`; else LITELLM_BASE_URL.
        api_key: a virtual key or the master key; else LITELLM_MASTER_KEY. `master_key` is another name for it.
        timeout: seconds that one call may take in all, retries included. For a stream: until it begins, and then from
            chunk to chunk. Waiting for a person's approval does not count.
        max_retries: how often a call is sent again that no gateway has begun to carry out.
        safety: your own limits for every chat call. `safety_config` is another name for it.
        breaker_failure_threshold: failures of the gateway in a row (no connection, no answer in time, 5xx) after which
            nothing is sent for a while. A refusal is not a failure.
        breaker_recovery_seconds: the length of that while; then one call tries again.
        verify: a file of PEM certificates to trust, an SSL context, or False to trust every server.
        proxy: address of an HTTP proxy; else HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
        transport: an httpx transport to use instead of the network.
        http_client: an httpx client to use, with its proxies and certificates; it stays the caller's to close.

    Raises:
        ConfigurationError: the address or the key is missing, or an argument cannot be used.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 300.0,
        max_retries: int = 2,
        safety: SafetyConfig | None = None,
        breaker_failure_threshold: int = 5,
        breaker_recovery_seconds: float = 30.0,
        verify: ssl.SSLContext | str | bool = True,
        proxy: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        http_client: httpx.AsyncClient | None = None,
        master_key: str | None = None,
        safety_config: SafetyConfig | None = None,
    ) -> None:
        api_key = settings.one_of("api_key", api_key, "master_key", master_key)
        safety = settings.one_of("safety", safety, "safety_config", safety_config)
        if http_client is not None and not (transport is None and verify is True and proxy is None):
            raise ConfigurationError(
                "http_client was given together with transport, verify or proxy. Give those to the http_client."
            )
        if breaker_failure_threshold < 1 or not breaker_recovery_seconds > 0:
            raise ConfigurationError(
                "breaker_failure_threshold is below 1, or breaker_recovery_seconds not above 0. Leave them out for 5 "
                "and 30."
            )
        self._settings = settings.load(base_url=base_url, api_key=api_key, timeout=timeout, max_retries=max_retries)
        self._owns_client = http_client is None
        self._client = new_client(transport, verify=verify, proxy=proxy) if http_client is None else http_client
        breaker = Breaker(breaker_failure_threshold, breaker_recovery_seconds)
        self._sender = Sender(self._settings, self._client, breaker)
        guard = Guard(safety or SafetyConfig(), timeout=timeout)
        self._chat = chat.Chat(self._sender, guard, timeout=timeout)

    def __repr__(self) -> str:
        return f"LiteLLMAdapter(base_url={self._settings.base_url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections, also those of running streams, unless the http_client is the caller's."""
        await self._chat.aclose()
        if self._owns_client:
            await self._client.aclose()

    async def validate_proxy_health(self) -> Health:
        """Tell whether the gateway takes calls, by its two free probes; it calls no model and raises no error."""
        try:
            async with self._sender.deadline(min(self._settings.timeout, _PROBE_SECONDS)):
                readiness = await self._probe("/health/readiness")
                governance = await self._probe("/governance/v1/health")
        except GatehouseError as error:
            return Health(healthy=False, status="unreachable", reason=error.message, parts={})
        return answers.health(readiness, governance)

    async def get_available_models(self) -> tuple[Model, ...]:
        """Return the models that this key may call. Raise GatehouseError."""
        return await self._sender.ask("GET", "/v1/models", answers.models)

    @overload
    async def complete_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        model: str,
        *,
        stream: Literal[False] = False,
        approval: ApprovalMode = "raise",
        approval_timeout: float = 900.0,
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
        approval: ApprovalMode = "raise",
        approval_timeout: float = 900.0,
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
        approval: ApprovalMode = "raise",
        approval_timeout: float = 900.0,
        approval_id: str | None = None,
        **options: Any,
    ) -> Completion | ChatStream: ...

    async def complete_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        model: str,
        *,
        stream: bool = False,
        approval: ApprovalMode = "raise",
        approval_timeout: float = 900.0,
        approval_id: str | None = None,
        **options: Any,
    ) -> Completion | ChatStream:
        """Ask a model.

        Args:
            messages: in the format of the OpenAI chat API.
            model: an id from `get_available_models`; `litellm/` before it is left out.
            stream: return a ChatStream of pieces instead of the whole answer.
            approval: what to do if a person must approve first: `raise` ApprovalRequired, or `wait` for the decision.
            approval_timeout: the most seconds to wait; then ApprovalTimeout. It does not cancel the approval.
            approval_id: of an earlier approval: `error.approval.id`, or from `request_approval`.
            options: anything else of the OpenAI chat API, such as `temperature` or `tools`.

        Raises:
            GatehouseError: see gatehouse_adapter.errors. A stream also raises while it is read.
        """
        if approval not in ("raise", "wait"):
            raise ConfigurationError(f"approval is {approval!r}. Set it to 'raise' or to 'wait'.")
        body = chat.body_of(messages, model, stream=stream, options=options)
        seconds = approval_timeout if approval == "wait" else None
        return await self._chat.complete(body, approval_id=approval_id, wait_seconds=seconds)

    async def request_approval(
        self, messages: Sequence[Mapping[str, Any]], model: str, *, stream: bool = False, **options: Any
    ) -> Approval:
        """Ask people to approve exactly this call, and return at once; nothing is sent to a model.

        Once they have approved, the same call with `approval_id=approval.id` is admitted. Asking again for the same
        call returns the same approval. An administrator decides where no rule of the gateway names others.

        Args:
            stream: whether the call will be streamed; like all options it belongs to what is approved.

        Raises:
            GatehouseError: the gateway would refuse the call anyway, or cannot be asked.
        """
        return await self._chat.ask(chat.body_of(messages, model, stream=stream, options=options))

    async def get_approval(self, approval_id: str) -> Approval:
        """Return an approval. Raise BadRequest where this key can see none of that id."""
        return await self._chat.get_approval(approval_id)

    async def get_cost_estimate(
        self, messages: Sequence[Mapping[str, Any]], model: str, *, stream: bool = False, **options: Any
    ) -> CostEstimate:
        """Return the most that this call may cost, by the gateway's prices; it is not sent. Raise GatehouseError."""
        return await self._chat.estimate(chat.body_of(messages, model, stream=stream, options=options))

    async def check_budget_limit(self, limit: float | None = None) -> BudgetStatus:
        """Tell whether there is budget left: of this key, or of all keys with the master key.

        Args:
            limit: US dollars that you want to keep to, besides the key's own budget.

        Raises:
            GatehouseError: the gateway cannot be asked.
        """
        if limit is not None and not limit >= 0:
            raise BadRequest(f"limit is {limit}, not an amount of US dollars from 0 on. Nothing was sent.")
        return spend.within((await self._budget())[0], limit)

    async def get_usage_stats(self, days: int = 30) -> UsageStats:
        """Return the spend of the last days, today included (UTC): of this key, or of all keys with the master key.

        LiteLLM gives days and models only for keys that belong to a user. For another key `total_spend` is all that it
        ever spent, and the rest is None.

        Raises:
            GatehouseError: the gateway cannot be asked.
        """
        if not 1 <= days <= _MAX_DAYS:
            raise BadRequest(f"days is {days}, not from 1 to {_MAX_DAYS}. Nothing was sent.")
        found, key_hash = await self._budget()
        today = datetime.fromtimestamp(clock.now(), UTC).date()
        start, end = str(today - timedelta(days=days - 1)), str(today)
        query = {"start_date": start, "end_date": str(today + timedelta(days=1))} | (
            {"api_key": key_hash} if key_hash else {}
        )
        try:
            return await self._sender.ask(
                "GET",
                f"/spend/logs?{urlencode(query)}",
                lambda raw: spend.usage(raw, start=start, end=end, scope=found.scope),
                kind=list,
            )
        except AuthenticationFailed:
            # LiteLLM knows the key, because it has answered before.
            return spend.only_total(found)

    async def _budget(self) -> tuple[BudgetStatus, str | None]:
        """Return the spend, and the hash of the key; None for the master key, which has no entry in LiteLLM."""
        try:
            return await self._sender.ask("GET", "/key/info", lambda raw: (spend.of_key(raw), spend.key_hash(raw)))
        except Refused as error:
            if error.status != 404:
                raise
        return await self._sender.ask("GET", "/global/spend", spend.of_all), None

    async def _probe(self, path: str) -> tuple[int, dict[str, Any]]:
        status, body = await self._sender.probe(path)
        try:
            return status, answers.json_object(body)
        except ValueError:
            return status, {}
