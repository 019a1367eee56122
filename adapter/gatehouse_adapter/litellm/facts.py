"""Extracts what the gateway is told of an answer: model, tokens, cost, the model's text, the tools it calls."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import litellm

_MAX_NAME_CHARS = 256  # that the gateway takes
log = logging.getLogger("gatehouse_adapter.litellm")


def snapshot(answer: Any) -> Mapping[str, Any]:
    """Do as `of_answer`, but return nothing where LiteLLM cannot read the answer: a report must not fail a call."""
    try:
        return of_answer(answer)
    except Exception as exc:
        log.warning("a call is reported without its tokens and cost: %s", type(exc).__name__)
        return {}


def of_answer(answer: Any) -> Mapping[str, Any]:
    """Return the facts of a whole answer, before placeholders are replaced: their values stay here."""
    messages = [choice.message for choice in answer.choices]
    texts = [message.content for message in messages if isinstance(message.content, str)]
    names = [call.function.name for message in messages for call in message.tool_calls or ()]
    said = "\n".join(texts).encode("utf-8", "replace").decode()  # without lone surrogates
    return {
        "model": str(answer.model or "")[:_MAX_NAME_CHARS] or None,
        "usage": _usage(getattr(answer, "usage", None)),
        "cost_usd": _cost(answer),
        "answer": said or None,
        "tool_calls": [{"name": name[:_MAX_NAME_CHARS]} for name in names if name],
    }


def of_chunks(chunks: Sequence[Any], messages: Any) -> Mapping[str, Any]:
    """Return the facts of a stream, also of an incomplete one. Tokens that the provider did not count are counted."""
    if not chunks:
        return {}
    for chunk in chunks:
        # LiteLLM's sign that the provider counted nothing, which keeps LiteLLM from counting by itself.
        hidden = getattr(chunk, "_hidden_params", None) or {}
        if "usage" in hidden and not getattr(hidden["usage"], "total_tokens", 0):
            del hidden["usage"]
    answer = litellm.stream_chunk_builder(list(chunks), messages=messages)
    return of_answer(answer) if answer is not None else {}


def _usage(usage: Any) -> dict[str, int] | None:
    if usage is None:
        return None
    return {name: int(getattr(usage, name, 0) or 0) for name in ("prompt_tokens", "completion_tokens")}


def _cost(answer: Any) -> float | None:
    """Return US dollars; None for a model without a price."""
    hidden = getattr(answer, "_hidden_params", None) or {}
    cost = hidden.get("response_cost")
    if cost is None:
        try:
            cost = litellm.completion_cost(completion_response=answer)
        except Exception:  # LiteLLM raises where it has no price
            return None
    return float(cost) if isinstance(cost, int | float) and math.isfinite(cost) else None
