"""No open route shows one caller anything of another's: two keys of different teams, and two of none, without users."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from gatehouse.gateway import route_table
from gatehouse.gateway.routes import RouteKind, classify, entries

from tests.support.gateway import Gateway
from tests.support.postgres import Postgres
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream

pytestmark = pytest.mark.timeout(1800)

POLICY = """
version: 1
limits: {allow_unpriced_models: ["*"]}
rules:
  - id: careful-agents-ask
    when: agent.id == "careful"
    then: require_approval
    approvers: {users: [margaret]}
"""
# What is the victims' own begins with this, or is one of these numbers.
CANARY = "theirs7f3a"
BUDGET, TEAM_BUDGET, END_USER_BUDGET = 1234.567, 7654.321, 2345.678
# LiteLLM's word to a key that may not use a route at all.
ADMINS_ONLY = "Only proxy admin can be used"
ANSWER = f"{CANARY}-answer"
# Megabytes, made anew for each question by code that sees neither question nor caller.
SAME_FOR_ALL = ("/openapi.json", "/public/litellm_model_cost_map")


@dataclass(frozen=True)
class Victim:
    """Holds a key, and the ids of everything that it has or did."""

    key: str
    ids: dict[str, tuple[str, ...]]

    @property
    def every_id(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(itertools.chain(*self.ids.values())))


def victim(gateway: Gateway, name: str, *, with_team: bool) -> Victim:
    label = f"{CANARY}-{name}"
    metadata = {"note": f"{label}-note", "tags": [f"{label}-tag"]}
    with gateway.client() as admin:
        team: dict[str, Any] = {}
        if with_team:
            asked = {"team_alias": f"{label}-team", "metadata": metadata, "max_budget": TEAM_BUDGET}
            answer = admin.post("/team/new", json=asked | {"models": [f"{CANARY}-model", "up-chat"]})
            team = {"team_id": answer.json()["team_id"]}
        end_user = f"{label}-customer"
        created = admin.post("/customer/new", json={"user_id": end_user, "max_budget": END_USER_BUDGET})
        assert created.status_code == 200, created.text
        budget = admin.post("/budget/new", json={"budget_id": f"{label}-budget", "max_budget": BUDGET})
        assert budget.status_code == 200, budget.text
        admin.post("/tag/new", json={"name": f"{label}-tag", "description": f"{label}-words", "models": []})
    alias = f"{label}-alias"
    models = [f"{CANARY}-model", "up-chat"]
    key = gateway.new_key(key_alias=alias, metadata=metadata, max_budget=BUDGET, models=models, **team)
    with gateway.client(key) as client:
        body = {"model": f"{CANARY}-model", "user": end_user, "messages": [{"role": "user", "content": f"{label}-ask"}]}
        called = client.post("/v1/chat/completions", json=body)
        assert called.status_code == 200, called.text
        held = client.post("/v1/chat/completions", json=body, headers={"x-gatehouse-agent": "careful"})
        approval = held.json()["error"]["gatehouse"]["approval"]["id"]
    with gateway.client() as admin:
        model_ids = [
            model["model_info"]["id"]
            for model in admin.get("/model/info").json()["data"]
            if model["model_name"].startswith(CANARY)
        ]
    hashed = hashlib.sha256(key.encode()).hexdigest()
    return Victim(
        key,
        {
            "key": (hashed,),
            "api_key": (hashed,),
            "key_alias": (alias,),
            "team_id": tuple(team.values()),
            "user_id": (end_user,),
            "end_user_id": (end_user,),
            "model_id": (*model_ids, f"{CANARY}-model"),
            "model": (f"{CANARY}-model",),
            "request_id": (called.json()["id"], called.headers["x-litellm-call-id"]),
            "call_id": (called.headers["x-gatehouse-call-id"],),
            "approval_id": (approval,),
            "budget_id": (f"{label}-budget",),
            "tag": (f"{label}-tag",),
        },
    )


@pytest.fixture(scope="module")
def gateway(
    postgres: Postgres,
    redis_server: Redis,
    recording_upstream: Upstream,
    upstream_config: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("identities")
    config = yaml.safe_load(upstream_config.read_text())
    base = f"{recording_upstream.url.removesuffix('/v1')}/{CANARY}-base/v1"
    provider = {"model": "openai/gpt-4o", "api_base": base, "api_key": f"{CANARY}-provider-key"}
    priced = {"input_cost_per_token": 0.000001, "output_cost_per_token": 0.000002, "max_output_tokens": 1024}
    config["model_list"].append({"model_name": f"{CANARY}-model", "litellm_params": provider, "model_info": priced})
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "policy.yaml").write_text(POLICY)
    server = Gateway(
        postgres.create_database(),
        redis_server.port,
        config=folder / "config.yaml",
        policy=folder / "policy.yaml",
        environ={"GATEHOUSE_SETTLE_GRACE_SECONDS": "1"},
    ).start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def victims(gateway: Gateway, recording_upstream: Upstream) -> tuple[Victim, ...]:
    recording_upstream.says = lambda _: ANSWER
    made = (victim(gateway, "a", with_team=True), victim(gateway, "b", with_team=False))
    gateway.wait_settled()
    recording_upstream.reset()
    return made


@pytest.fixture(scope="module", params=["of another team", "of no team"])
def stranger(gateway: Gateway, victims: tuple[Victim, ...], request: pytest.FixtureRequest) -> str:
    """Make a key that has nothing to do with the victims' keys."""
    if request.param == "of no team":
        return gateway.new_key(models=["up-chat"])
    with gateway.client() as admin:
        team = admin.post("/team/new", json={"team_alias": "strangers", "models": ["up-chat"]}).json()["team_id"]
    return gateway.new_key(team_id=team, models=["up-chat"])


