"""With `audit.content: hash` no word of a prompt or an answer is in any table, log or file of the gateway."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import yaml
from psycopg import sql

from tests.support.gateway import METRICS_TOKEN, Gateway
from tests.support.masking import of_key
from tests.support.postgres import Postgres
from tests.support.process import wait_until
from tests.support.redis_server import PASSWORD, Redis
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
MALFORMED: tuple[dict[str, Any] | bytes, ...] = (
    CHAT | {"model": "up-nothing"},
    CHAT | {"messages": ASKED},
    CHAT | {"messages": [{"role": ASKED, "content": ASKED}, ASKED]},
    CHAT | {"messages": [{"role": "user", "content": [{"type": ASKED, ASKED: ASKED}]}]},
    CHAT | {"tools": ASKED, "temperature": ASKED},
    json.dumps(CHAT).encode()[:-9],
)
STREAMED = ("/v1/chat/completions", "/v1/completions", "/v1/responses")


@pytest.fixture
def gateway(postgres: Postgres, redis_server: Redis, upstream_config: Path, tmp_path: Path) -> Iterator[Gateway]:
    environ = {"GATEHOUSE_SETTLE_GRACE_SECONDS": "1"}
    config = yaml.safe_load(upstream_config.read_text())
    config["general_settings"]["proxy_batch_write_at"] = 1
    config["router_settings"]["disable_cooldowns"] = True  # a model that fails is asked again, to fail in another way
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    server = Gateway(
        postgres.create_database(), redis_server.port, config=tmp_path / "config.yaml", environ=environ
    ).start(180)
    yield server
    server.close()


def texts(database_url: str) -> Iterator[tuple[str, str]]:
    """Return every value of every column of every table, as text."""
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
    answered = ""
    with gateway.client(gateway.new_key(max_budget=10)) as client:

        def ask(path: str, body: dict[str, Any] | bytes, *statuses: int) -> str:
            how: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
            answer = client.post(path, headers={"content-type": "application/json"}, **how)
            assert answer.status_code in statuses, (path, answer.status_code, answer.text)
            sent.append(answer.headers["x-gatehouse-call-id"])
            return answer.text

        for path, body in REQUESTS.items():
            answered += ask(path, body, 200)
        for path in STREAMED:
            answered += ask(path, REQUESTS[path] | {"stream": True}, 200)
        # Whoever leaves while a stream is under way is told nothing more; what came so far was an answer too.
        upstream.chunk_delay_s = 1
        with client.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as stream:
            sent.append(stream.headers["x-gatehouse-call-id"])
            next(stream.iter_raw())
        upstream.chunk_delay_s = 0
        for upstream.status in (500, 400, 401, 429):
            for path, body in REQUESTS.items():
                ask(path, body, upstream.status, 500)
            for path in STREAMED:
                ask(path, REQUESTS[path] | {"stream": True}, upstream.status, 500)
        # Refused before it is sent; the caller's own text must not come back by way of an error's record.
        for body in MALFORMED:
            ask("/v1/chat/completions", body, *range(400, 600))
        # LiteLLM writes its own log later and in order: when this is there, everything is.
        ask("/v1/chat/completions", {"model": "demo", "messages": [{"role": "user", "content": "last"}]}, 200)
    assert all(word in answered for word in ANSWERED)
    assert sum(ASKED.encode() in body for _, body in upstream.requests) >= len(REQUESTS)
    wait_until(lambda: set(sent) <= set(gateway.calls()), "every call has its row")
    wait_until(lambda: "demo" in spend_logs(gateway), "LiteLLM wrote its own log too")
    gateway.wait_settled()
    kept = [*texts(gateway.database_url), *files(gateway.folder)]
    # What may be kept is found where it should be, so what may not would be.
    seen = {where for where, text in kept if "up-chat" in text}
    assert spend_logs(gateway) >= {body["model"] for path, body in REQUESTS.items() if path != "/v1/completions"}
    assert seen > {"gatehouse.calls.request", "gatehouse.capsules.canonical", "public.LiteLLM_SpendLogs.model_group"}
    assert "logs/litellm_audit.jsonl" in seen
    assert "Uvicorn running" in dict(kept)[gateway.output.name]
    assert not {(where, word) for where, text in kept for word in (ASKED, *ANSWERED, FAILED) if word in text}


def spend_logs(gateway: Gateway) -> set[str]:
    """Return the models in LiteLLM's spend logs."""
    with psycopg.connect(gateway.database_url) as connection:
        rows = connection.execute('select model_group from "LiteLLM_SpendLogs"').fetchall()
    return {model for (model,) in rows}


