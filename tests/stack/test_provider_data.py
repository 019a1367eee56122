"""Callers reach what a provider keeps in the operator's account only where policy.yaml says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.gateway import REPOSITORY, Gateway
from tests.support.postgres import Postgres
from tests.support.process import wait_until
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream

SHIPPED = (REPOSITORY / "policy.yaml").read_text()
LISTED = SHIPPED.replace("# provider_data:", "provider_data:")
FILE = {"type": "file", "file": {"file_id": "file-abc123"}}
SEARCH = {"type": "file_search", "vector_store_ids": ["vs_abc123"]}
RESPONSES: dict[str, Any] = {"model": "up-chat", "input": "hello"}
CHAT: dict[str, Any] = {"model": "up-chat", "messages": [{"role": "user", "content": "hello"}]}


def with_file(route: str) -> dict[str, Any]:
    if route == "/v1/responses":
        part = {"type": "input_file", "file_id": "file-abc123"}
        return RESPONSES | {"input": [{"role": "user", "content": [part]}]}
    return CHAT | {"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}, FILE]}]}


# The route, the body, the field that is refused, and whether the policy's example lists it for everybody.
REACHING: list[tuple[str, dict[str, Any], str, bool]] = [
    ("/v1/chat/completions", with_file("chat"), "messages[0].content[1].file.file_id", False),
    ("/v1/responses", with_file("/v1/responses"), "input[0].content[0].file_id", False),
    ("/v1/responses", RESPONSES | {"tools": [SEARCH]}, "tools[0].vector_store_ids[0]", True),
    ("/v1/responses", RESPONSES | {"extra_body": {"prompt": {"id": "pmpt_abc123"}}}, "prompt.id", False),
]
CITED = {"type": "file_citation", "file_id": "file-of-others", "filename": "a.pdf", "index": 3}
HISTORY = RESPONSES | {
    "input": [
        {"role": "user", "content": "hello"},
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_1",
            "status": "completed",
            "content": [{"type": "output_text", "text": "See there.", "annotations": [CITED]}],
        },
        {"role": "user", "content": "and then?"},
    ],
    "tools": [{"type": "code_interpreter", "container": "cntr_1"}],
}


def test_files_stores_and_prompts_are_refused_as_shipped_and_pass_where_they_are_listed(
    postgres: Postgres, redis_server: Redis, upstream_config: Path, upstream: Upstream, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(SHIPPED)
    server = Gateway(postgres.create_database(), redis_server.port, config=upstream_config, policy=policy).start()
    try:
        with server.client() as client:
            team = client.post("/team/new", json={"team_alias": "research"}).json()["team_id"]
        with server.client(server.new_key()) as other, server.client(server.new_key(team_id=team)) as research:
            for route, body, field, _ in REACHING:
                for client in (other, research):
                    answer = client.post(route, json=body)
                    assert answer.status_code == 403, answer.text
                    error = answer.json()["error"]
                    assert (error["code"], error["param"]) == ("policy_denied", field)
                    assert error["gatehouse"]["policies"] == ["provider_data"]
                    assert "provider_data.allow in policy.yaml" in error["message"]
            assert upstream.requests == []
            # An agent that sends its own history back is not refused.
            answer = other.post("/v1/responses", json=HISTORY)
            assert answer.status_code == 200, answer.text

            policy.write_text(LISTED)
            route, body, _, _ = REACHING[2]
            wait_until(lambda: other.post(route, json=body).is_success, "the new policy is in force")
            for route, body, _, for_all in REACHING:
                answer = research.post(route, json=body)
                assert answer.status_code == 200, answer.text
                assert "abc123" in upstream.requests[-1][1].decode(), route
                answer = other.post(route, json=body)
                assert answer.is_success if for_all else answer.status_code == 403, answer.text
            another = CHAT | {"tools": [SEARCH | {"vector_store_ids": ["vs_abc123", "vs_of_others"]}]}
            answer = research.post("/v1/chat/completions", json=another)
            assert answer.status_code == 403, answer.text
            assert answer.json()["error"]["param"] == "tools[0].vector_store_ids[1]"
    finally:
        server.close()
