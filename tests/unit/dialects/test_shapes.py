"""Every text of every API shape is found, at an address where it can be replaced; what is not understood is refused."""

from __future__ import annotations

import json
import re
import timeit
from typing import Any

import pytest
from gatehouse.dialects import request_view
from gatehouse.dialects.canonical import CallerNames, canonical_request
from gatehouse.dialects.parts import JSON, KEY, UnknownShape
from gatehouse.dialects.writing import write_back
from gatehouse.proxy.control_fields import control_fields

from tests.support.parts import answer_parts, request_parts

PNG = "data:image/png;base64,iVBORw0KGgo="
SCHEMA = {
    "type": "object",
    "description": "#1",
    "properties": {"#2": {"type": "string", "enum": ["#3"], "default": "#4"}},
    "required": ["#2"],
}
CACHE = {"type": "ephemeral"}


def found(parts: list[Any]) -> list[str]:
    return sorted({mark for part in parts for mark in re.findall(r"#\d+", part.text)})


def marks(body: Any) -> list[str]:
    return sorted(set(re.findall(r"#\d+", json.dumps(body))))


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": list(messages), **more}


def user(*content: Any) -> dict[str, Any]:
    return chat({"role": "user", "content": list(content)})


# Every text carries a mark; the test asks that no mark is missed.
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat roles": (
        "acompletion",
        chat(
            {"role": "system", "content": "#1", "name": "#2"},
            {"role": "developer", "content": [{"type": "text", "text": "#3", "cache_control": CACHE}]},
            {"role": "user", "content": "#4", "name": "#5"},
            {
                "role": "assistant",
                "content": None,
                "refusal": "#6",
                "audio": {"id": "audio_1"},
                "reasoning_content": "#14",
                "thinking_blocks": [{"type": "thinking", "thinking": "#15", "signature": "c2ln"}],
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "#7", "arguments": '{"#8": ["#9", {"n": null}]}'},
                    },
                    {"id": "call_2", "type": "custom", "custom": {"name": "#10", "input": "#11"}},
                ],
                "function_call": {"name": "f", "arguments": "no json #12"},
            },
            {"role": "tool", "tool_call_id": "call_1", "content": '{"a": "#13"}'},
            {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "#16"}]},
            {"role": "function", "name": "f", "content": "#17"},
        ),
    ),
    "chat settings": (
        "completion",
        chat(
            {"role": "user", "content": "hi"},
            temperature=0.1,
            max_tokens=None,
            stream=True,
            stream_options={"include_usage": True},
            stop=["#5", "#6"],
            user="#7",
            tool_choice={"type": "function", "function": {"name": "#8"}},
            parallel_tool_calls=True,
            modalities=["text", "audio"],
            audio={"format": "mp3", "voice": "alloy"},
            logit_bias={"50256": -100},
            tools=[
                {
                    "type": "function",
                    "function": {"name": "#9", "description": "#10", "parameters": SCHEMA, "strict": True},
                },
                {
                    "type": "custom",
                    "custom": {"name": "#11", "format": {"type": "grammar", "grammar": {"definition": "#12"}}},
                },
            ],
            functions=[{"name": "#13", "description": "#14", "parameters": SCHEMA}],
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "#15", "description": "#16", "schema": SCHEMA, "strict": True},
            },
            prediction={"type": "content", "content": [{"type": "text", "text": "#17"}]},
            web_search_options={"user_location": {"type": "approximate", "approximate": {"city": "#18"}}},
            extra_body={"user": "#19", "messages": [{"role": "user", "content": "#20"}], "metadata": {"a": "#21"}},
            reasoning_effort={"effort": "low"},
            chat_template_kwargs={"system": "#22"},
            seed=7,
            thinking={"type": "enabled", "budget_tokens": 1024},
            metadata={"not": "read"},
        ),
    ),
    "chat parts": (
        "acompletion",
        user(
            {"type": "text", "text": "#1"},
            {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}},
            {"type": "image_url", "image_url": "https://x.example/?q=#2"},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav", "transcript": "#3"}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "#4.pdf"}},
            {"type": "file", "file": {"file_id": "file-abc"}},
            {"type": "refusal", "refusal": "#5"},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "#6"}, "title": "#7"},
        ),
    ),
    "completions": ("atext_completion", {"model": "m", "prompt": ["#1", "#2"], "suffix": "#3", "stop": "#4"}),
    "completions, one": ("text_completion", {"model": "m", "prompt": "#1"}),
    "embeddings": ("aembedding", {"model": "m", "input": ["#1", "#2"], "user": "#3", "encoding_format": "float"}),
    "embeddings, one": ("embedding", {"model": "m", "input": "#1"}),
    "moderations": ("moderation", {"model": "m", "input": "#1"}),
    "moderations, list": ("amoderation", {"input": ["#1", "#2"]}),
    "moderations, parts": (
        "amoderation",
        {"input": [{"type": "text", "text": "#1"}, {"type": "image_url", "image_url": {"url": "https://x/#2"}}]},
    ),
    "images": ("image_generation", {"model": "m", "prompt": "#1", "n": 1, "size": "1024x1024"}),
    "speech": ("aspeech", {"model": "m", "input": "#1", "instructions": "#2", "voice": {"id": "v"}, "speed": 1.5}),
    "transcription": ("transcription", {"model": "m", "prompt": "#1", "timestamp_granularities": ["word"]}),
    "messages": (
        "anthropic_messages",
        {
            "model": "claude",
            "max_tokens": 10,
            "system": [{"type": "text", "text": "#1", "cache_control": CACHE}],
            "metadata": {"user_id": "#2"},
            "stop_sequences": ["#3"],
            "tools": [
                {"name": "#4", "description": "#5", "input_schema": SCHEMA, "cache_control": CACHE},
                {"type": "web_search_20250305", "name": "web_search", "allowed_domains": ["#6"], "max_uses": 2},
                {"type": "computer_20250124", "name": "computer", "display_width_px": 1, "display_height_px": 1},
            ],
            "tool_choice": {"type": "tool", "name": "#7"},
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "mcp_servers": [{"type": "url", "url": "https://#8", "name": "#9", "authorization_token": "secret"}],
            "messages": [
                {"role": "user", "content": "#10"},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "#11"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                        {"type": "image", "source": {"type": "url", "url": "https://#12"}},
                        {
                            "type": "document",
                            "source": {"type": "content", "content": [{"type": "text", "text": "#13"}]},
                            "title": "#14",
                            "context": "#15",
                            "citations": {"enabled": True},
                        },
                        {
                            "type": "search_result",
                            "source": "#16",
                            "title": "#17",
                            "content": [{"type": "text", "text": "#18"}],
                        },
                    ],
                },
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "#19", "signature": "c2ln"},
                        {"type": "redacted_thinking", "data": "AAAA"},
                        {
                            "type": "text",
                            "text": "#20",
                            "citations": [{"type": "char_location", "cited_text": "#21", "document_title": "#22"}],
                        },
                        {"type": "tool_use", "id": "toolu_1", "name": "#23", "input": {"#24": {"deep": ["#25"]}}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "#26"},
                        {
                            "type": "tool_result",
                            "tool_use_id": "toolu_1",
                            "is_error": True,
                            "content": [{"type": "text", "text": "#27"}],
                        },
                        {
                            "type": "tool_result",
                            "tool_use_id": "toolu_2",
                            "toolset_name": "#28",
                            "content": [{"type": "browser_state", "tabs": [{"id": 1, "title": "#29", "url": "#30"}]}],
                        },
                    ],
                },
                {
                    "role": "assistant",
                    "content": [
                        {"type": "tool_use", "id": "t", "name": "n", "toolset_name": "#31", "input": {}},
                        {"type": "fallback", "to": {"model": "#32"}, "from": {"model": "#33"}},
                        {"type": "mcp_tool_listing", "mcp_server_name": "#34", "tools": [{"name": "#35"}]},
                        {
                            "type": "compaction",
                            "content": "#36",
                            "tool_changes": [{"type": "tool_addition", "tool": {"name": "#37"}}],
                        },
                    ],
                },
                {
                    "role": "system",
                    "clear_at": "next_user_message",
                    "output_config": {"effort": "low", "note": "#42"},
                    "content": [
                        {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "#38"}},
                        {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "#39"}},
                        {
                            "type": "image",
                            "source": {"type": "url", "url": "https://#40"},
                            "transformations": {"crop": {"x": 1}, "note": "#41"},
                        },
                    ],
                },
            ],
        },
    ),
    "responses": (
        "aresponses",
        {
            "model": "m",
            "instructions": "#1",
            "metadata": {"k": "#2"},
            "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
            "reasoning": {"effort": "low", "summary": "auto"},
            "include": ["reasoning.encrypted_content"],
            "prompt_cache_options": {"mode": "explicit", "ttl": "30m", "comparison_response_id": "resp_1"},
            "prompt": {"id": "pmpt_1", "variables": {"a": "#3", "b": {"type": "input_text", "text": "#4"}}},
            "tools": [
                {"type": "function", "name": "#5", "description": "#6", "parameters": SCHEMA, "strict": True},
                {"type": "mcp", "server_label": "#7", "server_url": "https://#8", "require_approval": "never"},
                {"type": "file_search", "vector_store_ids": ["vs_1"], "filters": {"type": "eq", "value": "#9"}},
                {"type": "web_search", "user_location": {"type": "approximate", "city": "#10"}},
            ],
            "input": [
                {"role": "user", "content": "#11"},
                {
                    "type": "message",
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "#12"},
                        {"type": "input_image", "image_url": PNG, "detail": "auto"},
                        {"type": "input_file", "filename": "#13", "file_url": "https://#14"},
                    ],
                },
                {
                    "type": "message",
                    "id": "msg_1",
                    "role": "assistant",
                    "status": "completed",
                    "content": [
                        {
                            "type": "output_text",
                            "text": "#15",
                            "logprobs": [],
                            "annotations": [{"type": "url_citation", "title": "#16", "url": "u", "start_index": 0}],
                        },
                        {"type": "refusal", "refusal": "#17"},
                    ],
                },
                {
                    "type": "reasoning",
                    "id": "rs_1",
                    "summary": [{"type": "summary_text", "text": "#18"}],
                    "content": [{"type": "reasoning_text", "text": "#19"}],
                    "encrypted_content": "gAAAA=",
                },
                {"type": "function_call", "call_id": "c", "name": "#20", "arguments": '{"#21":"#22"}'},
                {"type": "function_call_output", "call_id": "c", "output": "#23"},
                {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "#24"}]},
                {"type": "custom_tool_call", "call_id": "c", "name": "n", "input": "#25"},
                {"type": "custom_tool_call_output", "call_id": "c", "output": "#26"},
                {"type": "computer_call", "call_id": "c", "id": "i", "action": {"type": "type", "text": "#27"}},
                {
                    "type": "computer_call_output",
                    "call_id": "c",
                    "output": {"type": "computer_screenshot", "image_url": PNG},
                    "acknowledged_safety_checks": [{"id": "x", "message": "#28"}],
                },
                {"type": "web_search_call", "id": "w", "action": {"type": "search", "query": "#29"}},
                {"type": "file_search_call", "id": "w", "queries": ["#30"], "results": [{"text": "#31"}]},
                {
                    "type": "code_interpreter_call",
                    "id": "w",
                    "code": "#32",
                    "container_id": "c",
                    "outputs": [{"type": "logs", "logs": "#33"}],
                },
                {"type": "local_shell_call", "id": "w", "call_id": "c", "action": {"type": "exec", "command": ["#34"]}},
                {"type": "local_shell_call_output", "id": "w", "output": "#35"},
                {"type": "shell_call", "call_id": "c", "action": {"commands": ["#36"]}},
                {
                    "type": "shell_call_output",
                    "call_id": "c",
                    "output": [{"stdout": "#37", "stderr": "#38", "outcome": {"type": "exit", "exit_code": 0}}],
                },
                {"type": "apply_patch_call", "call_id": "c", "operation": {"type": "update_file", "diff": "#39"}},
                {"type": "apply_patch_call_output", "call_id": "c", "status": "completed", "output": "#40"},
                {"type": "mcp_call", "id": "m", "name": "n", "server_label": "s", "arguments": "{}", "output": "#41"},
                {"type": "mcp_list_tools", "id": "m", "tools": [{"name": "#42", "input_schema": SCHEMA}]},
                {"type": "mcp_approval_request", "id": "m", "name": "n", "arguments": '{"a": "#43"}'},
                {"type": "mcp_approval_response", "approval_request_id": "m", "approve": True, "reason": "#44"},
                {"type": "image_generation_call", "id": "i", "result": "AAAA", "revised_prompt": "#45"},
                {"type": "tool_search_call", "arguments": {"q": "#46"}},
                {"type": "program", "id": "p", "call_id": "c", "code": "#47", "fingerprint": "f"},
                {"type": "program_output", "id": "p", "call_id": "c", "result": "#48"},
                {"type": "item_reference", "id": "msg_2"},
                {
                    "type": "agent_message",
                    "id": "amsg_1",
                    "author": "/root/#49",
                    "recipient": "/root/#50",
                    "content": [
                        {"type": "input_text", "text": "#51"},
                        {"type": "encrypted_content", "encrypted_content": "not encrypted: #52"},
                    ],
                },
                {
                    "type": "configuration_update",
                    "reasoning": {"effort": "high"},
                    "text": {"format": {"type": "json_schema", "name": "#53", "schema": SCHEMA}},
                },
                {"type": "image_generation_call", "id": "i", "error": {"code": "x", "message": "#54"}},
                {"type": "image_generation_call", "id": "i", "result": "AAAA", "svg_usage": {"model": "#55"}},
            ],
        },
    ),
    "responses, one": ("responses", {"model": "m", "input": "#1"}),
    "mcp": (
        "call_mcp_tool",
        {
            "messages": [{"role": "user", "content": "Tool: ..."}],
            "mcp_tool_name": "#1",
            "mcp_arguments": {"to": {"#2": ["#3"]}},
            "mcp_tool_description": "#4",
            "mcp_input_schema": SCHEMA,
        },
    ),
}
ANSWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (
        "acompletion",
        {
            "id": "x",
            "usage": {"total_tokens": 3},
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "tool_calls",
                    "message": {
                        "role": "assistant",
                        "content": "#1",
                        "reasoning_content": "#2",
                        "audio": {"id": "a", "data": "AAAA", "transcript": "#3", "expires_at": 1},
                        "annotations": [{"type": "url_citation", "url_citation": {"title": "#4", "url": "u"}}],
                        "tool_calls": [
                            {
                                "id": "c",
                                "type": "function",
                                "function": {"name": "f", "arguments": '{"a": "#5"}', "new": "#8"},
                                "new": "#9",
                            }
                        ],
                        "images": [{"type": "image_url", "image_url": {"url": PNG}, "new": "#10"}],
                        "provider_specific_fields": {"citations": ["#6"]},
                        "something_new": {"said": "#7"},
                    },
                }
            ],
        },
    ),
    "completions": ("atext_completion", {"choices": [{"index": 0, "text": "#1", "finish_reason": "stop"}]}),
    "messages": (
        "anthropic_messages",
        {
            "content": [
                {"type": "thinking", "thinking": "#1", "signature": "c2ln"},
                {"type": "text", "text": "#2", "new": "#6"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": "#3"}},
                {"type": "something_new", "said": "#4"},
            ],
            "stop_sequence": "#5",
        },
    ),
    "responses": (
        "aresponses",
        {
            "output": [
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "#1"}]},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":"#2"}'},
                {"type": "something_new", "said": "#3"},
            ]
        },
    ),
    "images": ("aimage_generation", {"data": [{"b64_json": "AAAA", "revised_prompt": "#1"}]}),
    "transcription": ("atranscription", {"text": "#1", "segments": [{"text": "#2"}]}),
    "mcp": ("call_mcp_tool", {"content": [{"type": "text", "text": "#1"}], "structuredContent": {"a": "#2"}}),
}
CASES = [(request_parts, *case) for case in REQUESTS.values()] + [(answer_parts, *case) for case in ANSWERS.values()]
IDS = [f"request: {name}" for name in REQUESTS] + [f"answer: {name}" for name in ANSWERS]