def shown(text: str, given: str) -> list[str]:
    """What of the victims' stands in an answer, beside what the question itself named."""
    secrets = (CANARY, str(BUDGET), str(TEAM_BUDGET), str(END_USER_BUDGET))
    if not any(secret in text for secret in secrets):
        return []
    for word in sorted(filter(None, re.split(r"[/?&=\s\"\[\],{}:]+", given)), key=len, reverse=True):
        text = text.replace(word, "")
    return [found for found in secrets if found in text]


def filled(path: str, ids: Victim) -> list[str]:
    """Fill a path with each of the victim's ids that fits its parameters, or with any where none is known to fit."""
    names = re.findall(r"\{(\w+)(?::path)?\}", path)
    choices = [ids.ids.get(name) or ids.every_id for name in names]
    made = []
    for values in itertools.islice(itertools.product(*choices), 40):
        one = path
        for name, value in zip(names, values, strict=True):
            one = re.sub(r"\{" + name + r"(:path)?\}", lambda _, value=value: value, one)
        made.append(one)
    return made


def questions(ids: Victim) -> list[dict[str, str]]:
    """Return query strings that name the victim's ids."""
    days = {"start_date": str(date.today() - timedelta(days=1)), "end_date": str(date.today() + timedelta(days=1))}
    asked: list[dict[str, str]] = [{}, days]
    for name, values in ids.ids.items():
        plural = {"tag": "tags", "model": "models"}.get(name, f"{name}s")
        asked += [{name: value, plural: value, **days} for value in values]
    asked.append({"key_hash": ids.ids["key"][0], "token": ids.ids["key"][0], "hashed_token": ids.ids["key"][0], **days})
    asked.append({"key_name": ids.ids["key_alias"][0], "search": CANARY, "return_full_object": "true"})
    asked.append({"include_team_keys": "true", "return_full_object": "true", "include_created_by_keys": "true"})
    asked.append({"group_by": "team", **days})
    asked.append({"litellm_model_id": ids.ids["model_id"][0], "_selected_model_group": ids.ids["model"][0], **days})
    asked.append({"id": ids.ids["call_id"][0], "session_id": ids.ids["call_id"][0], **days})
    return asked


def open_gets(gateway: Gateway) -> list[str]:
    """Return every GET route: LiteLLM's from the table, and Gatehouse's own."""
    with gateway.client() as admin:
        ours = admin.get("/openapi.json").json()["paths"]
    found = {path for path, methods in ours.items() if path.startswith("/governance") and "get" in methods}
    found |= {path for method, path in entries(route_table.OPEN) if method == "GET"}
    # These wait for what happens next, or send the browser elsewhere.
    return sorted(found - {"/governance/v1/approvals/stream"})


