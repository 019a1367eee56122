"""Reads requests and answers of Anthropic's /v1/messages."""

from __future__ import annotations

from gatehouse.dialects.chat import message
from gatehouse.dialects.content import (
    ANSWERED_PARTS,
    content,
    json_schema,
    names,
    other_free,
    thinking_settings,
    tool_choice,
    tools,
)
from gatehouse.dialects.fields import as_role, each, fields, kind_only, skip, tagged, text, token, tokens
from gatehouse.dialects.freejson import free
from gatehouse.dialects.litellm_fields import Request
from gatehouse.dialects.stored import settings

_server = fields(
    {
        "type": token,
        "url": text,
        "name": text,
        "authorization_token": skip,
        "tool_configuration": fields({"allowed_tools": names, "enabled": token}),
    }
)
messages_request = Request(
    {
        "messages": each(message),
        "system": as_role("system", content),
        "tools": tools,
        "tool_choice": tool_choice,
        "stop_sequences": names,
        # On this route LiteLLM keeps its own notes elsewhere; this field is the caller's, and is sent.
        "metadata": other_free,
        "thinking": thinking_settings,
        "mcp_servers": each(as_role("other", _server)),
        "context_management": other_free,
        "container": as_role("other", settings),
        "compaction": as_role("system", fields({"type": token, "instructions": text})),
        "output_format": json_schema,
        "output_config": fields({"effort": token, "format": json_schema, "task_budget": other_free}),
        "cache_control": kind_only,
        "safeguards": other_free,
        "betas": tokens,
        "anthropic_beta": tokens,
        "anthropic_version": token,
        "response_format": other_free,
        "stop": names,
    },
    "max_tokens temperature top_k top_p speed reasoning_effort parallel_tool_calls".split(),
)

block = tagged(ANSWERED_PARTS, otherwise=free)
MESSAGE_ENVELOPE = dict.fromkeys("id type role model usage stop_reason".split(), skip)
messages_answer = as_role(
    "assistant",
    fields(
        {
            **MESSAGE_ENVELOPE,
            "content": each(block),
            "stop_sequence": text,
            "container": other_free,
        },
        otherwise=free,
    ),
)
