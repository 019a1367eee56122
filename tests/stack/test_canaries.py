"""With `audit.content: hash` no word of a prompt or an answer is in any table, log or file of the gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.support.gateway import Gateway
from tests.support.postgres import Postgres
from tests.support.process import wait_until
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream

# Asked, in every place where a request can hold text; answered by the provider; and what it says when it fails.
ASKED = "xylophonecanary"
ANSWERED = ("from upstream", "marmaladecanary")
FAILED = "upstream says no"

TOOL = {"type": "function", "function": {"name": "mail", "description": ASKED, "parameters": {"type": "object"}}}
USED = {"id": "t0", "type": "function", "function": {"name": "mail", "arguments": json.dumps({"to": ASKED})}}
CHAT: dict[str, Any] = {
    "model": "up-chat",
    "messages": [
        {"role": "system", "content": f"be {ASKED}"},
        {"role": "user", "content": [{"type": "text", "text": ASKED}]},
        {"role": "assistant", "content": None, "tool_calls": [USED]},
        {"role": "tool", "tool_call_id": "t0", "content": f"{ASKED} sent"},
        {"role": "user", "content": f"my {ASKED} again"},
    ],
    "tools": [TOOL],
}
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "up-text", "prompt": ASKED},
    "/v1/embeddings": {"model": "up-embedding", "input": [ASKED]},
    "/v1/messages": {"model": "up-claude", "max_tokens": 9, "messages": [{"role": "user", "content": ASKED}]},
    "/v1/responses": {"model": "up-chat", "instructions": ASKED, "input": ASKED},
    "/v1/moderations": {"model": "up-moderation", "input": ASKED},
    "/v1/images/generations": {"model": "up-image", "prompt": ASKED},
    "/v1/audio/speech": {"model": "up-speech", "voice": "alloy", "input": ASKED},
}
STREAMED = ("/v1/chat/completions", "/v1/completions", "/v1/responses")


@pytest.fixture
def gateway(postgres: Postgres, redis_server: Redis, upstream_config: Path) -> Iterator[Gateway]:
    environ = {"GATEHOUSE_SETTLE_GRACE_SECONDS": "1", "PROXY_BATCH_WRITE_AT": "1"}
    server = Gateway(postgres.create_database(), redis_server.port, config=upstream_config, environ=environ).start(180)
    yield server
    server.close()


def texts(database_url: str) -> Iterator[tuple[str, str]]:
    """Every value of every column of every table, as text."""
    with psycopg.connect(database_url) as connection:
        tables = connection.execute(
            """select table_schema, table_name, column_name, data_type from information_schema.columns
                where table_schema not in ('pg_catalog', 'information_schema')"""
        ).fetchall()
        assert len(tables) > 200
        for schema, table, column, kind in tables:
            as_text = sql.SQL("encode({}, 'escape')" if kind == "bytea" else "{}::text").format(sql.Identifier(column))
            query = sql.SQL("select {} from {}.{}").format(as_text, sql.Identifier(schema), sql.Identifier(table))
            for (value,) in connection.execute(query):
                if value is not None:
                    yield f"{schema}.{table}.{column}", value


def files(folder: Path) -> Iterator[tuple[str, str]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes().decode("utf-8", "replace")


@pytest.mark.timeout(400)
def test_no_word_of_prompt_or_answer_is_kept_anywhere(gateway: Gateway, upstream: Upstream) -> None:
    upstream.tool = ("mail", json.dumps({"to": ANSWERED[1]}))
    sent: list[str] = []
    with gateway.client(gateway.new_key(max_budget=10)) as client:
        for path, body in REQUESTS.items():
            answer = client.post(path, json=body)
            assert answer.status_code == 200, (path, answer.text)
            sent.append(answer.headers["x-gatehouse-call-id"])
        for path in STREAMED:
            answer = client.post(path, json=REQUESTS[path] | {"stream": True})
            assert answer.status_code == 200, (path, answer.text)
            sent.append(answer.headers["x-gatehouse-call-id"])
        upstream.status = 500
        for path, body in REQUESTS.items():
            answer = client.post(path, json=body)
            assert answer.status_code >= 500, (path, answer.text)
            sent.append(answer.headers["x-gatehouse-call-id"])
        # Refused before it is sent; the caller's own text must not come back by way of an error's record.
        answer = client.post("/v1/chat/completions", json=CHAT | {"model": ASKED[::-1]})
        assert answer.status_code >= 400
    assert sum(ASKED.encode() in body for _, body in upstream.requests) >= len(REQUESTS)
    wait_until(lambda: set(sent) <= set(gateway.calls()), "every call has its row")
    gateway.wait_settled()
    wait_until(lambda: spend_logs(gateway) > 0, "LiteLLM wrote its own log too")
    found = {
        (where, word)
        for where, text in (*texts(gateway.database_url), *files(gateway.folder))
        for word in (ASKED, *ANSWERED, FAILED)
        if word in text
    }
    assert not found


def spend_logs(gateway: Gateway) -> int:
    with psycopg.connect(gateway.database_url) as connection:
        row = connection.execute('select count(*) from "LiteLLM_SpendLogs"').fetchone()
        return int(row[0]) if row else 0
