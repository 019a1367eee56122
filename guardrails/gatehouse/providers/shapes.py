"""Makes LiteLLM's shapes of an answer from Gatehouse's values and from each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gatehouse.providers.values import Piece


def chunk(piece: Piece, index: int) -> dict[str, object]:
    """Return one step of a stream; `index` counts the tool calls before it."""
    if isinstance(piece, str):
        return _chunk(piece, None)
    return _chunk("", piece.as_openai(index))


def last_chunk(finish_reason: str, usage: Mapping[str, int] | None) -> dict[str, object]:
    """Return the last step of a stream."""
    return {"text": "", "is_finished": True, "finish_reason": finish_reason, "usage": usage, "index": 0}


def chunks_of(answer: Any) -> Iterator[dict[str, object]]:
    """Yield a whole answer (a `ModelResponse`) as a stream: the first choice's text, its tool calls, its end."""
    choice = answer.choices[0]
    if choice.message.content:
        yield _chunk(choice.message.content, None)
    for index, call in enumerate(choice.message.tool_calls or ()):
        yield _chunk("", {**call.model_dump(), "index": index})
    usage = getattr(answer, "usage", None)
    counted = usage and {name: getattr(usage, name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    yield last_chunk(choice.finish_reason or "stop", counted or None)


def _chunk(text: str, tool: Mapping[str, object] | None) -> dict[str, object]:
    return {"text": text, "tool_use": tool, "is_finished": False, "finish_reason": "", "usage": None, "index": 0}