@pytest.mark.parametrize(("parts_of", "call_type", "body"), CASES, ids=IDS)
def test_no_text_is_missed(parts_of: Any, call_type: str, body: dict[str, Any]) -> None:
    assert found(parts_of(call_type, body)) == marks(body)


@pytest.mark.parametrize(("parts_of", "call_type", "body"), CASES, ids=IDS)
def test_writing_back_what_was_read_changes_nothing(parts_of: Any, call_type: str, body: dict[str, Any]) -> None:
    written = json.loads(json.dumps(body))
    write_back(written, {part.path: part.text for part in parts_of(call_type, written)})
    assert json.dumps(written) == json.dumps(body)


@pytest.mark.parametrize(("parts_of", "call_type", "body"), CASES, ids=IDS)
def test_every_text_can_be_replaced_in_place(parts_of: Any, call_type: str, body: dict[str, Any]) -> None:
    written = json.loads(json.dumps(body))
    parts = [part for part in parts_of(call_type, written) if "#" in part.text]
    write_back(written, {part.path: part.text.replace("#", '<"é\\>') for part in parts})
    assert marks(written) == []
    changed = [part.text for part in parts_of(call_type, written) if "<" in part.text]
    assert sorted(changed) == sorted(part.text.replace("#", '<"é\\>') for part in parts)


