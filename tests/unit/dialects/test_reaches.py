"""What a provider would reach out to is a fact; no server that it would call by itself passes unless it is named."""

from __future__ import annotations

from typing import Any

import pytest
from gatehouse.core.errors import PolicyDenied, TooLarge
from gatehouse.dialects.canonical import CallerNames, CanonicalRequest, canonical_request
from gatehouse.dialects.reaches import MAX_FACTS, check_servers, check_stored_data, reaches, without_ids

SERVER = {"type": "mcp", "server_label": "tickets", "server_url": "https://mcp.example.com/sse"}
MAIL = {"type": "mcp", "server_label": "mail", "connector_id": "connector_gmail"}
ANTHROPIC = {"type": "url", "name": "tickets", "url": "https://mcp.example.com/sse"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"tools": [SERVER]}, "tools[0].server_url"),
        ({"tools": [{"type": "function", "name": "f"}, MAIL]}, "tools[1].connector_id"),
        ({"tools": [{"type": "mcp", "server_label": "tickets"}]}, "tools[0].type"),
        ({"tools": [{"type": "of_next_year", "server_url": "https://mcp.example.com"}]}, "tools[0].server_url"),
        ({"tools": [{"type": "namespace", "name": "n", "tools": [SERVER]}]}, "tools[0].tools[0].server_url"),
        ({"tools": [SERVER | {"server_url": ["https://mcp.example.com"]}]}, "tools[0].server_url"),
        ({"tools": [SERVER | {"server_url": "litellm_proxy/mcp/tickets"}]}, "tools[0].server_url"),
        ({"input": ["x", {"type": "additional_tools", "tools": [SERVER]}]}, "input[1].tools[0].server_url"),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_addition", "tool": SERVER}]}]},
            "messages[0].content[0].tool.server_url",
        ),
        ({"mcp_servers": [ANTHROPIC]}, "mcp_servers[0]"),
        ({"mcp_servers": ["https://mcp.example.com"]}, "mcp_servers[0]"),
        ({"mcp_servers": {"url": "https://mcp.example.com"}}, "mcp_servers"),
    ],
)
def test_no_server_is_allowed_as_shipped(body: dict[str, Any], field: str) -> None:
    with pytest.raises(PolicyDenied) as refused:
        check_servers(body, ())
    assert refused.value.param == field
    assert refused.value.policies == ("hosted_mcp",)


@pytest.mark.parametrize(
    "body",
    [
        {"input": "mcp", "messages": [1, {"content": "mcp", "tools": 1}]},
        {},
        {"tools": None},
        {"tools": []},
        {"mcp_servers": []},
        {"tools": [{"type": "function", "name": "mcp"}]},
    ],
)
def test_what_calls_no_server_passes(body: dict[str, Any]) -> None:
    check_servers(body, ())


@pytest.mark.parametrize(
    ("allowed", "address", "passes"),
    [
        ("https://mcp.example.com/", "https://mcp.example.com/sse", True),
        ("https://mcp.example.com", "https://mcp.example.com", True),
        ("https://mcp.example.com", "https://MCP.example.com:443/sse?x=1", True),
        ("https://mcp.example.com/team", "https://mcp.example.com/team/a", True),
        ("https://mcp.example.com/team/", "https://mcp.example.com/team", True),
        ("https://mcp.example.com/team", "https://mcp.example.com/teams", False),
        ("https://mcp.example.com/team", "https://mcp.example.com/team/../other", False),
        ("https://mcp.example.com/team", "https://mcp.example.com/team/%2E./other", False),
        ("https://mcp.example.com/", "https://mcp.example.com.evil.example/", False),
        ("https://mcp.example.com/", "https://mcp.example.com@evil.example/", False),
        ("https://mcp.example.com/", "https://evil.example\\@mcp.example.com/", False),
        ("https://mcp.example.com/", "https://mcp.example.com:8443/", False),
        ("https://mcp.example.com/", "https://mcp.example.com:x/", False),
        ("https://mcp.example.com/", "http://mcp.example.com/", False),
        ("https://mcp.example.com/", "https://mcp.example.com/ x", False),
        ("https://mcp.example.com/", "//mcp.example.com/", False),
        ("https://mcp.example.com/", "", False),
        ("connector_gmail", "connector_gmail", True),
        ("connector_gmail", "connector_gmail_2", False),
        ("connector_gmail", "connector_gmail/x", False),
        ("litellm_proxy", "litellm_proxy/mcp/tickets", True),
    ],
)
def test_a_server_is_allowed_by_its_address_or_name(allowed: str, address: str, passes: bool) -> None:
    for body in (
        {"tools": [{"type": "mcp", "server_url": address}]},
        {"mcp_servers": [{"type": "url", "url": address, "name": "a"}]},
    ):
        if passes:
            check_servers(body, ["https://another.example", allowed])
        else:
            with pytest.raises(PolicyDenied):
                check_servers(body, ["https://another.example", allowed])


