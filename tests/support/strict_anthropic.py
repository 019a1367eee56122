"""Imitates Anthropic's /v1/messages: what it refuses, and how it answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.support import strict_seals as seals
from tests.support.strict_turns import Failure, Refused, Said, compact, pieces, refuse_unknown, sse

_FIELDS = frozenset(
    """
    model messages max_tokens system tools tool_choice stop_sequences stream temperature top_k top_p metadata thinking
    mcp_servers context_management container service_tier output_config output_format betas speed inference_geo
    cache_control
    """.split()
)
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_CHANGED = (
    "messages.{}.content.{}: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be "
    "modified. These blocks must remain as they were in the original response."
)
_UNLIKE = "messages.{}.content.{}: Invalid `{}` in `{}` block"


def check(body: dict[str, Any], headers: dict[str, str]) -> None:
    """Refuse what Anthropic refuses.

    Raises:
        Refused: says why.
    """
    if "anthropic-version" not in headers:
        raise Refused("anthropic-version: header is required")
    refuse_unknown(body, _FIELDS, "{}: Extra inputs are not permitted")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused("messages: at least one message is required")
    for at, message in enumerate(messages):
        if set(message) - {"role", "content"}:
            raise Refused(f"messages.{at}.{min(set(message) - {'role', 'content'})}: Extra inputs are not permitted")
        if message["role"] not in ("user", "assistant"):
            raise Refused(f'messages: Unexpected role "{message["role"]}".')
    if messages[0]["role"] != "user":
        raise Refused('messages: first message must use the "user" role')
    _check_thinking_settings(body)
    latest = max((at for at, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    for at, message in enumerate(messages):
        for place, block in enumerate(_blocks(message)):
            _check_block(block, at, place, latest)
    _check_tools(messages)
    _check_begins_with_thinking(body, messages)


def _check_thinking_settings(body: dict[str, Any]) -> None:
    thinking = body.get("thinking") or {}
    if thinking.get("type") != "enabled":
        return
    if not thinking.get("budget_tokens", 0) >= 1024:
        raise Refused("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if body.get("max_tokens", thinking["budget_tokens"] + 1) <= thinking["budget_tokens"]:
        raise Refused("`max_tokens` must be greater than `thinking.budget_tokens`.")
    if body.get("temperature", 1) != 1:
        raise Refused("`temperature` may only be set to 1 when thinking is enabled.")


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _check_block(block: dict[str, Any], at: int, place: int, latest: int) -> None:
    kind = block["type"]
    changed = _CHANGED.format(at, place) if at == latest else None
    if kind == "text":
        if not block["text"]:
            raise Refused("messages: text content blocks must be non-empty")
        for index, citation in enumerate(block.get("citations") or ()):
            if not seals.is_encrypted("index", citation.get("encrypted_index")):
                raise Refused(f"messages.{at}.content.{place}.citations.{index}: Invalid `encrypted_index`")
    elif kind == "thinking":
        if block.get("signature") != seals.signature(block["thinking"]):
            raise Refused(changed or _UNLIKE.format(at, place, "signature", kind))
    elif kind == "redacted_thinking":
        if not seals.is_encrypted("redacted", block.get("data")):
            raise Refused(changed or _UNLIKE.format(at, place, "data", kind))
    elif kind == "compaction":
        if block.get("signature") is not None and block["signature"] != seals.signature(block["content"]):
            raise Refused(_UNLIKE.format(at, place, "signature", kind))
    elif kind == "web_search_tool_result":
        for found in block["content"]:
            if not seals.is_encrypted("search", found.get("encrypted_content")):
                raise Refused(f"messages.{at}.content.{place}: Invalid `encrypted_content` in `search_result` block")
    elif kind in ("tool_use", "tool_result", "server_tool_use"):
        name = "tool_use_id" if kind == "tool_result" else "id"
        if not _ID.fullmatch(block[name]):
            raise Refused(
                f"messages.{at}.content.{place}.{kind}.{name}: String should match pattern '^[a-zA-Z0-9_-]+$'"
            )


def _check_tools(messages: list[dict[str, Any]]) -> None:
    for at, message in enumerate(messages):
        asked = [block["id"] for block in _blocks(message) if block["type"] == "tool_use"]
        after = messages[at + 1] if at + 1 < len(messages) else {"content": []}
        answered = [block["tool_use_id"] for block in _blocks(after) if block["type"] == "tool_result"]
        if missing := [each for each in asked if each not in answered]:
            raise Refused(
                f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the "
                "next message."
            )
        if left := [each for each in answered if each not in asked]:
            raise Refused(
                f"messages.{at + 1}.content.0: unexpected `tool_use_id` found in `tool_result` blocks: "
                f"{', '.join(left)}. Each `tool_result` block must have a corresponding `tool_use` block in the "
                "previous message."
            )


def _check_begins_with_thinking(body: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    """Refuse a turn that goes on behind tools without the thoughts before them."""
    if (body.get("thinking") or {}).get("type") != "enabled" or len(messages) < 2:
        return
    before = _blocks(messages[-2]) if messages[-2]["role"] == "assistant" else []
    first = before[0]["type"] if before else ""
    if any(block["type"] == "tool_use" for block in before) and first not in ("thinking", "redacted_thinking"):
        raise Refused(
            f"messages.{len(messages) - 2}.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
            f"`{first}`. When `thinking` is enabled, a final `assistant` message must start with a thinking block."
        )


def answer(body: dict[str, Any], said: Said, number: int) -> dict[str, Any]:
    """Return a message."""
    content = list(_content(said, number))
    return {
        "id": f"msg_{number:024}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": "tool_use" if said.calls else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 3,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 2,
            "service_tier": "standard",
        },
    }


def _content(said: Said, number: int) -> Iterator[dict[str, Any]]:
    if said.compaction is not None:
        yield {"type": "compaction", "content": said.compaction}
    for thought in said.thinking:
        yield {"type": "thinking", "thinking": thought, "signature": seals.signature(thought)}
    for thought in said.redacted:
        yield {"type": "redacted_thinking", "data": seals.encrypted("redacted", thought)}
    citations = None
    if said.searches is not None:
        search = f"srvtoolu_{number:020}"
        page = {"url": "https://example.com/page", "title": "A page"}
        yield {"type": "server_tool_use", "id": search, "name": "web_search", "input": {"query": said.searches}}
        found = {"type": "web_search_result", **page, "encrypted_content": seals.encrypted("search", said.searches)}
        yield {"type": "web_search_tool_result", "tool_use_id": search, "content": [found | {"page_age": None}]}
        index = seals.encrypted("index", said.searches)
        cited = {"type": "web_search_result_location", **page, "encrypted_index": index, "cited_text": "A page says so"}
        citations = {"citations": [cited]}
    if said.text:
        yield {"type": "text", "text": said.text, **(citations or {})}
    for at, call in enumerate(said.calls):
        yield {
            "type": "tool_use",
            "id": f"toolu_{number:020}{at:02}",
            "name": call.name,
            "input": dict(call.arguments),
        }


# How a block begins, by its type: the fields that come in pieces are empty.
_BEGUN: dict[str, dict[str, Any]] = {
    "text": {"text": ""},
    "thinking": {"thinking": "", "signature": ""},
    "tool_use": {"input": {}},
    "server_tool_use": {"input": {}},
    "compaction": {"content": None},
}


def events(message: dict[str, Any], size: int) -> list[str]:
    """Return the stream of a message."""
    begun = message | {"content": [], "stop_reason": None, "usage": message["usage"] | {"output_tokens": 1}}
    made: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    for index, block in enumerate(message["content"]):
        start = {name: value for name, value in block.items() if name != "citations"} | _BEGUN.get(block["type"], {})
        made.append({"type": "content_block_start", "index": index, "content_block": start})
        if index == 0:
            made.append({"type": "ping"})
        made += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in _deltas(block, size)]
        made.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    made.append({"type": "message_delta", "delta": ended, "usage": {"output_tokens": 2}})
    made.append({"type": "message_stop"})
    return [sse(event) for event in made]


def _deltas(block: dict[str, Any], size: int) -> Iterator[dict[str, Any]]:
    kind = block["type"]
    if kind == "text":
        for citation in block.get("citations") or ():
            yield {"type": "citations_delta", "citation": citation}
        for piece in pieces(block["text"], size):
            yield {"type": "text_delta", "text": piece}
    elif kind == "thinking":
        for piece in pieces(block["thinking"], size):
            yield {"type": "thinking_delta", "thinking": piece}
        yield {"type": "signature_delta", "signature": block["signature"]}
    elif kind in ("tool_use", "server_tool_use"):
        for piece in ("", *pieces(compact(block["input"]), size)):
            yield {"type": "input_json_delta", "partial_json": piece}
    elif kind == "compaction":
        yield {"type": "compaction_delta", "content": block["content"]}


def error(failure: Failure, number: int) -> dict[str, Any]:
    """Return the body of an error."""
    inner = {"type": failure.kind, "message": failure.message}
    return {"type": "error", "error": inner, "request_id": f"req_{number:024}"}
