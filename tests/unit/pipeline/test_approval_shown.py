"""What a provider holds, and a request only names, is found on every route, and nothing else is taken for it."""

from __future__ import annotations

from typing import Any

import pytest
from gatehouse.core.errors import ContentBlocked
from gatehouse.dialects import request_view
from gatehouse.pipeline.call_facts import check_shown

DATA = "data:image/png;base64,iVBORw0KGgo="


def chat(part: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": [part]}], **more}


def asked(**more: Any) -> dict[str, Any]:
    return {"model": "m", "input": "hello", **more}


def tool(**more: Any) -> dict[str, Any]:
    return asked(tools=[more])


def item(**more: Any) -> dict[str, Any]:
    return {"model": "m", "input": [more]}


@pytest.mark.parametrize(
    ("call_type", "body", "param"),
    [
        ("acompletion", chat({"type": "file", "file": {"file_id": "file-1"}}), "messages[0].content[0].file.file_id"),
        (
            "acompletion",
            chat({"type": "image_url", "image_url": {"file_id": "f"}}),
            "messages[0].content[0].image_url.file_id",
        ),
        (
            "acompletion",
            {"model": "m", "messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]},
            "messages[0].audio.id",
        ),
        ("acompletion", chat({"type": "text", "text": "x"}, extra_body={"cached_content": "c"}), None),
        ("acompletion", chat({"type": "text", "text": "x"}, extra_body={"new": {"vector_store_ids": ["v"]}}), None),
        (
            "anthropic_messages",
            chat({"type": "document", "source": {"type": "file", "file_id": "f"}}),
            "messages[0].content[0].source.file_id",
        ),
        (
            "anthropic_messages",
            chat({"type": "container_upload", "file_id": "f"}),
            "messages[0].content[0].file_id",
        ),
        ("anthropic_messages", chat({"type": "text", "text": "x"}, container="container_1"), "container"),
        ("anthropic_messages", chat({"type": "text", "text": "x"}, container={"id": "c"}), "container.id"),
        (
            "anthropic_messages",
            chat({"type": "text", "text": "x"}, container={"skills": [{"type": "custom", "skill_id": "s"}]}),
            "container.skills[0].skill_id",
        ),
        ("aembedding", asked() | {"input": ["x", "gs://bucket/a.pdf"]}, "input[1]"),
        ("acompletion", chat({"type": "text", "text": "x"}, plugins=[{"file_id": "f"}]), "plugins[0].file_id"),
        (
            "acompletion",
            chat({"type": "text", "text": "x"}, extra_body={"new": {"uri": "s3://b/a"}}),
            "extra_body.new.uri",
        ),
        ("aresponses", asked(previous_response_id="resp_1"), "previous_response_id"),
        ("aresponses", asked(extra_body={"conversation": {"id": "conv_1"}}), "conversation"),
        ("aresponses", asked(conversation="conv_1"), "conversation"),
        ("aresponses", asked(conversation={"id": "conv_1"}), "conversation"),
        ("aresponses", asked(prompt={"id": "pmpt_1", "variables": {"a": "b"}}), "prompt.id"),
        ("aresponses", tool(type="file_search", vector_store_ids=["vs_1"]), "tools[0].vector_store_ids"),
        ("aresponses", tool(type="code_interpreter", container="cntr_1"), "tools[0].container"),
        (
            "aresponses",
            tool(type="code_interpreter", container={"type": "auto", "file_ids": ["f"]}),
            "tools[0].container.file_ids",
        ),
        (
            "aresponses",
            tool(type="shell", environment={"type": "container_reference", "container_id": "c"}),
            "tools[0].environment.container_id",
        ),
        (
            "aresponses",
            tool(type="image_generation", input_image_mask={"file_id": "f"}),
            "tools[0].input_image_mask.file_id",
        ),
        ("aresponses", item(type="item_reference", id="msg_1"), "input[0].id"),
        ("aresponses", item(type="image_generation_call", id="ig_1", status="completed"), "input[0].id"),
        (
            "aresponses",
            item(type="code_interpreter_call", id="c", code="1", container_id="cntr_1", status="completed"),
            "input[0].container_id",
        ),
        (
            "aresponses",
            item(role="user", content=[{"type": "input_file", "file_id": "f"}]),
            "input[0].content[0].file_id",
        ),
    ],
)
def test_what_reviewers_cannot_be_shown_is_refused_by_name(
    call_type: str, body: dict[str, Any], param: str | None
) -> None:
    stored = request_view(call_type, body).stored
    with pytest.raises(ContentBlocked, match="that the provider holds") as refused:
        check_shown(stored, ("big",))
    assert (refused.value.status, refused.value.policies) == (403, ("big",))
    assert refused.value.param is not None
    if param is not None:
        assert refused.value.param == param


@pytest.mark.parametrize(
    ("call_type", "body"),
    [
        # A link, and content that comes along, are shown.
        ("acompletion", chat({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})),
        ("acompletion", chat({"type": "image_url", "image_url": {"url": DATA}})),
        ("acompletion", chat({"type": "file", "file": {"file_data": DATA, "filename": "a.png"}})),
        ("aresponses", item(role="user", content=[{"type": "input_file", "file_url": "https://example.com/a.pdf"}])),
        ("aresponses", item(type="image_generation_call", id="ig_1", result="iVBORw0KGgo=", status="completed")),
        # Nothing is named.
        ("aresponses", asked(previous_response_id="", conversation=None, store=True)),
        ("aresponses", tool(type="code_interpreter", container={"type": "auto", "file_ids": []})),
        ("aresponses", tool(type="mcp", server_label="s", server_url="https://example.com/mcp")),
        (
            "anthropic_messages",
            chat({"type": "text", "text": "x"}, container={"skills": [{"type": "anthropic", "skill_id": "pdf"}]}),
        ),
        # Those names in what a function takes, is given or answers are its own.
        (
            "aresponses",
            tool(
                type="function",
                name="read",
                parameters={"type": "object", "properties": {"file_id": {"type": "string"}}},
            ),
        ),
        (
            "acompletion",
            chat(
                {"type": "text", "text": "file_id: f"},
                tools=[
                    {"type": "function", "function": {"name": "r", "parameters": {"properties": {"container": {}}}}}
                ],
            ),
        ),
        ("aresponses", item(type="function_call", call_id="c", name="read", arguments='{"file_id": "f"}')),
        (
            "anthropic_messages",
            chat({"type": "text", "text": "x"}, tools=[{"name": "read", "input_examples": [{"file_id": "f"}]}]),
        ),
        ("aembedding", asked() | {"input": ["copy gs://bucket/a.pdf", "files/ are here"]}),
        (
            "anthropic_messages",
            {
                "model": "m",
                "messages": [
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "t", "name": "r", "input": {"file_id": "f"}}],
                    },
                    {
                        "role": "user",
                        "content": [{"type": "tool_result", "tool_use_id": "t", "content": '{"container_id": "c"}'}],
                    },
                ],
            },
        ),
        (
            "acompletion",
            chat(
                {"type": "text", "text": "x"},
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {"properties": {"conversation": {}}}},
                },
            ),
        ),
    ],
)
def test_what_reviewers_can_be_shown_is_not_refused(call_type: str, body: dict[str, Any]) -> None:
    check_shown(request_view(call_type, body).stored, ("big",))