MINE = "ada.canary@example.com"
BESIDE = {"metadata": {"who": {"is": [ASKED]}}, "tags": [ASKED]}
MASKED = {
    path: json.loads(json.dumps(body | BESIDE).replace(ASKED, f"write to {MINE}")) for path, body in REQUESTS.items()
}


@pytest.fixture
def prompts_kept(postgres: Postgres, redis_server: Redis, upstream_config: Path, tmp_path: Path) -> Iterator[Gateway]:
    """Start a gateway whose operator has LiteLLM keep prompts and answers with the spend."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "version: 1\npii: {mode: mask}\nscreens: {secrets: block}\naudit: {content: redacted}\n"
        'limits: {allow_unpriced_models: ["*"]}\n'
    )
    config = yaml.safe_load(upstream_config.read_text())
    config["general_settings"].update({"store_prompts_in_spend_logs": True, "proxy_batch_write_at": 1})
    config["litellm_settings"]["turn_off_message_logging"] = False
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    environ = {"GATEHOUSE_SETTLE_GRACE_SECONDS": "1"}
    server = Gateway(
        postgres.create_database(), redis_server.port, config=tmp_path / "config.yaml", policy=policy, environ=environ
    ).start(180)
    yield server
    server.close()


@pytest.mark.timeout(400)
def test_personal_data_that_is_masked_is_kept_nowhere(prompts_kept: Gateway, upstream: Upstream) -> None:
    gateway = prompts_kept
    upstream.says = lambda body: f"I will {' '.join(re.findall('<EMAIL_ADDRESS_[0-9A-Z]{8}>', body)[:1])}"
    key = gateway.new_key(max_budget=10)
    placeholder = of_key(key).of("EMAIL_ADDRESS", MINE)
    upstream.tool = ("mail", json.dumps({"to": placeholder}))
    heard = ""
    with gateway.client(key) as client:
        for path, body in MASKED.items():
            for stream in (False, True) if path in STREAMED else (False,):
                answer = client.post(path, json=body | ({"stream": True} if stream else {}))
                assert answer.status_code == 200, answer.text
                heard += answer.text
        for upstream.status in (500, 400):
            for path, body in MASKED.items():
                client.post(path, json=body)
        client.post("/v1/chat/completions", json={"model": "demo", "messages": [{"role": "user", "content": "last"}]})
    assert MINE in heard
    assert MINE not in upstream.received
    wait_until(lambda: "demo" in spend_logs(gateway), "LiteLLM wrote its own log too")
    gateway.wait_settled()
    kept = [*texts(gateway.database_url), *files(gateway.folder)]
    # Prompts and answers are kept, with placeholders; or finding nothing would prove nothing.
    seen = {where for where, text in kept if placeholder in text}
    assert seen >= {"gatehouse.capsules.canonical", "public.LiteLLM_SpendLogs.proxy_server_request"}
    assert not {where for where, text in kept if MINE in text}


class Canaries:
    """Makes personal data and secrets, another for each place, and notes the texts that must not be found."""

    def __init__(self) -> None:
        self.placed: dict[str, str] = {}

    def email(self, place: str) -> str:
        return self._placed(f"email in {place}", lambda number: f"canary{number}@example.com")

    def card(self, place: str) -> str:
        return self._placed(f"card in {place}", _card)

    def secret(self, place: str) -> str:
        return self._placed(f"secret in {place}", lambda number: f"sk-proj-{sha256(b'%d' % number).hexdigest()[:40]}")

    def name(self, place: str) -> str:
        return self._placed(f"name in {place}", lambda number: f"Ada Canary{number}")

    def _placed(self, place: str, make: Callable[[int], str]) -> str:
        assert place not in self.placed, place
        self.placed[place] = made = make(len(self.placed))
        return made

    def found(self, kept: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Say which canary stands where."""
        return {(where, place) for where, text in kept for place, made in self.placed.items() if made in text}