def test_a_text_has_the_role_of_whoever_says_it() -> None:
    roles = {mark: part.role for part in request_parts(*REQUESTS["chat roles"]) for mark in found([part])}
    assert [roles[f"#{n}"] for n in (1, 3, 4, 6, 9, 13, 17)] == [
        "system",
        "developer",
        "user",
        "assistant",
        "assistant",
        "tool",
        "tool",
    ]


def test_a_path_goes_through_json_text_and_to_names() -> None:
    body = REQUESTS["responses"][1] | {"input": [{"type": "function_call", "name": "f", "arguments": '{"to": "x"}'}]}
    paths = [part.path for part in request_parts("aresponses", body) if "arguments" in part.path]
    assert paths == [("input", 0, "arguments", JSON, "to", KEY), ("input", 0, "arguments", JSON, "to")]


def test_files_are_noted_and_their_content_is_no_text() -> None:
    view = request_view(*REQUESTS["chat parts"])
    assert [(file.kind, file.media_type) for file in view.files] == [
        ("image", "image/png"),
        ("image", None),
        ("audio", None),
        ("file", "application/pdf"),
        ("file", None),
    ]
    assert not any("base64" in part.text or "AAAA" in part.text for part in view.texts)


def test_a_file_inside_a_result_is_noted_and_words_that_look_like_one_are_read() -> None:
    real, words = "data:image/png;base64," + "iVBO" * 200, "data:image/png;base64," + "my\nname\n" * 200
    for text, is_file in ((real, True), (words, False), (real[:100], False)):
        view = request_view("acompletion", chat({"role": "tool", "tool_call_id": "c", "content": text}))
        assert [file.media_type for file in view.files] == (["image/png"] if is_file else [])
        assert [part.text for part in view.texts] == ([] if is_file else [text])


