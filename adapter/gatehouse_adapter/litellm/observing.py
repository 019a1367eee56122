"""Audits as LiteLLM's callback: reports calls that were made without the governor to the gateway, afterwards.

The gateway decides on such a call as on any other, and seals it. A call that it would have refused is sealed as refused
and logged as a warning, although it was made.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from gatehouse_adapter.errors import ApprovalRequired, BadRequest, RateLimited, Refused
from gatehouse_adapter.litellm import facts
from gatehouse_adapter.litellm.endpoint import Endpoint
from gatehouse_adapter.litellm.options import GovernorConfig
from gatehouse_adapter.litellm.reporting import Facts, Telling
from gatehouse_adapter.litellm.requests import MARK, Request, prepare

log = logging.getLogger("gatehouse_adapter.litellm")

_CALLS: Final = frozenset({"completion", "acompletion"})
# The options to report besides model and messages. LiteLLM may have turned the others into what only a provider knows.
_OPTIONS: Final = "max_tokens max_completion_tokens temperature tools tool_choice user stream n".split()


@dataclass(frozen=True, slots=True)
class Observed:
    """Hold a call as LiteLLM logged it."""

    request: Request = field(repr=False)
    told: Mapping[str, Any]
    facts: Facts = field(repr=False)


def observe(
    kwargs: Mapping[str, Any], answer: Any, start: Any, end: Any, *, failed: bool, options: GovernorConfig
) -> Observed | None:
    """Return what to report of LiteLLM's event; None for calls that a governor made, and for events without a chat."""
    settings = kwargs.get("litellm_params") or {}
    if kwargs.get("call_type") not in _CALLS or MARK in (settings.get("metadata") or {}):
        return None
    model, provider = str(kwargs.get("model") or ""), kwargs.get("custom_llm_provider")
    given = {name: value for name in _OPTIONS if (value := (kwargs.get("optional_params") or {}).get(name)) is not None}
    given |= {"stream": True} if kwargs.get("stream") else {}
    full = model if not provider or model.startswith(f"{provider}/") else f"{provider}/{model}"
    try:
        request = prepare({**given, "model": full, "messages": kwargs.get("messages") or []}, options)
    except BadRequest as error:
        log.error("a call made without the governor is not reported: %s", error)
        return None
    told: dict[str, Any] = {
        "status": "failure" if failed else "success",
        "error": type(kwargs.get("exception")).__name__ if failed else None,
        "latency_ms": round((end - start).total_seconds() * 1000),
    }
    return Observed(request, told, dict if failed or answer is None else partial(facts.of_answer, answer))


class Observing:
    """Report one call: first ask for a decision, which changes nothing any more, then send the report."""

    def __init__(self, options: GovernorConfig, endpoint: Endpoint, observed: Observed) -> None:
        self._options = options
        self._endpoint = endpoint
        self._observed = observed
        self._telling: Telling | None = None

    async def __call__(self) -> None:
        seconds, seen = self._options.call_timeout_seconds, self._observed
        if self._telling is None:
            try:
                decision = await self._endpoint.decide(seen.request, seconds=seconds)
            except RateLimited:
                raise
            except Refused as refused:
                log.warning("a call was made that the gateway refuses: %s", refused)
                if isinstance(refused, ApprovalRequired) and refused.approval is not None:
                    await self._endpoint.cancel(refused.approval.id, seconds=seconds)
                return
            told = {"call_id": decision.call_id, **seen.told}
            self._telling = Telling(self._options, self._endpoint, told, seen.facts)
        if (withheld := await self._telling()) is not None:
            log.warning("an answer was used that the gateway withholds: %s", withheld.get("code"))