def test_no_route_that_can_be_read_shows_anything_of_anothers(
    gateway: Gateway, victims: tuple[Victim, ...], stranger: str
) -> None:
    leaks: dict[str, str] = {}
    asked: set[str] = set()
    with gateway.client(stranger, follow_redirects=False) as client:
        for route in open_gets(gateway):
            for ids in victims:
                for path in filled(route, ids):
                    assert classify("GET", path) in (RouteKind.OPEN, RouteKind.UNGOVERNED)
                    for query in questions(ids)[: 1 if route in SAME_FOR_ALL else 2 if "{" in route else None]:
                        if (question := json.dumps([path, query])) in asked:
                            continue
                        asked.add(question)
                        with client.stream("GET", path, params=query) as answer:
                            if "text/event-stream" in answer.headers.get("content-type", ""):
                                continue
                            text = answer.read().decode("utf-8", "replace")
                        if ADMINS_ONLY in text:  # said before the question is looked at
                            break
                        if found := shown(text, question):
                            leaks.setdefault(route, f"{answer.status_code} {path} {query} {found}: {text[:300]}")
    assert len(asked) > 500
    assert leaks == {}, "\n".join(f"{route}: {what}" for route, what in leaks.items())


def test_no_route_that_is_asked_with_a_body_shows_anything_of_anothers(
    gateway: Gateway, victims: tuple[Victim, ...], stranger: str
) -> None:
    leaks = []
    with gateway.client(stranger) as client:
        for ids in victims:
            hashed, alias = ids.ids["key"][0], ids.ids["key_alias"][0]
            team = (ids.ids["team_id"] or ("none",))[0]
            end_user, budget, tag = ids.ids["user_id"][0], ids.ids["budget_id"][0], ids.ids["tag"][0]
            days = {
                "startTime": str(date.today() - timedelta(days=1)),
                "endTime": str(date.today() + timedelta(days=1)),
            }
            for path, body in (
                ("/v2/key/info", {"keys": [hashed]}),
                ("/v2/key/info", {"keys": [ids.key]}),
                ("/v2/key/info", {}),
                ("/budget/info", {"budgets": [budget]}),
                ("/tag/info", {"names": [tag]}),
                ("/organization/info", {"organizations": [team]}),
                ("/global/spend/end_users", {"api_key": hashed, **days}),
                ("/global/spend/end_users", days),
                ("/spend/calculate", {"model": ids.ids["model"][0], "messages": []}),
                ("/cost/estimate", {"model": ids.ids["model"][0], "input_tokens": 1, "output_tokens": 1}),
                ("/key/update", {"key": hashed, "key_alias": None}),
                ("/key/update", {"key_alias": alias}),
                ("/key/regenerate", {"key": hashed}),
                (f"/key/{hashed}/regenerate", {}),
                (f"/key/{hashed}/reset_spend", {"reset_to": 0}),
                ("/key/block", {"key": hashed}),
                ("/key/unblock", {"key": hashed}),
                ("/key/bulk_update", {"keys": [{"key": hashed}]}),
                ("/team/update", {"team_id": team}),
                ("/team/member_add", {"team_id": team, "member": {"role": "user", "user_id": "me"}}),
                ("/customer/update", {"user_id": end_user}),
                ("/customer/block", {"user_ids": [end_user]}),
                ("/user/update", {"user_id": end_user}),
                ("/budget/update", {"budget_id": budget}),
                ("/tag/update", {"name": tag}),
                ("/governance/v1/estimate", {"model": ids.ids["model"][0], "messages": []}),
            ):
                answer = client.post(path, json=body)
                if found := shown(answer.text, json.dumps([path, body])):
                    leaks.append(f"{answer.status_code} {path} {body} {found}: {answer.text[:300]}")
    assert leaks == []
    for ids in victims:
        with gateway.client(ids.key) as owner:
            assert owner.get("/key/info").json()["info"]["key_alias"] == ids.ids["key_alias"][0]


def test_a_key_sees_what_is_its_own(gateway: Gateway, victims: tuple[Victim, ...]) -> None:
    for ids in victims:
        with gateway.client(ids.key) as owner:
            assert owner.get("/key/info").json()["info"]["max_budget"] == BUDGET
            assert f"{CANARY}-model" in [model["id"] for model in owner.get("/v1/models").json()["data"]]
            for query in ({}, {"litellm_model_id": ids.ids["model_id"][0]}):
                found = owner.get("/model/info", params=query).json()["data"]
                assert f"{CANARY}-model" in [model["model_name"] for model in found]
    with gateway.client() as admin:
        assert f"{CANARY}-model" in admin.get("/v2/model/info").text
