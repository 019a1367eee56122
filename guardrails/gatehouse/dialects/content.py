"""Reads tools, and the content parts that OpenAI's and Anthropic's messages have in common.

LiteLLM translates between the two APIs, so each dialect meets the other's parts: one table serves both.
"""

from __future__ import annotations

from typing import Any

from gatehouse.dialects.fields import (
    as_role,
    blob,
    each,
    either,
    fields,
    kind_only,
    link,
    opaque,
    present,
    refuse,
    signed,
    tagged,
    text,
    token,
    tokens,
)
from gatehouse.dialects.freejson import free, free_but, json_text, schema, written_result
from gatehouse.dialects.parts import BodyView, Path, Reader, unknown
from gatehouse.dialects.stored import FILE, settings, stored
from gatehouse.dialects.tags import split

other_text = as_role("other", text)
other_free = as_role("other", free)
names = as_role("other", either(string=text, items=text))

CACHE: dict[str, Reader] = {"type": token, "cache_control": kind_only, "prompt_cache_breakpoint": kind_only}


def part(**own: Reader) -> Reader:
    """Make a reader of an object with a `type` and marks for the provider's cache."""
    return fields({**CACHE, **own})


def uploaded(kind: str) -> Reader:
    """Make a reader of the identifier of a file that the provider holds already."""
    return stored(FILE, present(kind, token))


def _image(kind: str) -> Reader:
    url = link(kind)
    return either(
        string=url,
        mapping=fields({"url": url, "detail": token, "format": token, "file_id": uploaded(kind), "media_type": token}),
    )


audio_data = fields({"data": blob("audio"), "format": token, "id": token, "expires_at": token, "transcript": text})


def _source(kind: str, nested: Reader) -> Reader:
    plain = {"type": token, "media_type": token}
    return tagged(
        {
            "base64": fields({**plain, "data": blob(kind)}),
            "url": fields({**plain, "url": link(kind)}),
            "file": fields({**plain, "file_id": uploaded(kind)}),
            "text": fields({**plain, "data": text}),
            "content": fields({**plain, "content": nested}),
        }
    )


# The fields in which a document or a search result names its source.
_citation = fields(
    dict.fromkeys(
        """type document_index start_page_number end_page_number start_char_index end_char_index start_block_index
        end_block_index search_result_index file_id""".split(),
        token,
    )
    | dict.fromkeys("cited_text document_title title url source".split(), text)
    | {"encrypted_index": opaque}
)
citations = either(items=_citation, mapping=fields({"enabled": token}))


def _nested(view: BodyView, value: Any, path: Path, role: str) -> None:
    content(view, value, path, role)


