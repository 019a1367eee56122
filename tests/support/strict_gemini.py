"""Imitates Gemini's generateContent: what it refuses, and how it answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.support import strict_seals as seals
from tests.support.strict_turns import Failure, Refused, Said, pieces, sse


def check(body: dict[str, Any]) -> None:
    """Refuse what Gemini refuses.

    Raises:
        Refused: says why.
    """
    contents = body["contents"]
    for at, content in enumerate(contents):
        if content.get("role") not in ("user", "model"):
            raise Refused("Please use a valid role: user, model.")
        if at and content["role"] == contents[at - 1]["role"]:
            raise Refused("Please ensure that multiturn requests alternate between user and model.")
        calls = [part for part in content["parts"] if _called(part)]
        for place, part in enumerate(content["parts"]):
            _check_signature(part, at, place, is_first=bool(calls) and part is calls[0])


def _check_signature(part: dict[str, Any], at: int, place: int, *, is_first: bool) -> None:
    signed = part.get("thoughtSignature")
    if signed is not None and not seals.is_encrypted("thought", signed):
        raise Refused("Corrupted thought signature.")
    if signed is None and is_first:
        name = _called(part)["name"]
        raise Refused(
            "Function call is missing a thought_signature in functionCall parts. This is required for tools to work "
            f"correctly. Additional data, function call `default_api:{name}`, position {at + 1}.{place}."
        )


def _called(part: dict[str, Any]) -> dict[str, Any]:
    """Return the function that a part calls; Gemini takes both spellings."""
    called: dict[str, Any] = part.get("functionCall") or part.get("function_call") or {}
    return called


def answer(said: Said, number: int) -> dict[str, Any]:
    """Return an answer."""
    return {
        "candidates": [{"index": 0, "content": {"role": "model", "parts": list(_parts(said))}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
        "modelVersion": "gemini-3-pro-preview",
        "responseId": f"gemini{number:018}",
    }


def _parts(said: Said) -> Iterator[dict[str, Any]]:
    for thought in said.thinking:
        yield {"text": thought, "thought": True}
    signature = {"thoughtSignature": seals.encrypted("thought", "".join(said.thinking) or "nothing")}
    if said.text:
        yield {"text": said.text} | ({} if said.calls else signature)
    for at, call in enumerate(said.calls):
        yield {"functionCall": {"name": call.name, "args": dict(call.arguments)}} | ({} if at else signature)


def events(whole: dict[str, Any], size: int) -> list[str]:
    """Return the stream of an answer."""
    made = []
    for part in whole["candidates"][0]["content"]["parts"]:
        cut = pieces(part["text"], size) if "text" in part else []
        made += [{**part, "text": piece} for piece in cut[:-1]] if cut else []
        made.append({**part, "text": cut[-1]} if cut else part)
    chunks = []
    for at, part in enumerate(made):
        if at < len(made) - 1 and "text" in part:
            part.pop("thoughtSignature", None)
        candidate = {"index": 0, "content": {"role": "model", "parts": [part]}}
        chunks.append({**whole, "candidates": [candidate | ({"finishReason": "STOP"} if at == len(made) - 1 else {})]})
    return [sse(chunk, named=False) for chunk in chunks]


def error(failure: Failure) -> dict[str, Any]:
    """Return the body of an error."""
    status = "INVALID_ARGUMENT" if failure.status == 400 else "INTERNAL"
    return {"error": {"code": failure.status, "message": failure.message, "status": status}}