def _card(number: int) -> str:
    """Return a card number: its last digit checks the others (Luhn)."""
    digits = f"453201{number:09d}"
    odd = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[::2])
    return f"{digits}{-(odd + sum(map(int, digits[1::2]))) % 10}"


def in_redis(port: int) -> Iterator[tuple[str, str]]:
    """Return every key of Redis with what it holds."""
    with redis.Redis(port=port, password=PASSWORD) as client:
        for key in client.scan_iter():
            kind = client.type(key)
            read = {
                b"string": client.get,
                b"hash": client.hgetall,
                b"set": client.smembers,
                b"zset": lambda name: client.zrange(name, 0, -1),
                b"list": lambda name: client.lrange(name, 0, -1),
                b"stream": client.xrange,
            }
            yield f"redis {key!r}", f"{key!r} {read[kind](key)!r}"


def test_what_callers_say_beside_the_prompt_is_kept_nowhere(
    prompts_kept: Gateway, upstream: Upstream, redis_server: Redis
) -> None:
    gateway, canaries = prompts_kept, Canaries()
    key = gateway.new_key(max_budget=10)
    sent: list[str] = []

    def said(where: str) -> dict[str, Any]:
        """Return fields that any request may have beside its prompt."""
        return {
            "user": canaries.email(f"user {where}"),
            "metadata": {"note": canaries.email(f"metadata {where}"), "user_id": canaries.secret(f"user_id {where}")},
            "tags": [canaries.name(f"tag {where}"), canaries.secret(f"tag {where}"), canaries.card(f"tag {where}")],
        }

    def headers(where: str) -> dict[str, str]:
        trace = f"{'0' * 15}a{canaries.card(f'traceparent {where}')}"
        return {
            "x-gatehouse-agent": canaries.email(f"agent {where}"),
            "x-gatehouse-session": canaries.card(f"session {where}"),
            "x-gatehouse-other": canaries.email(f"our header {where}"),
            "x-other": canaries.email(f"header {where}"),
            "user-agent": f"{canaries.card(f'product {where}')}/{canaries.card(f'version {where}')}",
            "traceparent": f"00-{trace}-00f067aa0ba902b7-01",
            "anthropic-beta": canaries.card(f"beta {where}"),
            "cookie": f"c={canaries.secret(f'cookie {where}')}",
        }

    with gateway.client(key) as client:

        def ask(where: str, path: str, body: dict[str, Any], *statuses: int, **more: str) -> str:
            answer = client.post(path, json=body, headers=headers(where) | more)
            assert answer.status_code in statuses, (where, answer.status_code, answer.text)
            sent.append(answer.headers["x-gatehouse-call-id"])
            return answer.text

        def written(place: str, body: dict[str, Any]) -> dict[str, Any]:
            text = f"write to {canaries.email(place)} or pay with {canaries.card(place)}"
            return dict(json.loads(json.dumps(body).replace(ASKED, text)))

        for path, body in REQUESTS.items():
            for stream in (False, True) if path in STREAMED else (False,):
                where = f"{path} {stream}"
                ask(where, path, written(where, body) | said(where) | ({"stream": True} if stream else {}), 200)
        for upstream.status in (500, 400):
            for path, body in REQUESTS.items():
                where = f"{path} {upstream.status}"
                ask(where, path, written(where, body) | said(where), upstream.status, 500)
        upstream.status = 200
        chat = "/v1/chat/completions"
        simple = {"model": "up-chat", "messages": [{"role": "user", "content": "hello"}]}
        tool = {"type": "function", "function": {"name": f"pay_{canaries.card('tool')}", "parameters": {}}}
        for where in ("tool", "tool that is called"):
            ask(where, chat, simple | {"tools": [tool]}, 200)
            offered = json.loads(upstream.requests[-1][1])["tools"][0]["function"]["name"]
            upstream.tool = (offered, "{}")
        upstream.tool = None
        for kind, status in ((canaries.email, 200), (canaries.secret, 403)):
            runs = {"type": "code_interpreter", "container": kind("container")}
            ask(f"container {status}", "/v1/responses", {"model": "up-chat", "input": "hello", "tools": [runs]}, status)
            few = {"x-gatehouse-max-tokens": "1"}  # refused before anything is scanned
            runs = {"type": "code_interpreter", "container": kind("container over a limit")}
            asked = {"model": "up-chat", "input": "hello", "tools": [runs]}
            ask(f"limit {status}", "/v1/responses", asked, 413, **few)
            new = {canaries.email(f"name {status}"): {"file_id": kind("file id")}}
            ask(f"file {status}", chat, simple | new, 403)
        # Refused: by a screen, for the model, by LiteLLM, for a field, for a header.
        asks = f"my key is {canaries.secret('prompt')}"
        ask("screen", chat, simple | said("screen") | {"messages": [{"role": "user", "content": asks}]}, 403)
        for kind in (canaries.email, canaries.secret, canaries.card):
            for model in (kind("model"), f"ollama/{kind('pattern')}"):
                ask(f"model {model}", chat, simple | said(model) | {"model": model}, 404, 400)
            ask(f"path {kind}", f"/engines/{kind('path')}/chat/completions", simple, 404, 400, 200)
        ask("field", chat, simple | said("field") | {canaries.email("field"): canaries.card("field")}, 200, 400)
        ask("control", chat, simple | said("control") | {"api_base": canaries.email("api_base")}, 400)
        for header in ("approval", "hold", "max-tokens"):
            more = {f"x-gatehouse-{header}": canaries.email(header)}
            ask(header, chat, simple | said(header), 200, 400, 404, **more)
        form = {"model": "up-transcription", "user": canaries.email("form")}
        upload = {"file": (f"{canaries.name('file')} {canaries.card('file')}.mp3", b"ID3", "audio/mpeg")}
        answer = client.post("/v1/audio/transcriptions", data=form, files=upload, headers=headers("form"))
        assert answer.status_code == 200, answer.text
        ask("last", chat, {"model": "demo", "messages": [{"role": "user", "content": "last"}]}, 200)
    narrow = gateway.new_key(models=["demo"])
    with gateway.client(narrow) as client:
        ask("narrow", chat, simple | said("narrow") | {"model": canaries.email("not allowed")}, 400, 401, 403)
    with gateway.client("sk-not-a-key") as client:
        client.post(chat, json=simple | said("nobody"), headers=headers("nobody"))
        client.get(f"/models/{canaries.email('read')}", headers=headers("read"))
    wait_until(lambda: set(sent) <= set(gateway.calls()), "every call has its row")
    wait_until(lambda: "demo" in spend_logs(gateway), "LiteLLM wrote its own log too")
    gateway.wait_settled()
    with gateway.client(METRICS_TOKEN) as client:
        shown = client.get("/metrics").text
    kept = [
        *texts(gateway.database_url),
        *files(gateway.folder),
        *in_redis(redis_server.port),
        ("/metrics", shown),
    ]
    # What may be kept is found where it should be, so what may not would be.
    assert {"gatehouse.calls.request", "public.LiteLLM_SpendLogs.end_user"} <= {
        where for where, text in kept if "hmac:" in text
    }
    assert {"/metrics", "public.LiteLLM_SpendLogs.model_group"} <= {where for where, text in kept if "up-chat" in text}
    assert any(where.startswith("redis ") for where, _ in kept)
    assert not canaries.found(kept)
    assert not canaries.found([("upstream", upstream.received)])
