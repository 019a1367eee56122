"""Reads embeddings, moderations, reranking, images, speech, transcription, and MCP tools."""

from __future__ import annotations

import re
from typing import Any

from gatehouse.dialects.chat import message, prompt
from gatehouse.dialects.content import one_part, other_free, other_text
from gatehouse.dialects.fields import as_role, blob, each, either, fields, link, present, skip, tagged, text, token
from gatehouse.dialects.freejson import free, schema, written_result
from gatehouse.dialects.litellm_fields import Request
from gatehouse.dialects.parts import BodyView, Path, unknown
from gatehouse.dialects.stored import FILE, is_reference, stored


def _embedded(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read a text or several. Some providers accept the name of a file in the place of a text."""
    prompt(view, value, path, role)
    listed = enumerate(value) if isinstance(value, list) else [(None, value)]
    for index, inner in listed:
        if isinstance(inner, str) and (is_reference(inner) or _GOOGLES_FILE.fullmatch(inner)):
            _file(view, inner, path if index is None else (*path, index), role)


_GOOGLES_FILE = re.compile(r"\s*files/\S{1,256}\s*")
_file = stored(FILE, skip)
embeddings_request = Request({"input": _embedded}, "dimensions encoding_format input_type".split())


def _moderated(view: BodyView, value: Any, path: Path, role: str) -> None:
    if isinstance(value, list) and any(isinstance(inner, int | list) for inner in value):
        raise unknown(path, "an array of tokens cannot be read; send the text")
    _moderated_input(view, value, path, "user")


_moderated_input = either(string=text, items=either(string=text, mapping=one_part))
moderations_request = Request({"input": _moderated})

_document = either(string=text, mapping=free)
# Both are the user's words. A document may be an object, whose fields `rank_fields` names.
rerank_request = Request(
    {
        "query": as_role("user", text),
        "documents": as_role("user", each(_document)),
        "rank_fields": as_role("user", each(text)),
        "instruction": as_role("system", text),
    },
    """top_n return_documents max_chunks_per_doc max_tokens_per_doc max_tokens_per_query truncate_prompt_tokens
    truncation_side""".split(),
)

images_request = Request(
    {
        "prompt": as_role("user", text),
        "image": either(string=link("image"), items=link("image")),
    },
    """background moderation n output_compression output_format partial_images quality response_format size style
    input_fidelity seed aspect_ratio""".split(),
    # LiteLLM also shows the prompt to its hooks as a message, and sends what the message then holds.
    added={"messages": each(message)},
)
_voice = either(string=token, mapping=fields({"id": token}))
speech_request = Request(
    {"input": as_role("user", text), "instructions": as_role("system", text), "voice": _voice},
    "response_format speed stream_format".split(),
)


def _file_name(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Note the file name of a form, which providers receive too. It names the audio format, so it is not masked."""
    name = value[0] if isinstance(value, tuple) and value else getattr(value, "name", None)
    if isinstance(name, str):
        view.value(path, name, sealed=True)


transcription_request = Request(
    {
        "file": present("audio", _file_name),
        "prompt": as_role("user", text),
        "keywords": as_role("user", either(string=text, items=text)),
        "known_speaker_names": as_role("user", either(string=text, items=text)),
        "known_speaker_references": either(string=link("audio"), items=link("audio")),
        "chunking_strategy": other_free,
        "file_checksum": skip,
    },
    "include language languages response_format temperature timestamp_granularities".split(),
)

# Answers: everything is read except numbers (vectors, scores).
_ENVELOPE = dict.fromkeys("id object created model usage".split(), skip)
numbers_answer = as_role("assistant", fields({**_ENVELOPE, "data": skip, "results": skip}, otherwise=free))
_ranked = fields({"index": skip, "relevance_score": skip, "document": _document}, otherwise=free)
rerank_answer = as_role("assistant", fields({**_ENVELOPE, "results": each(_ranked), "meta": skip}, otherwise=free))
_picture = fields({"url": link("image"), "b64_json": blob("image"), "revised_prompt": text}, otherwise=free)
images_answer = as_role("assistant", fields({**_ENVELOPE, "data": each(_picture)}, otherwise=free))
transcription_answer = as_role(
    "assistant", fields({**_ENVELOPE, "text": text, "duration": skip, "logprobs": skip}, otherwise=free)
)

# LiteLLM also shows a tool call as a message, which it makes from the two fields here and does not send.
_mcp_arguments = as_role("assistant", free)
mcp_request = Request(
    {
        "messages": skip,
        "name": other_text,
        "arguments": _mcp_arguments,
        "mcp_tool_name": other_text,
        "mcp_arguments": _mcp_arguments,
        "mcp_tool_description": other_text,
        "mcp_input_schema": as_role("other", schema),
        "modified_arguments": _mcp_arguments,
        "mcp_server_name": skip,
        "server_name": skip,
        "incoming_bearer_token": skip,
        "_meta": other_free,
    }
)
_MCP_PART: dict[str, Any] = {"type": token, "annotations": free, "_meta": free, "meta": free}
_resource = {"uri": text, "name": text, "title": text, "description": text, "mimeType": token, "mime_type": token}
_mcp_part = tagged(
    {
        "text": fields({**_MCP_PART, "text": written_result}, otherwise=free),
        "image": fields({**_MCP_PART, "data": blob("image"), "mimeType": token, "mime_type": token}, otherwise=free),
        "audio": fields({**_MCP_PART, "data": blob("audio"), "mimeType": token, "mime_type": token}, otherwise=free),
        "resource_link": fields({**_MCP_PART, **_resource, "size": token}, otherwise=free),
        "resource": fields(
            {
                **_MCP_PART,
                "resource": fields({**_resource, "text": written_result, "blob": blob("file")}, otherwise=free),
            },
            otherwise=free,
        ),
    },
    otherwise=free,
)
mcp_answer = as_role(
    "tool",
    fields(
        {"content": each(_mcp_part), "isError": token, "is_error": token, "structuredContent": free}, otherwise=free
    ),
)
