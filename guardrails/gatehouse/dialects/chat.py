"""Reads requests and answers of /v1/chat/completions and /v1/completions."""

from __future__ import annotations

from typing import Any

from gatehouse.dialects.content import (
    ANSWERED_PARTS,
    audio_data,
    content,
    function,
    function_call,
    json_schema,
    names,
    one_part,
    other_free,
    other_text,
    provider_fields,
    result_content,
    thinking,
    thinking_settings,
    tool_choice,
    tools,
)
from gatehouse.dialects.fields import (
    as_role,
    each,
    either,
    fields,
    kind_only,
    opaque,
    skip,
    tagged,
    text,
    token,
)
from gatehouse.dialects.freejson import free
from gatehouse.dialects.litellm_fields import Request
from gatehouse.dialects.parts import BodyView, Path, Reader, unknown
from gatehouse.dialects.stored import RECORDING, settings, stored

_TOOL_CALL: dict[str, Reader] = {
    "id": token,
    "type": token,
    "index": token,
    "function": function_call,
    "custom": fields({"name": other_text, "input": text}),
    "cache_control": kind_only,
    "provider_specific_fields": provider_fields,
    "extra_content": provider_fields,
}
_reasoning_item = fields(
    {
        "type": token,
        "id": token,
        "status": token,
        "encrypted_content": opaque,
        "summary": each(fields({"type": token, "text": text})),
        "content": each(fields({"type": token, "text": text})),
    }
)


def _audio(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read a recording of an earlier answer, or the name of one that the provider holds."""
    audio_data(view, value, path, role)
    if not value.get("data"):
        _recording(view, value.get("id"), (*path, "id"), role)


_recording = stored(RECORDING, skip)
_message: dict[str, Reader] = {
    "role": token,
    "content": content,
    "name": other_text,
    "refusal": text,
    "cache_control": kind_only,
    "tool_calls": each(fields(_TOOL_CALL)),
    "function_call": function_call,
    "tool_call_id": token,
    "clear_at": token,
    "output_config": other_free,
    "audio": _audio,
    "reasoning_content": text,
    "reasoning": text,
    "thinking_blocks": each(tagged(thinking)),
    "reasoning_items": each(_reasoning_item),
    "reasoning_details": free,
    "annotations": free,
    "provider_specific_fields": provider_fields,
    "images": each(one_part),
    "parsed": free,
    "prefix": token,
}
_said = fields(_message)
_ROLES: dict[str, tuple[str, Reader]] = {
    **{role: (role, _said) for role in ("system", "developer", "user", "assistant")},
    **{role: ("tool", fields({**_message, "content": result_content})) for role in ("tool", "function")},
}


def message(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read one message; its role tells whose text it is."""
    said_by = value.get("role") if isinstance(value, dict) else None
    known = _ROLES.get(said_by) if isinstance(said_by, str) else None
    if known is None:
        raise unknown((*path, "role"), "this role is not known")
    known[1](view, value, path, known[0])


_moderation = fields({"model": token, "policy": free})
_SETTINGS = """
    frequency_penalty presence_penalty temperature top_p top_k min_p n seed logprobs top_logprobs max_tokens
    max_completion_tokens parallel_tool_calls verbosity num_ctx keep_alive modalities store repetition_penalty
""".split()
# Fields of other providers that OpenAI does not have, and that a model may read; all of them are read.
_OF_PROVIDERS = """
    chat_template_kwargs documents guided_choice guided_grammar guided_json guided_regex reasoning safety_settings
""".split()
# Those of the fields that can tell a provider what to look up.
_OF_PROVIDERS_TOOLS = "generation_config plugins provider search_parameters".split()
_effort = either(string=token, mapping=fields(dict.fromkeys("effort summary generate_summary".split(), token)))
_response_format = tagged(
    {
        "text": fields({"type": token}),
        "json_object": fields({"type": token, "response_schema": other_free, "schema": other_free}),
        "json_schema": fields({"type": token, "json_schema": json_schema}),
        "grammar": as_role("other", fields({"type": token, "grammar": text})),
    }
)
chat_request = Request(
    {
        **dict.fromkeys(_OF_PROVIDERS, other_free),
        **dict.fromkeys(_OF_PROVIDERS_TOOLS, as_role("other", settings)),
        "reasoning_effort": _effort,
        "messages": each(message),
        "system": as_role("system", content),
        "tools": tools,
        "functions": each(function),
        "tool_choice": tool_choice,
        "function_call": tool_choice,
        "response_format": _response_format,
        "stop": names,
        "prediction": as_role("assistant", fields({"type": token, "content": content})),
        "audio": fields({"format": token, "voice": either(string=token, mapping=fields({"id": token}))}),
        "logit_bias": other_free,
        "web_search_options": as_role("other", either(mapping=settings)),
        "thinking": thinking_settings,
        "context_management": other_free,
        "output_config": other_free,
        "moderation": _moderation,
    },
    _SETTINGS,
)

_answered = fields(
    {
        **_message,
        "tool_calls": each(fields(_TOOL_CALL, otherwise=free)),
        "thinking_blocks": each(tagged(ANSWERED_PARTS, otherwise=free)),
        "images": each(tagged(ANSWERED_PARTS, otherwise=free)),
        "content": either(string=text, items=tagged(ANSWERED_PARTS, otherwise=free)),
    },
    otherwise=free,
)
_ANSWER: dict[str, Reader] = {
    "id": skip,
    "object": skip,
    "created": skip,
    "model": skip,
    "system_fingerprint": skip,
    "service_tier": skip,
    "usage": skip,
}
# Log probabilities repeat the text token by token, so they need no reading.
_choice: dict[str, Reader] = {"index": token, "finish_reason": token, "stop_reason": skip, "logprobs": skip}
chat_answer = as_role(
    "assistant",
    fields({**_ANSWER, "choices": each(fields({**_choice, "message": _answered}, otherwise=free))}, otherwise=free),
)

_prompts = either(string=text, items=text)


def _prompt(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read a text or several; an array of tokens cannot be read."""
    if isinstance(value, list) and any(isinstance(inner, int | list) for inner in value):
        raise unknown(path, "an array of tokens cannot be read; send the text")
    _prompts(view, value, path, role)


prompt = as_role("user", _prompt)
completions_request = Request(
    {
        "prompt": prompt,
        "suffix": as_role("user", text),
        "stop": names,
        "logit_bias": other_free,
    },
    [*(name for name in _SETTINGS if name != "top_logprobs"), "best_of", "echo"],
    added={"messages": each(message)},
)
completions_answer = as_role(
    "assistant", fields({**_ANSWER, "choices": each(fields({**_choice, "text": text}, otherwise=free))}, otherwise=free)
)
