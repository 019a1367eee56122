"""LiteLLMAdapterSync: the adapter for code without asyncio, with the same names and the same promises.

It works in any thread. In one with a running event loop that loop waits meanwhile, so use LiteLLMAdapter there.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self, overload

from gatehouse_adapter._internal.background import run
from gatehouse_adapter.adapter import ApprovalMode, LiteLLMAdapter
from gatehouse_adapter.results import (
    Approval,
    BudgetStatus,
    ChatChunk,
    Completion,
    CostEstimate,
    Health,
    Model,
    UsageStats,
)
from gatehouse_adapter.safety import SafetyConfig
from gatehouse_adapter.streams import ChatStream

__all__ = ["ChatStreamSync", "LiteLLMAdapterSync"]


class ChatStreamSync:
    """Read a ChatStream as a plain iterator, once. Leaving the loop closes the connection."""

    def __init__(self, stream: ChatStream) -> None:
        self._stream = stream

    @property
    def call_id(self) -> str | None:
        """Return the gateway's id of the call; None when it gave none."""
        return self._stream.call_id

    def __iter__(self) -> Iterator[ChatChunk]:
        chunks = aiter(self._stream)
        try:
            while (chunk := run(_next(chunks))) is not None:
                yield chunk
        finally:
            run(_leave(chunks))
            self.close()

    def close(self) -> None:
        """Close the connection; a second time does nothing."""
        run(self._stream.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class LiteLLMAdapterSync:
    """Call one gateway. Use it as a context manager, or call `close` at the end; any thread may call it.

    The arguments are LiteLLMAdapter's, except `transport` and `http_client`, which belong to an event loop.

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
        master_key: str | None = None,
        safety_config: SafetyConfig | None = None,
    ) -> None:
        self._adapter = LiteLLMAdapter(
            base_url=base_url,
            api_key=api_key,
            timeout=timeout,
            max_retries=max_retries,
            safety=safety,
            breaker_failure_threshold=breaker_failure_threshold,
            breaker_recovery_seconds=breaker_recovery_seconds,
            verify=verify,
            proxy=proxy,
            master_key=master_key,
            safety_config=safety_config,
        )

    def __repr__(self) -> str:
        return repr(self._adapter).replace("LiteLLMAdapter", "LiteLLMAdapterSync", 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, also those of running streams."""
        run(self._adapter.aclose())

    def validate_proxy_health(self) -> Health:
        """Do as LiteLLMAdapter's."""
        return run(self._adapter.validate_proxy_health())

    def get_available_models(self) -> tuple[Model, ...]:
        """Do as LiteLLMAdapter's."""
        return run(self._adapter.get_available_models())

    @overload
    def complete_chat(
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
    def complete_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        model: str,
        *,
        stream: Literal[True],
        approval: ApprovalMode = "raise",
        approval_timeout: float = 900.0,
        approval_id: str | None = None,
        **options: Any,
    ) -> ChatStreamSync: ...

    @overload
    def complete_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        model: str,
        *,
        stream: bool,
        approval: ApprovalMode = "raise",
        approval_timeout: float = 900.0,
        approval_id: str | None = None,
        **options: Any,
    ) -> Completion | ChatStreamSync: ...

    def complete_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        model: str,
        *,
        stream: bool = False,
        approval: ApprovalMode = "raise",
        approval_timeout: float = 900.0,
        approval_id: str | None = None,
        **options: Any,
    ) -> Completion | ChatStreamSync:
        """Do as LiteLLMAdapter's; a stream is a plain iterator."""
        answer = run(
            self._adapter.complete_chat(
                messages,
                model,
                stream=stream,
                approval=approval,
                approval_timeout=approval_timeout,
                approval_id=approval_id,
                **options,
            )
        )
        return ChatStreamSync(answer) if isinstance(answer, ChatStream) else answer

    def request_approval(
        self, messages: Sequence[Mapping[str, Any]], model: str, *, stream: bool = False, **options: Any
    ) -> Approval:
        """Do as LiteLLMAdapter's."""
        return run(self._adapter.request_approval(messages, model, stream=stream, **options))

    def get_approval(self, approval_id: str) -> Approval:
        """Do as LiteLLMAdapter's."""
        return run(self._adapter.get_approval(approval_id))

    def get_cost_estimate(
        self, messages: Sequence[Mapping[str, Any]], model: str, *, stream: bool = False, **options: Any
    ) -> CostEstimate:
        """Do as LiteLLMAdapter's."""
        return run(self._adapter.get_cost_estimate(messages, model, stream=stream, **options))

    def check_budget_limit(self, limit: float | None = None) -> BudgetStatus:
        """Do as LiteLLMAdapter's."""
        return run(self._adapter.check_budget_limit(limit))

    def get_usage_stats(self, days: int = 30) -> UsageStats:
        """Do as LiteLLMAdapter's."""
        return run(self._adapter.get_usage_stats(days))


async def _next(chunks: Any) -> ChatChunk | None:
    """Return the next piece; None at the end, because StopAsyncIteration cannot travel between threads."""
    found: ChatChunk | None = await anext(chunks, None)
    return found


async def _leave(chunks: Any) -> None:
    with suppress(RuntimeError):  # it is still leaving a wait that was cut short
        await chunks.aclose()