def _result(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read a tool's result; JSON in it is read decoded."""
    result_content(view, value, path, "tool")


caller = fields({"type": token, "tool_id": token, "caller_id": token})


def _signatures(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read a signature or a list of them; anything else in their place as free JSON."""
    for index, inner in enumerate(value) if isinstance(value, list) else ():
        (opaque if isinstance(inner, str) else free)(view, inner, (*path, index), role)
    if not isinstance(value, list):
        (opaque if isinstance(value, str) else free)(view, value, path, role)


# What a provider encrypts in the results of its own tools.
_encrypted: dict[str, Reader] = dict.fromkeys("encrypted_content encrypted_index encrypted_stdout".split(), _signatures)
_server_tool_result = part(
    tool_use_id=token, content=as_role("tool", free_but(_encrypted)), is_error=token, caller=caller
)


def _perhaps_encrypted(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read data that OpenAI has encrypted, a Fernet token. Codex puts plain text there if a model encrypts nothing."""
    encrypted = isinstance(value, str) and split(value)[1].startswith("gAAAAA")
    (opaque if encrypted else text)(view, value, path, role)


_input_image = part(image_url=_image("image"), file_id=uploaded("image"), detail=token)


def _thoughts(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read blocks of thinking; anything else in their place as free JSON."""
    for index, inner in enumerate(value) if isinstance(value, list) else ():
        (_thought if isinstance(inner, dict) else free)(view, inner, (*path, index), role)
    if not isinstance(value, list):
        free(view, value, path, role)


# What LiteLLM keeps of a provider's answer and sends back to it, in the fields that OpenAI's API does not have.
_kept: dict[str, Reader] = {
    **_encrypted,
    **dict.fromkeys("thinking_blocks compaction_blocks".split(), _thoughts),
    **dict.fromkeys("thought_signature thought_signatures response_thought_signature".split(), _signatures),
}
provider_fields = free_but(_kept)
# The same of a tool call on /v1/messages, where Gemini's signature has another name.
_call_fields = free_but({**_kept, "signature": _signatures})


def _parts(otherwise: Reader) -> dict[str, Reader]:
    """Return readers of every content part by its type; `otherwise` reads unknown fields."""

    def part(**own: Reader) -> Reader:
        return fields({**CACHE, **own}, otherwise)

    return {
        # OpenAI's chat completions
        "text": part(text=text, citations=citations, annotations=free),
        "image_url": part(image_url=_image("image"), detail=token, text=text, caption=text),
        "video_url": part(video_url=_image("video"), detail=token),
        "audio_url": part(audio_url=_image("audio")),
        "input_audio": part(input_audio=audio_data),
        "file": part(
            file=fields(
                {
                    "file_data": link("file"),
                    "file_id": uploaded("file"),
                    "filename": text,
                    "format": token,
                    "detail": token,
                    "video_metadata": free,
                }
            )
        ),
        "refusal": part(refusal=text),
        # LiteLLM's
        "guarded_text": part(text=text),
        "grounding_source": part(text=text),
        "query": part(text=text),
        "tool_reference": part(tool_name=text),
        # Anthropic's
        "image": part(source=_source("image", _nested), transformations=free),
        "document": part(source=_source("file", _nested), title=text, context=text, citations=citations),
        "search_result": part(source=text, title=text, content=_nested, citations=citations),
        "container_upload": part(file_id=uploaded("file")),
        "tool_use": part(
            id=token,
            name=other_text,
            input=free,
            caller=caller,
            toolset_name=other_text,
            provider_specific_fields=_call_fields,
        ),
        "server_tool_use": part(id=token, name=other_text, input=free, caller=caller),
        "mcp_tool_use": part(id=token, name=other_text, server_name=other_text, input=free),
        "tool_result": part(tool_use_id=token, is_error=token, content=_result, toolset_name=other_text),
        "mcp_tool_result": part(tool_use_id=token, is_error=token, content=_result),
        "compaction": signed(
            "content", part(content=text, signature=opaque, encrypted_content=opaque, tool_changes=other_free)
        ),
        "browser_state": part(tabs=free, state_changes=free),
        "tool_addition": part(tool=as_role("other", settings)),
        "tool_removal": part(tool=other_free),
        "mcp_tool_listing": part(mcp_server_name=other_text, tools=other_free),
        "fallback": part(**{"from": other_free, "to": other_free, "trigger": other_free}),
        **dict.fromkeys(
            """web_search_tool_result web_fetch_tool_result code_execution_tool_result bash_code_execution_tool_result
            text_editor_code_execution_tool_result tool_search_tool_result advisor_tool_result""".split(),
            _server_tool_result,
        ),
        "thinking": signed("thinking", part(thinking=text, signature=opaque)),
        "redacted_thinking": part(data=opaque),
        # OpenAI's responses
        "input_text": part(text=text),
        "output_text": part(text=text, annotations=free, logprobs=other_free),
        "summary_text": part(text=text),
        "reasoning_text": part(text=text),
        "input_image": _input_image,
        "computer_screenshot": _input_image,
        "input_file": part(
            file_data=link("file"), file_id=uploaded("file"), file_url=link("file"), filename=text, detail=token
        ),
        "output_audio": part(data=blob("audio"), transcript=text, format=token),
        "encrypted_content": part(encrypted_content=_perhaps_encrypted),
    }


PARTS = _parts(refuse)
ANSWERED_PARTS = _parts(free)
thinking = {kind: PARTS[kind] for kind in ("thinking", "redacted_thinking")}
# The other fields of a block of thinking that comes in pieces.
thinking_rest = fields({"data": opaque}, otherwise=free)
_thought = tagged(
    {kind: ANSWERED_PARTS[kind] for kind in ("thinking", "redacted_thinking", "compaction")}, otherwise=provider_fields
)

one_part = tagged(PARTS)
content = either(string=text, items=either(string=text, mapping=one_part), mapping=one_part)
result_content = either(string=written_result, items=either(string=written_result, mapping=one_part), mapping=one_part)

function_call = fields(
    {"name": other_text, "arguments": json_text, "provider_specific_fields": provider_fields}, otherwise=free
)
function = as_role(
    "other",
    fields(
        {
            "name": text,
            "description": text,
            "parameters": schema,
            "input_schema": schema,
            "output_schema": schema,
            "strict": token,
            "type": token,
            "cache_control": kind_only,
            "allowed_callers": tokens,
            "defer_loading": token,
        }
    ),
)
json_schema = as_role(
    "other", fields({"type": token, "name": text, "description": text, "schema": schema, "strict": token})
)
grammar = fields({"definition": text, "syntax": token, "type": token})


def tool_object(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read any tool: a function by its fields, a provider's own tool in full."""
    if not isinstance(value, dict):
        raise unknown(path, "a tool is an object")
    if isinstance(value.get("function"), dict) and value.get("type") in (None, "function"):
        _chat_tool(view, value, path, "other")
    else:
        _tool(view, value, path, "other")


_chat_tool = fields({"type": token, "function": function, "cache_control": kind_only, "defer_loading": token})
# Any other field of a tool holds settings, and is read in full.
_tool = fields(
    {
        **dict.fromkeys(
            """type strict max_uses display_width display_height display_width_px display_height_px display_number
            environment_type defer_loading max_num_results eager_input_streaming search_context_size""".split(),
            token,
        ),
        "cache_control": kind_only,
        "parameters": schema,
        "input_schema": schema,
        "output_schema": schema,
        "input_examples": free,  # example arguments of a function, where names mean nothing to a provider
        "name": text,
        "description": text,
        "function": function,
        "allowed_callers": tokens,
    },
    otherwise=settings,
)
tools = each(tool_object)
# Which tool must be used: words of the API, and names.
_named = fields({"name": text})
tool_choice = as_role(
    "other",
    either(
        string=token,
        mapping=fields(
            {
                **dict.fromkeys("type mode disable_parallel_tool_use".split(), token),
                **dict.fromkeys("function custom tool".split(), _named),
                "name": text,
                "server_label": text,
            },
            otherwise=free,
        ),
    ),
)
thinking_settings = fields(
    {**dict.fromkeys("type budget_tokens display effort".split(), token), "block_binding": other_free}
)
