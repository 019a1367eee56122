"""Reads requests of OpenAI's /v1/responses, item by item, and its answers."""

from __future__ import annotations

from typing import Any

from gatehouse.dialects.chat import message
from gatehouse.dialects.content import (
    ANSWERED_PARTS,
    PARTS,
    content,
    json_schema,
    names,
    one_part,
    other_free,
    other_text,
    provider_fields,
    result_content,
    thinking_settings,
    tool_choice,
    tools,
)
from gatehouse.dialects.fields import (
    as_role,
    blob,
    each,
    either,
    fields,
    opaque,
    present,
    skip,
    tagged,
    text,
    token,
)
from gatehouse.dialects.freejson import free, json_text, schema, written_result
from gatehouse.dialects.litellm_fields import Request
from gatehouse.dialects.parts import KEY, BodyView, Path, Reader, unknown
from gatehouse.dialects.stored import CONTAINER, CONVERSATION, IMAGE, PROMPT, settings, stored

_caller = fields({"type": token, "caller_id": token})
_ITEM: dict[str, Reader] = {
    **dict.fromkeys("type id call_id status execution fingerprint approval_request_id".split(), token),
    "caller": _caller,
    "namespace": other_text,
    "name": other_text,
    "server_label": other_text,
    "created_by": token,
    "provider_specific_fields": provider_fields,
}


def _item(role: str, otherwise: Reader | None = None, /, **own: Reader) -> Reader:
    table = {**_ITEM, **own}
    return as_role(role, fields(table, otherwise) if otherwise else fields(table))


_shell_output = either(
    string=written_result,
    items=fields({"stdout": text, "stderr": text, "outcome": fields({"type": token, "exit_code": token})}),
)
_tool_list = each(
    fields({"name": text, "description": text, "input_schema": schema, "annotations": free}),
)
_texts = each(fields({"type": token, "text": text, "annotations": free}))
_format = either(
    string=token,
    mapping=tagged(
        {"text": fields({"type": token}), "json_object": fields({"type": token}), "json_schema": json_schema}
    ),
)
_text_settings = fields({"format": _format, "verbosity": token})
_reasoning_settings = fields(dict.fromkeys("context effort generate_summary mode summary".split(), token))


def _picture(reader: Reader) -> Reader:
    """Make a reader of a picture that the model made: the picture, or its name at the provider."""

    def read(view: BodyView, value: Any, path: Path, role: str) -> None:
        reader(view, value, path, role)
        if not value.get("result"):
            _made(view, value.get("id"), (*path, "id"), role)

    return read


_made = stored(IMAGE, skip)


def _items(otherwise: Reader | None) -> dict[str, Reader]:
    """Return readers of every item by its type; `otherwise` reads unknown fields."""

    def by_model(**own: Reader) -> Reader:
        return _item("assistant", otherwise, **own)

    def by_tool(**own: Reader) -> Reader:
        return _item("tool", otherwise, **own)

    return {
        # LiteLLM writes a role and a phase there for models that it translates the API for.
        "reasoning": by_model(summary=_texts, content=_texts, encrypted_content=opaque, role=token, phase=token),
        "compaction": by_model(encrypted_content=opaque),
        "compaction_summary": by_model(encrypted_content=opaque),
        "compaction_trigger": by_model(),
        "item_reference": by_model(id=stored(CONVERSATION, token)),
        "function_call": by_model(arguments=json_text),
        "custom_tool_call": by_model(input=text),
        "function_call_output": by_tool(output=result_content),
        "custom_tool_call_output": by_tool(output=result_content),
        "computer_call": by_model(action=free, actions=free, pending_safety_checks=free),
        "computer_call_output": by_tool(output=one_part, acknowledged_safety_checks=free),
        "web_search_call": by_model(action=free),
        "file_search_call": by_tool(queries=free, results=free),
        "code_interpreter_call": by_model(
            code=text,
            container_id=stored(CONTAINER, token),
            outputs=each(
                tagged(
                    {
                        "logs": fields({"type": token, "logs": text}),
                        "image": fields({"type": token, "url": present("image", text)}),
                    }
                )
            ),
        ),
        "image_generation_call": _picture(
            by_model(
                result=blob("image"),
                revised_prompt=text,
                background=token,
                output_format=token,
                quality=token,
                size=token,
                action=token,
                error=free,
                svg_usage=free,
            )
        ),
        "local_shell_call": by_model(action=free),
        "local_shell_call_output": by_tool(output=_shell_output),
        "shell_call": by_model(action=free, environment=settings),
        "shell_call_output": by_tool(output=_shell_output, max_output_length=token),
        "apply_patch_call": by_model(operation=free),
        "apply_patch_call_output": by_tool(output=text),
        "mcp_call": by_model(arguments=json_text, output=as_role("tool", written_result), error=as_role("tool", free)),
        "mcp_list_tools": by_tool(tools=_tool_list, error=free),
        "mcp_approval_request": by_model(arguments=json_text),
        "mcp_approval_response": _item("user", otherwise, reason=text, approve=token),
        "tool_search_call": by_model(arguments=free),
        "tool_search_output": by_tool(tools=tools),
        "additional_tools": _item("other", otherwise, role=token, tools=tools),
        "program": by_model(code=text),
        "program_output": by_tool(result=written_result),
        "context_compaction": by_model(encrypted_content=opaque),
        "configuration_update": _item("other", otherwise, reasoning=_reasoning_settings, text=_text_settings),
        # Codex instructs its sub-agents with these. OpenAI's description of the API does not have them.
        "agent_message": by_model(author=other_text, recipient=other_text, content=content),
    }