def test_each_of_several_servers_must_be_allowed() -> None:
    with pytest.raises(PolicyDenied) as refused:
        check_servers({"tools": [SERVER, MAIL]}, ["https://mcp.example.com/"])
    assert refused.value.param == "tools[1].connector_id"
    both = SERVER | {"connector_id": "connector_gmail"}
    with pytest.raises(PolicyDenied):
        check_servers({"tools": [both]}, ["https://mcp.example.com/"])


def request_of(call_type: str, body: dict[str, Any]) -> CanonicalRequest:
    return canonical_request(call_type, {"model": "m", **body}, CallerNames.of(body))


def of(call_type: str, **fields: Any) -> tuple[str, ...]:
    return reaches(request_of(call_type, fields))


def says(*content: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "hello"}, *content]}]


def test_links_are_facts_by_their_host_in_every_api() -> None:
    link = {"type": "image_url", "image_url": {"url": "https://Images.example.com/a.png"}}
    data = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert of("acompletion", messages=says(link, data)) == ("link:images.example.com",)
    assert of("acompletion", messages=says(data)) == ()
    odd = {"type": "image_url", "image_url": {"url": "https://x y@/a.png"}}
    assert of("acompletion", messages=says(odd)) == ("link:unknown",)
    source = {"type": "url", "url": "http://files.example/a.pdf"}
    assert of("anthropic_messages", max_tokens=5, messages=says({"type": "document", "source": source})) == (
        "link:files.example",
    )
    parts = [
        {"type": "input_image", "image_url": "https://a.example/"},
        {"type": "input_file", "file_url": "HTTPS://B"},
    ]
    assert of("aresponses", input=[{"role": "user", "content": parts}]) == ("link:a.example", "link:b")


def test_what_a_provider_keeps_and_looks_up_is_a_fact() -> None:
    tools = [
        SERVER,
        MAIL,
        {"type": "file_search", "vector_store_ids": ["vs_1"]},
        {"type": "web_search_preview"},
        {"type": "function", "name": "f", "parameters": {}},
    ]
    assert of("aresponses", input="hello", tools=tools, prompt={"id": "pmpt_1"}) == (
        "connector:connector_gmail",
        "mcp:mcp.example.com",
        "prompt",
        "prompt:pmpt_1",
        "vector_store",
        "vector_store:vs_1",
        "web",
    )
    assert of("atext_completion", prompt="hello") == ()
    assert of("acompletion", messages=says(), web_search_options={}) == ("web",)


PATH = "messages[0].content[1]"
BUCKET = "gs://bucket/private.pdf"
UPLOADED = "https://generativelanguage.googleapis.com/v1beta/files/abc-1"


def chat(*content: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": says(*content), **more}


def asked(*content: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}, *content]}], **more}


def claude(*content: dict[str, Any], **more: Any) -> dict[str, Any]:
    return chat(*content, max_tokens=5, **more)


def tool(**more: Any) -> dict[str, Any]:
    return asked(tools=[more])