def test_escapes_in_json_are_read_as_a_model_reads_them() -> None:
    inner = '{"to": "alice\\u0040example.com"}'
    body = user({"type": "text", "text": "x"})
    body["messages"] += [
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": json.dumps({"raw": inner})}}]},
        {"role": "tool", "tool_call_id": "c", "content": inner},
    ]
    assert [part.text for part in request_parts("acompletion", body)].count("alice@example.com") == 2


def test_long_numbers_in_arguments_are_text_and_short_ones_are_not() -> None:
    body = {"mcp_tool_name": "f", "mcp_arguments": {"card": 4111111111111111, "n": 3, "on": True, "f": 0.5}}
    parts = {part.path[-1]: part for part in request_parts("call_mcp_tool", body)}
    assert parts["card"].text == "4111111111111111"
    assert {"n", "on", "f"}.isdisjoint(parts)
    write_back(body, {parts["card"].path: "<CARD>"})
    assert body["mcp_arguments"]["card"] == "<CARD>"


def test_what_litellm_puts_beside_a_request_is_no_text_of_the_caller() -> None:
    # As its hooks get it, release 1.106.12; the notes hold objects that are no JSON.
    beside = dict.fromkeys("proxy_server_request secret_fields litellm_metadata litellm_logging_obj".split(), object())
    for call_type, body in REQUESTS.values():
        noted = body | beside | {"litellm_call_id": "not read"}
        read = canonical_request(call_type, noted, CallerNames.of(body), control_fields().obeys)
        assert read.texts == canonical_request(call_type, body, CallerNames.of(body)).texts
    said = {"prompt": "#1", "messages": [{"role": "user", "content": "#1"}]}
    assert len(request_parts("image_generation", said)) == 2


