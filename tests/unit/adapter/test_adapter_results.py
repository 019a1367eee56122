"""A result's typed fields and its mapping access say the same, and a wrong shape is an error that names the place."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import gatehouse_adapter as ga
import pytest
from gatehouse_adapter._internal import answers

# Kept between runs, apart from the project's own, because the first run of mypy takes ten seconds and more.
CACHE = Path(__file__).parents[3] / ".mypy_cache" / "adapter-user"

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "demo",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}],
            },
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "prompt_tokens_details": {"cached": 1}},
}


def completion(raw: dict[str, Any], cost: str | None = None) -> ga.Completion:
    return answers.completion(raw, {} if cost is None else {"x-litellm-response-cost": cost}, "call-1")


def test_a_completion_has_typed_fields() -> None:
    result = completion(ANSWER, "0.25")
    assert (result.id, result.model, result.content, result.finish_reason) == ("chatcmpl-1", "demo", None, "tool_calls")
    assert (result.call_id, result.cost_usd) == ("call-1", 0.25)
    assert result.usage is not None
    assert (result.usage.prompt_tokens, result.usage.completion_tokens, result.usage.total_tokens) == (3, 4, 7)
    (call,) = result.tool_calls
    assert (call.id, call.name, call.arguments) == ("t1", "add", '{"a":1}')
    assert result.raw is ANSWER


def test_mapping_access_gives_the_fields_and_then_the_gateways_own_keys() -> None:
    result = completion(ANSWER)
    assert isinstance(result, Mapping)
    assert result["content"] is result.content
    assert result["choices"][0]["message"]["tool_calls"][0]["id"] == "t1"
    assert result["usage"]["prompt_tokens_details"] == {"cached": 1}
    assert result.get("model") == "demo"
    assert result.get("nothing", 5) == 5
    assert "choices" in result
    assert "to_dict" not in result
    with pytest.raises(KeyError):
        result["get"]
    assert list(result) == list(result.keys()) == list(dict(result))
    assert len(result) == len(set(result)) == len(result.to_dict())
    assert "raw" not in result


def test_to_dict_is_plain_json() -> None:
    plain = completion(ANSWER).to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["usage"]["total_tokens"] == 7
    assert plain["tool_calls"][0]["name"] == "add"


def test_results_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        completion(ANSWER).content = "other"  # type: ignore[misc]


@pytest.mark.parametrize("cost", ["None", "", "nan", "inf", "cheap", None])
def test_a_cost_that_is_no_number_is_none(cost: str | None) -> None:
    assert completion(ANSWER, cost).cost_usd is None


def test_missing_usage_is_none_and_a_missing_total_is_added_up() -> None:
    assert completion({**ANSWER, "usage": None}).usage is None
    assert completion({**ANSWER, "usage": {}}).usage is None
    usage = completion({**ANSWER, "usage": {"prompt_tokens": 2, "completion_tokens": 3}}).usage
    assert usage is not None
    assert usage.total_tokens == 5


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        ({}, "choices"),
        ({"choices": []}, "no choices"),
        ({"choices": {}}, "choices is dict"),
        ({"choices": ["x"]}, r"choices\[0\]"),
        ({"choices": [{"message": None}]}, "message"),
        ({"choices": [{"message": {"content": 5}}]}, "content is int"),
        ({"choices": [{"message": {"tool_calls": "x"}}]}, "tool_calls"),
        ({"choices": [{"message": {"tool_calls": [{"id": "t"}]}}]}, "function"),
        ({**ANSWER, "usage": {"prompt_tokens": "many"}}, "usage.prompt_tokens is str"),
        ({**ANSWER, "model": 5}, "model is int"),
    ],
)
def test_a_completion_of_the_wrong_shape_names_the_place(raw: dict[str, Any], place: str) -> None:
    with pytest.raises(ValueError, match=place):
        completion(raw)


def test_a_chunk_may_have_no_choices_and_no_delta() -> None:
    assert answers.chunk({"choices": []}, None).content == ""
    assert answers.chunk({}, None).usage is None
    assert answers.chunk({"choices": [{"delta": None, "finish_reason": "stop"}]}, None).finish_reason == "stop"


def test_a_chunk_carries_pieces_of_tool_calls() -> None:
    delta = {"tool_calls": [{"index": 1, "id": "t", "function": {"name": "add"}}, {"function": {"arguments": "{"}}]}
    first, second = answers.chunk({"choices": [{"delta": delta}]}, None).tool_calls
    assert (first.index, first.id, first.name, first.arguments) == (1, "t", "add", "")
    assert (second.index, second.id, second.name, second.arguments) == (0, None, None, "{")


@pytest.mark.parametrize("raw", [{}, {"data": {}}, {"data": ["x"]}, {"data": [{"id": None}]}])
def test_a_model_list_of_the_wrong_shape_is_an_error(raw: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is"):
        answers.models(raw)


PARTS = {"plugin": "up", "query_engine": "off", "cache": "down"}
READY: tuple[int, dict[str, Any]] = (200, {"status": "healthy", "db": "connected"})


@pytest.mark.parametrize(
    ("readiness", "governance", "healthy", "status", "reason"),
    [
        (READY, (200, {"status": "ok"}), True, "ok", None),
        (READY, (200, {"status": "degraded", "parts": PARTS}), True, "degraded", "is degraded (cache)."),
        (READY, (200, {"status": "degraded", "parts": "x"}), True, "degraded", "is degraded."),
        (READY, (503, {"status": "down"}), False, "down", "is down"),
        (READY, (200, {"status": "down"}), False, "unknown", "unknown"),
        (READY, (503, {"status": "ok"}), False, "unknown", "unknown"),
        (READY, (200, {"status": "splendid"}), False, "unknown", "unknown"),
        (READY, (200, {"status": ["ok"]}), False, "unknown", "unknown"),
        (READY, (200, {}), False, "unknown", "unknown"),
        (READY, (404, {"detail": "Not Found"}), False, "unknown", "without Gatehouse"),
        ((503, {"status": "shutting_down"}), (200, {"status": "ok"}), False, "ok", "answered 503"),
        ((401, {}), (200, {"status": "ok"}), False, "ok", "answered 401"),
    ],
)
def test_health_is_healthy_only_when_both_probes_say_so(
    readiness: tuple[int, dict[str, Any]],
    governance: tuple[int, dict[str, Any]],
    healthy: bool,
    status: str,
    reason: str | None,
) -> None:
    health = answers.health(readiness, governance)
    assert (health.healthy, health["healthy"], bool(health), health.status) == (healthy, healthy, healthy, status)
    assert health.reason is None if reason is None else reason in str(health.reason)
    assert health["error"] == health.reason


def test_a_users_strictly_typed_program_passes_mypy(tmp_path: Path) -> None:
    names = ", ".join(sorted(ga.__all__))
    program = tmp_path / "agent.py"
    program.write_text(
        f"from gatehouse_adapter import ({names})\n"
        f"PUBLIC = ({names})\n"
        """
async def main() -> None:
    async with LiteLLMAdapter(base_url="http://x") as adapter:
        health: Health = await adapter.validate_proxy_health()
        healthy: bool = health.healthy
        names: list[str] = [model.id for model in await adapter.get_available_models()]
        answer = await adapter.complete_chat([{"role": "user", "content": "x"}], "demo", temperature=0)
        text: str | None = answer.content
        stream = await adapter.complete_chat(messages=[], model="demo", stream=True)
        async for chunk in stream:
            piece: str = chunk.content
        both: Completion | ChatStream = await adapter.complete_chat([], "demo", stream=healthy)
        try:
            pass
        except ApprovalRequired as error:
            approval: Approval | None = error.approval
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(CACHE), str(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