# Each way in which a request refers to what the provider keeps: the API, the body, the fact, the field.
KEPT: list[tuple[str, dict[str, Any], str, str]] = [
    ("acompletion", chat({"type": "file", "file": {"file_id": "file-1"}}), "file:file-1", f"{PATH}.file.file_id"),
    ("acompletion", chat({"type": "file", "file": {"file_id": UPLOADED}}), f"file:{UPLOADED}", f"{PATH}.file.file_id"),
    ("acompletion", chat({"type": "file", "file": {"file_data": BUCKET}}), f"file:{BUCKET}", f"{PATH}.file.file_data"),
    (
        "acompletion",
        chat({"type": "image_url", "image_url": {"file_id": "file-1"}}),
        "file:file-1",
        f"{PATH}.image_url.file_id",
    ),
    (
        "acompletion",
        chat({"type": "image_url", "image_url": {"url": " s3://bucket/a.png"}}),
        "file:unknown",
        f"{PATH}.image_url.url",
    ),
    ("acompletion", chat({"type": "video_url", "video_url": UPLOADED}), f"file:{UPLOADED}", f"{PATH}.video_url"),
    (
        "acompletion",
        {"messages": [{"role": "tool", "tool_call_id": "t", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
        "file:f",
        "messages[0].content[0].file.file_id",
    ),
    (
        "acompletion",
        chat(tools=[{"type": "file_search", "vector_store_ids": ["vs_1"]}]),
        "vector_store:vs_1",
        "tools[0].vector_store_ids[0]",
    ),
    (
        "acompletion",
        chat(tools=[{"retrieval": {"vertexAiSearch": {"datastore": "projects/p/dataStores/d"}}}]),
        "vector_store:projects/p/dataStores/d",
        "tools[0].retrieval.vertexAiSearch.datastore",
    ),
    (
        "acompletion",
        chat(extra_body={"cachedContent": "cachedContents/1"}),
        "cached_prompt:cachedContents/1",
        "extra_body.cachedContent",
    ),
    ("acompletion", chat(extra_body={"new": {"file_ids": [["f"]]}}), "file:unknown", "extra_body.new.file_ids[0]"),
    ("acompletion", chat(extra_body={"new": {"file_ids": [{"id": "f"}]}}), "file:f", "extra_body.new.file_ids[0].id"),
    ("acompletion", chat(extra_body={"new": {"file_id": {"id": "f"}}}), "file:f", "extra_body.new.file_id.id"),
    ("acompletion", chat(extra_body={"new": {"file_id": 1}}), "file:unknown", "extra_body.new.file_id"),
    ("acompletion", chat(extra_body={"new": {"uri": BUCKET}}), f"file:{BUCKET}", "extra_body.new.uri"),
    ("acompletion", chat(plugins=[{"file_id": "f"}]), "file:f", "plugins[0].file_id"),
    (
        "acompletion",
        chat(tools=[{"retrieval": {"vertexRagStore": {"ragResources": [{"ragCorpus": "projects/p/ragCorpora/1"}]}}}]),
        "vector_store:projects/p/ragCorpora/1",
        "tools[0].retrieval.vertexRagStore.ragResources[0].ragCorpus",
    ),
    (
        "acompletion",
        chat(tools=[{"retrieval": {"vertexAiSearch": {"engine": "projects/p/locations/l/engines/e"}}}]),
        "vector_store:projects/p/locations/l/engines/e",
        "tools[0].retrieval.vertexAiSearch.engine",
    ),
    ("aembedding", {"input": ["hello", BUCKET]}, f"file:{BUCKET}", "input[1]"),
    ("aembedding", {"input": "files/abc-1"}, "file:files/abc-1", "input"),
    (
        "aimage_generation",
        {"prompt": "x", "extra_body": {"images": [{"file_id": "f"}], "mask": {}}},
        "file:f",
        "extra_body.images[0].file_id",
    ),
    ("aimage_generation", {"prompt": "x", "image": [BUCKET]}, f"file:{BUCKET}", "image[0]"),
    (
        "anthropic_messages",
        claude({"type": "document", "source": {"type": "file", "file_id": "file_1"}}),
        "file:file_1",
        f"{PATH}.source.file_id",
    ),
    (
        "anthropic_messages",
        claude({"type": "image", "source": {"type": "file", "file_id": "file_1"}}),
        "file:file_1",
        f"{PATH}.source.file_id",
    ),
    ("anthropic_messages", claude({"type": "container_upload", "file_id": "f"}), "file:f", f"{PATH}.file_id"),
    (
        "anthropic_messages",
        claude(
            {
                "type": "tool_result",
                "tool_use_id": "t",
                "content": [{"type": "document", "source": {"type": "file", "file_id": "f"}}],
            }
        ),
        "file:f",
        f"{PATH}.content[0].source.file_id",
    ),
    (
        "anthropic_messages",
        claude(system=[{"type": "document", "source": {"type": "file", "file_id": "f"}}]),
        "file:f",
        "system[0].source.file_id",
    ),
    (
        "anthropic_messages",
        claude(container={"id": "c", "skills": [{"type": "custom", "skill_id": "skill_1"}]}),
        "skill:skill_1",
        "container.skills[0].skill_id",
    ),
    ("aresponses", asked({"type": "input_file", "file_id": "file-1"}), "file:file-1", "input[0].content[1].file_id"),
    ("aresponses", asked({"type": "input_image", "file_id": "file-1"}), "file:file-1", "input[0].content[1].file_id"),
    (
        "aresponses",
        {
            "input": [
                {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_file", "file_id": "f"}]}
            ]
        },
        "file:f",
        "input[0].output[0].file_id",
    ),
    (
        "aresponses",
        {
            "input": [
                {
                    "type": "computer_call_output",
                    "call_id": "c",
                    "output": {"type": "computer_screenshot", "file_id": "f"},
                }
            ]
        },
        "file:f",
        "input[0].output.file_id",
    ),
    (
        "aresponses",
        tool(type="code_interpreter", container={"type": "auto", "file_ids": ["file-1"]}),
        "file:file-1",
        "tools[0].container.file_ids[0]",
    ),
    (
        "aresponses",
        tool(type="shell", environment={"type": "container_auto", "skills": [{"skill_id": "skill_1"}]}),
        "skill:skill_1",
        "tools[0].environment.skills[0].skill_id",
    ),
    (
        "aresponses",
        tool(type="image_generation", input_image_mask={"file_id": "f"}),
        "file:f",
        "tools[0].input_image_mask.file_id",
    ),
    (
        "aresponses",
        tool(type="file_search", vector_store_ids=["vs_1"]),
        "vector_store:vs_1",
        "tools[0].vector_store_ids[0]",
    ),
    (
        "aresponses",
        tool(type="namespace", name="n", tools=[{"type": "file_search", "vector_store_ids": "vs_1"}]),
        "vector_store:vs_1",
        "tools[0].tools[0].vector_store_ids",
    ),
    (
        "aresponses",
        {"input": [{"type": "additional_tools", "tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}]},
        "vector_store:vs_1",
        "input[0].tools[0].vector_store_ids[0]",
    ),
    ("aresponses", asked(prompt={"id": "pmpt_1", "version": "2"}), "prompt:pmpt_1", "prompt.id"),
    ("aresponses", asked(extra_body={"prompt": {"id": "pmpt_1"}}), "prompt:pmpt_1", "extra_body.prompt.id"),
    (
        "aresponses",
        asked(prompt={"id": "pmpt_1", "variables": {"a": {"type": "input_file", "file_id": "f"}}}),
        "file:f",
        "prompt.variables.a.file_id",
    ),
]


@pytest.mark.parametrize(("call_type", "body", "fact", "field"), KEPT, ids=[f"{k[0]} {k[3]} {k[2]}" for k in KEPT])
def test_what_a_provider_keeps_is_a_fact_and_refused_but_where_the_policy_lists_it(
    call_type: str, body: dict[str, Any], fact: str, field: str
) -> None:
    request = request_of(call_type, body)
    facts = reaches(request)
    assert fact in facts
    every = [
        each for each in facts if each.startswith(("file:", "vector_store:", "prompt:", "cached_prompt:", "skill:"))
    ]
    check_stored_data(request, every)
    with pytest.raises(PolicyDenied) as refused:
        check_stored_data(request, [each for each in every if each != fact])
    assert (refused.value.param, refused.value.policies) == (field, ("provider_data",))
    assert f'"{fact.partition(":")[0]}:ID" to provider_data.allow in policy.yaml' in refused.value.message
    assert "provider_data.teams" in refused.value.message
    assert fact not in refused.value.message  # the place, never the value
    beginnings = {f"{each.partition(':')[0]}:*" for each in every}
    check_stored_data(request, beginnings)
    with pytest.raises(PolicyDenied):
        check_stored_data(request, beginnings - {f"{fact.partition(':')[0]}:*"})


CITED = {"type": "file_citation", "file_id": "file-1", "filename": "a.pdf", "index": 3}
IN_CONTAINER = {"type": "container_file_citation", "container_id": "cntr_1", "file_id": "cfile_1", "filename": "a.csv"}


@pytest.mark.parametrize(
    ("call_type", "body"),
    [
        (
            "aresponses",
            {
                "input": [
                    {"role": "user", "content": "hello"},
                    {
                        "type": "file_search_call",
                        "id": "fs_1",
                        "status": "completed",
                        "queries": ["x"],
                        "results": [{"file_id": "file-1", "filename": "a.pdf", "text": "t", "vector_store_id": "vs_1"}],
                    },
                    {
                        "type": "message",
                        "role": "assistant",
                        "id": "msg_1",
                        "content": [{"type": "output_text", "text": "x", "annotations": [CITED, IN_CONTAINER]}],
                    },
                    {"role": "user", "content": "and?"},
                ]
            },
        ),
        (
            "acompletion",
            {
                "messages": [
                    {"role": "user", "content": "hello"},
                    {"role": "assistant", "content": "x", "annotations": [CITED]},
                    {"role": "assistant", "content": [{"type": "text", "text": "x", "annotations": [CITED]}]},
                ]
            },
        ),
        (
            "anthropic_messages",
            {
                "max_tokens": 5,
                "messages": [
                    {"role": "user", "content": "hello"},
                    {
                        "role": "assistant",
                        "content": [
                            {
                                "type": "bash_code_execution_tool_result",
                                "tool_use_id": "srvtoolu_1",
                                "content": {
                                    "type": "bash_code_execution_result",
                                    "content": [{"type": "bash_code_execution_output", "file_id": "file_1"}],
                                },
                            },
                            {
                                "type": "text",
                                "text": "x",
                                "citations": [
                                    {"type": "char_location", "cited_text": "t", "document_index": 0, "file_id": "f"}
                                ],
                            },
                        ],
                    },
                ],
            },
        ),
        # A function's own, and what is no reference.
        (
            "anthropic_messages",
            claude(
                tools=[
                    {
                        "name": "read",
                        "input_schema": {"type": "object", "properties": {"file_id": {"type": "string"}}},
                        "input_examples": [{"file_id": "f", "uri": BUCKET}],
                    }
                ]
            ),
        ),
        ("acompletion", chat({"type": "text", "text": f"copy {BUCKET}"}, documents=[{"file_id": "f", "text": "t"}])),
        ("acompletion", chat(generation_config={"response_schema": {"properties": {"file_id": {"type": "string"}}}})),
        ("acompletion", chat(metadata={"file_id": "f"})),
        ("acompletion", chat(extra_body={"trace": {"datastore": "postgres", "path": "projects/p/readme"}})),
        ("acompletion", chat({"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}})),
        ("aembedding", {"input": [f"copy {BUCKET}", "files/ are here", "hello"]}),
        ("aresponses", asked(client_metadata={"container": "c"})),
        ("aresponses", tool(type="code_interpreter", container={"type": "auto"})),
        (
            "aresponses",
            {"input": [{"type": "function_call", "call_id": "c", "name": "n", "arguments": '{"file_id":"f"}'}]},
        ),
    ],
)
def test_what_is_only_repeated_or_a_functions_own_is_no_reference(call_type: str, body: dict[str, Any]) -> None:
    request = request_of(call_type, body)
    check_stored_data(request, ())
    assert reaches(request) == ()


@pytest.mark.parametrize(
    ("call_type", "body", "facts"),
    [
        ("aresponses", tool(type="code_interpreter", container="cntr_1"), ("container:cntr_1",)),
        (
            "aresponses",
            {"input": [{"type": "code_interpreter_call", "id": "c", "code": "1", "container_id": "cntr_1"}]},
            ("container:cntr_1",),
        ),
        ("anthropic_messages", claude(container="container_1"), ("container:container_1",)),
        ("anthropic_messages", claude(container={"skills": [{"type": "anthropic", "skill_id": "pdf"}]}), ()),
        ("aresponses", asked(previous_response_id="resp_1", conversation={"id": "conv_1"}), ()),
        ("aresponses", {"input": [{"type": "item_reference", "id": "msg_1"}]}, ()),
        ("aresponses", {"input": [{"type": "image_generation_call", "id": "ig_1", "status": "completed"}]}, ()),
        # A link in the place of an id, which some providers open, is a link.
        (
            "acompletion",
            chat({"type": "file", "file": {"file_id": "https://docs.example/a.pdf"}}),
            ("link:docs.example",),
        ),
        (
            "acompletion",
            chat(extra_body={"x": {"fileUris": [], "fileUri": "https://docs.example"}}),
            ("link:docs.example",),
        ),
    ],
)
def test_what_callers_get_from_their_own_answers_is_not_refused(
    call_type: str, body: dict[str, Any], facts: tuple[str, ...]
) -> None:
    request = request_of(call_type, body)
    check_stored_data(request, ())
    assert reaches(request) == facts


@pytest.mark.parametrize(
    "name", ["", "x" * 513, "a b", "a\n", "é", "a?b", 'a"b', "<EMAIL>", '{"id": "f"}', "data:text/plain;base64,QUJD"]
)
def test_an_id_that_is_none_is_unknown_and_refused(name: str) -> None:
    request = request_of("acompletion", chat({"type": "file", "file": {"file_id": name}}))
    assert reaches(request) == (("file:unknown",) if name else ())
    if name:
        with pytest.raises(PolicyDenied):
            check_stored_data(request, [f"file:{name}", "file:a*"])


@pytest.mark.parametrize(
    ("allowed", "name", "passes"),
    [
        ("file:file-1", "file-1", True),
        ("file:file-1", "file-12", False),
        ("file:file-1", "FILE-1", False),
        ("vector_store:file-1", "file-1", False),
        ("file:gs://bucket/team/*", "gs://bucket/team/a.pdf", True),
        ("file:gs://bucket/team/*", "gs://bucket/teams/a.pdf", False),
        ("file:gs://bucket/team/*", "gs://bucket/team/../other/a.pdf", False),
        ("file:gs://bucket/team/*", "gs://bucket/team/%2e%2e/other", False),
        ("file:*", "gs://bucket/team/../other/a.pdf", True),
        ("file:*", "a b", True),
    ],
)
def test_a_file_is_allowed_by_its_id_or_by_how_it_begins(allowed: str, name: str, passes: bool) -> None:
    request = request_of("acompletion", chat({"type": "file", "file": {"file_id": name}}))
    if passes:
        check_stored_data(request, ["prompt:x", allowed])
    else:
        with pytest.raises(PolicyDenied):
            check_stored_data(request, ["prompt:x", allowed])


def test_nothing_hides_behind_others_however_many_there_are() -> None:
    many = [{"type": "file", "file": {"file_id": f"a{number}"}} for number in range(MAX_FACTS)]
    assert len(reaches(request_of("acompletion", chat(*many)))) == MAX_FACTS
    with pytest.raises(TooLarge, match="Send fewer"):
        reaches(request_of("acompletion", chat(*many, {"type": "file", "file": {"file_id": "z"}})))


def test_ids_in_which_nobody_has_looked_for_personal_data_are_left_out() -> None:
    facts = ("container:c", "file:a", "file:b", "link:a.example", "prompt", "prompt:p", "web")
    assert without_ids(facts) == ("container", "file", "link:a.example", "prompt", "web")