NAME = "ada@example.com"


@pytest.mark.parametrize("value", [None, True, 7, "", [], {}], ids=str)
def test_the_name_of_a_field_that_says_nothing_else_is_read(value: Any) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "x", NAME: value}], NAME: value}
    tool = {"type": "function", "function": {"name": "f", NAME: value}, NAME: value}
    body: dict[str, Any] = {"messages": [message], "tools": [tool]}
    parts = [part for part in request_parts("acompletion", body) if part.text == NAME]
    assert len(parts) == 4
    write_back(body, {part.path: "masked" for part in parts})
    assert NAME not in json.dumps(body)


def test_a_long_number_in_a_field_that_is_not_known_is_read() -> None:
    asked = user({"type": "text", "text": "x", "n": 4111111111111111})
    assert "4111111111111111" in {part.text for part in request_view("acompletion", asked).scanned}


def test_names_in_metadata_that_is_sent_are_read() -> None:
    for call_type in ("anthropic_messages", "aresponses"):
        texts = [part.text for part in request_parts(call_type, {"metadata": {NAME: "x", "user_id": "u"}})]
        assert {NAME, "x", "u"} <= set(texts)


REFUSED: dict[str, tuple[str, Any, str]] = {
    "call type": ("avideo_generation", {"prompt": "x"}, "call type"),
    "no object": ("acompletion", ["x"], "object"),
    "tokens in a prompt": ("atext_completion", {"prompt": [1, 2, 3]}, "tokens"),
    "token arrays in a prompt": ("atext_completion", {"prompt": [[1, 2], [3]]}, "tokens"),
    "tokens to embed": ("aembedding", {"input": [[1, 2]]}, "tokens"),
    "tokens to moderate": ("amoderation", {"input": [1]}, "tokens"),
    "content part": ("acompletion", user({"type": "hologram", "hologram": "x"}), "messages[0].content[0].type"),
    "content part without type": ("acompletion", user({"text": "x"}), "type"),
    "field of a part": ("acompletion", user({"type": "text", "text": "x", "aside": "y"}), "content[0].aside"),
    "field of a message": ("acompletion", chat({"role": "user", "content": "x", "aside": ["y"]}), "messages[0].aside"),
    "field of the body": ("acompletion", chat(aside={"x": 1}), "aside"),
    "tokens in an unknown field": ("acompletion", chat(prompt_ids=[1, 2]), "prompt_ids"),
    "role": ("acompletion", chat({"role": "oracle", "content": "x"}), "messages[0].role"),
    "item": ("aresponses", {"input": [{"type": "hologram", "text": "x"}]}, "input[0].type"),
    "fallbacks": ("acompletion", chat(fallbacks=["m"]), "fallbacks"),
    "text in a data URL": (
        "acompletion",
        user({"type": "image_url", "image_url": {"url": "data:text/plain,hello there"}}),
        "data URL",
    ),
    "words in base64": (
        "acompletion",
        user({"type": "image_url", "image_url": {"url": "data:image/png;base64,hello there"}}),
        "data URL",
    ),
    "repeated names in arguments": (
        "acompletion",
        chat({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"a":"x","a":"y"}'}}]}),
        "two entries",
    ),
}


@pytest.mark.parametrize(("call_type", "body", "says"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_understood_is_refused_and_the_message_says_where(call_type: str, body: Any, says: str) -> None:
    with pytest.raises(UnknownShape, match=re.escape(says)):
        request_parts(call_type, body)


def test_a_refusal_repeats_nothing_that_could_be_personal() -> None:
    with pytest.raises(UnknownShape) as refusal:
        request_parts("acompletion", chat(**{"alice@example.com": "x"}))
    assert "alice" not in str(refusal.value)


def test_a_message_between_agents_is_read_unless_it_is_encrypted() -> None:
    """A card's number and most keys are in base64's alphabet too."""
    for said, read in (("4111111111111111", True), ("gAAAAABod2hhdCB0aGUgbW9kZWwgdGhvdWdodA==", False)):
        part = {"type": "encrypted_content", "encrypted_content": said}
        texts = [
            each.text for each in request_parts("aresponses", {"input": [{"type": "agent_message", "content": [part]}]})
        ]
        assert (said in texts) is read


def test_an_identifier_that_is_none_is_read_as_text() -> None:
    said = chat({"role": "tool", "tool_call_id": "alice@example.com", "content": "x"})
    assert "alice@example.com" in [part.text for part in request_parts("acompletion", said)]
    said = chat({"role": "tool", "tool_call_id": "4111-1111-1111-1111", "content": "x"})
    assert "4111-1111-1111-1111" in [part.text for part in request_parts("acompletion", said)]


@pytest.mark.parametrize("depth", [200, 5_000, 200_000])
def test_deep_nesting_is_refused_wherever_it_hides(depth: int) -> None:
    deep: Any = "x"
    for _ in range(min(depth, 5_000)):
        deep = [deep]
    result: dict[str, Any] = {"type": "text", "text": "x"}
    for _ in range(min(depth, 5_000)):
        result = {"type": "tool_result", "tool_use_id": "t", "content": [result]}
    calls = [{"function": {"name": "f", "arguments": "[" * depth + "]" * depth}}]
    for call_type, body in (
        ("call_mcp_tool", {"mcp_arguments": {"a": deep}}),
        ("acompletion", chat(tools=[{"type": "function", "function": {"name": "f", "parameters": {"a": deep}}}])),
        ("acompletion", chat({"role": "assistant", "tool_calls": calls})),
        ("anthropic_messages", {"messages": [{"role": "user", "content": [result]}]}),
    ):
        with pytest.raises(UnknownShape, match="deep"):
            request_parts(call_type, body)


def test_more_texts_than_a_model_takes_are_refused() -> None:
    with pytest.raises(UnknownShape, match="texts"):
        request_parts("aembedding", {"input": ["x"] * 50_001})


@pytest.mark.parametrize(
    "path",
    [("nowhere",), ("messages", 7), ("messages", 0, "content", 0), ("messages", 0, "content", JSON, "a"), ("x", KEY)],
)
def test_writing_where_nothing_is_fails_loudly(path: Any) -> None:
    with pytest.raises(UnknownShape):
        write_back(chat({"role": "user", "content": "hi"}), {path: "y"})


def test_two_names_never_become_one() -> None:
    body = {"mcp_arguments": {"a": 1, "b": 2}}
    with pytest.raises(UnknownShape):
        write_back(body, {("mcp_arguments", "a", KEY): "same", ("mcp_arguments", "b", KEY): "same"})


def test_a_long_conversation_is_read_in_a_fraction_of_a_millisecond() -> None:
    turn = "the quick brown fox jumps over the lazy dog " * 18
    body = chat(*({"role": role, "content": turn} for _ in range(10) for role in ("user", "assistant")))
    # Measured: 0.03 ms. The bound leaves room for a machine much slower than usual.
    assert min(timeit.repeat(lambda: request_parts("acompletion", body), number=1, repeat=50)) < 0.001


# -- writing into JSON text -------------------------------------------------------------------------------------------

WRITTEN = r"""  { "n" : 1.50e0 ,"caf\u00e9":[ ],
  "to":"Jos\u00e9 <\u0061da@x.org>\/" ,
  "deep": [{"\ud83d\ude00": "say \"b\"", "raw": "é"}, "ada@x.org"], "i": 12345678 }
"""


def rewritten(replaced: dict[tuple[Any, ...], str]) -> str:
    body = {"arguments": WRITTEN}
    write_back(body, {("arguments", JSON, *path): text for path, text in replaced.items()})
    return body["arguments"]


@pytest.mark.parametrize(
    ("path", "text", "old", "new"),
    [
        (("to",), "José <X>/", r"\u0061da@x.org", "X"),
        (("deep", 0, "\U0001f600"), 'say "c"', r"\"b", r"\"c"),
        (("deep", 0, "raw"), 'é"\\', "é", r"é\"\\"),
        (("deep", 1), "<A>", 'ada@x.org"]', '<A>"]'),
        (("deep", 1), "\ud800", 'ada@x.org"]', r"\ud800" + '"]'),
        (("i",), "<A>", "12345678", '"<A>"'),
        (("caf\u00e9", KEY), "cafe", r"caf\u00e9", "cafe"),
        (("deep", 0, "\U0001f600", KEY), "x", r"\ud83d\ude00", "x"),
        (("n", KEY), "m", '"n"', '"m"'),
    ],
)
def test_of_json_text_only_what_is_replaced_changes(path: tuple[Any, ...], text: str, old: str, new: str) -> None:
    assert WRITTEN.count(old) == 1
    assert rewritten({path: text}) == WRITTEN.replace(old, new)


def test_json_text_changes_in_many_places_at_once_and_stays_one_value() -> None:
    now = rewritten({("to",): "X", ("to", KEY): "who", ("deep", 1): "Y", ("deep", 0, "raw"): "Z", ("i",): "W"})
    assert json.loads(now) == {
        "n": 1.5,
        "café": [],
        "who": "X",
        "deep": [{"\U0001f600": 'say "b"', "raw": "Z"}, "Y"],
        "i": "W",
    }
    assert list(json.loads(now)) == ["n", "café", "who", "deep", "i"]


def test_json_in_json_changes_in_place_too() -> None:
    inner = '{ "to" : "\\u0061da" ,"n":1.0}'
    outer = f'{{ "a" : {json.dumps(inner)} }}'
    body = {"arguments": outer}
    write_back(body, {("arguments", JSON, "a", JSON, "to"): "X"})
    assert body["arguments"] == outer.replace(r"\\u0061da", "X")


@pytest.mark.parametrize("path", [("nowhere",), ("deep", 2), ("deep", -1), ("to", "x"), ("deep",), ("nowhere", KEY)])
def test_a_path_that_leads_nowhere_in_json_text_is_refused(path: tuple[Any, ...]) -> None:
    with pytest.raises(UnknownShape):
        rewritten({path: "X"})


def test_two_names_of_json_text_do_not_become_one() -> None:
    with pytest.raises(UnknownShape, match="two names"):
        rewritten({("to", KEY): "n"})