_KNOWN = _items(None)
_message = {**_ITEM, "role": token, "content": content, "phase": token}
_said = fields(_message)
_ROLES = frozenset({"system", "developer", "user", "assistant"})


def input_item(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read one item of the input: a message, with or without its type, a bare part, or an item of another type."""
    kind = value.get("type") if isinstance(value, dict) else None
    if kind is None or kind == "message":
        said_by = value.get("role") if isinstance(value, dict) else None
        if isinstance(said_by, str) and said_by in _ROLES:
            _said(view, value, path, said_by)
        else:
            message(view, value, path, role)  # LiteLLM accepts chat's messages here too
    elif isinstance(kind, str) and kind in PARTS and kind not in _KNOWN:
        one_part(view, value, path, role)
    else:
        _other_item(view, value, path, role)


_other_item = tagged(_KNOWN)


def _variables(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read the values for a template that the provider stores: texts, images and files by name."""
    if not isinstance(value, dict):
        raise unknown(path, "an object was expected")
    for name, inner in value.items():
        if not isinstance(name, str):
            raise unknown(path, "a field without a name")
        view.text((*path, name, KEY), name, role)
        if inner is not None:
            _variable(view, inner, (*path, name), role)


_variable = either(string=text, mapping=one_part)
_SETTINGS = """
    background include max_output_tokens max_tool_calls parallel_tool_calls store temperature top_p
    top_k top_logprobs truncation partial_images verbosity max_tokens
""".split()
responses_request = Request(
    {
        "instructions": as_role("system", content),
        "input": as_role("user", either(string=text, items=either(string=text, mapping=input_item))),
        "tools": tools,
        "tool_choice": tool_choice,
        "text": _text_settings,
        # On this route LiteLLM keeps its own notes elsewhere; this field is the caller's, and is sent.
        "metadata": other_free,
        "reasoning": _reasoning_settings,
        "prompt_cache_options": fields({"type": token, "ttl": token, "mode": token, "comparison_response_id": token}),
        "previous_response_id": stored(CONVERSATION, token),
        "conversation": stored(CONVERSATION, either(string=token, mapping=fields({"id": token}))),
        "prompt": fields({"id": stored(PROMPT, token), "version": token, "variables": as_role("user", _variables)}),
        "context_management": other_free,
        # The Codex CLI identifies itself here.
        "client_metadata": other_free,
        "moderation": other_free,
        "stop": names,
        "response_format": as_role("other", either(mapping=free)),
        "thinking": thinking_settings,
    },
    [*_SETTINGS, "reasoning_effort"],
)

# The fields of a response other than its output repeat the request, which the caller knows.
RESPONSE_ENVELOPE: dict[str, Reader] = dict.fromkeys(
    """id object created_at completed_at model usage status parallel_tool_calls temperature top_p tool_choice tools
    background max_output_tokens max_tool_calls previous_response_id prompt_cache_key prompt_cache_options
    prompt_cache_retention safety_identifier service_tier top_logprobs truncation conversation store text reasoning
    incomplete_details moderation""".split(),
    skip,
)
_answered_part = tagged(ANSWERED_PARTS, otherwise=free)
answered_item = tagged(
    {
        **_items(free),
        "message": as_role("assistant", fields({**_message, "content": each(_answered_part)}, otherwise=free)),
    },
    otherwise=free,
)
response = fields(
    {**RESPONSE_ENVELOPE, "output": each(answered_item), "error": free, "instructions": content}, otherwise=free
)
responses_answer = as_role("assistant", response)
# The items of a stored response's input, as a page of a list.
_PAGE = dict.fromkeys(("object", "first_id", "last_id", "has_more"), skip)
_listed = fields({**_message, "content": either(string=text, items=_answered_part)}, otherwise=free)
_listed_item = tagged({**_items(free), "message": _listed}, otherwise=free)
input_items_answer = as_role("user", fields({**_PAGE, "data": each(_listed_item)}, otherwise=free))
