"""An agent's author installs gatehouse-adapter with few packages; it is typed, and quick to import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gatehouse_adapter as ga
import pytest

from tests.support.gateway import REPOSITORY

# What it needs itself, and what those need.
_OWN = {"gatehouse-adapter", "httpx", "aiolimiter"}
_THEIRS = {"anyio", "certifi", "h11", "httpcore", "idna", "sniffio", "typing-extensions"}

_UNWANTED = ("litellm", "pydantic", "openai", "aiohttp", "requests", "importlib.metadata", "yaml", "psycopg")

USER = """
import asyncio
import gatehouse_adapter as ga
from gatehouse_adapter import LiteLLMAdapter, LiteLLMAdapterSync, SafetyConfig

MESSAGES = [{"role": "user", "content": "Hello"}]


async def agent() -> float:
    safety = SafetyConfig(
        max_budget_per_request=0.5,
        max_tokens_per_request=1000,
        require_approval_over=0.25,
        rate_limit_per_minute=60,
        blocked_content_types=["harmful", "illegal"],
        blocked_part_types=["image_url"],
    )
    async with LiteLLMAdapter(base_url="http://127.0.0.1:4000", api_key="sk-x", safety=safety, verify=False) as adapter:
        health: ga.Health = await adapter.validate_proxy_health()
        models: tuple[ga.Model, ...] = await adapter.get_available_models()
        estimate: ga.CostEstimate = await adapter.get_cost_estimate(MESSAGES, models[0].id, max_tokens=5)
        budget: ga.BudgetStatus = await adapter.check_budget_limit(limit=5.0)
        usage: ga.UsageStats = await adapter.get_usage_stats(days=7)
        asked: ga.Approval = await adapter.request_approval(MESSAGES, "demo")
        approval: ga.Approval = await adapter.get_approval(asked.id)
        answer: ga.Completion = await adapter.complete_chat(
            MESSAGES, "demo", approval="wait", approval_timeout=60, approval_id=approval.id, temperature=0
        )
        calls: tuple[ga.ToolCall, ...] = answer.tool_calls
        used: ga.Usage | None = answer.usage
        stream: ga.ChatStream = await adapter.complete_chat(MESSAGES, "demo", stream=True)
        async for chunk in stream:
            piece: ga.ChatChunk = chunk
            deltas: tuple[ga.ToolCallDelta, ...] = piece.tool_calls
            print(piece.content, deltas, used, calls)
        result: ga.Result = answer
        print(result.to_dict(), health.healthy, approval.state, approval.comment, budget.remaining_budget)
        return estimate.estimated_cost_usd + usage.total_spend


def plain() -> str:
    with LiteLLMAdapterSync(timeout=30.0, max_retries=0, breaker_failure_threshold=3, proxy=None) as adapter:
        stream: ga.ChatStreamSync = adapter.complete_chat(MESSAGES, "demo", stream=True)
        return "".join(chunk.content for chunk in stream) + (adapter.complete_chat(MESSAGES, "demo").content or "")


ERRORS: list[type[ga.GatehouseError]] = [ALL]
asyncio.run(agent())
"""


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a new environment that holds only the adapter."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    uv = _uv()
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(folder), str(REPOSITORY / "adapter")],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder / "bin" / "python"


def _uv() -> str:
    script = f". {REPOSITORY}/scripts/find-uv.sh; find_uv {REPOSITORY} >&2 && echo $UV"
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=300, check=True)
    return done.stdout.strip()


def run(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=120, check=True).stdout


def test_it_brings_httpx_and_aiolimiter_and_what_they_need(clean: Path) -> None:
    code = "import importlib.metadata as m, json; print(json.dumps([d.name.lower() for d in m.distributions()]))"
    found = {name.replace("_", "-") for name in json.loads(run(clean, code))} - {"pip", "setuptools"}
    assert found >= _OWN
    assert found <= _OWN | _THEIRS


def test_importing_it_loads_nothing_heavy(clean: Path) -> None:
    code = (
        "import sys, time; begun = time.perf_counter(); import gatehouse_adapter; took = time.perf_counter() - begun\n"
        f"import json; print(json.dumps([took, [name for name in {_UNWANTED!r} if name in sys.modules]]))"
    )
    runs = [json.loads(run(clean, code)) for _ in range(5)]
    print(f"import gatehouse_adapter: {min(took for took, _ in runs) * 1000:.0f} ms, the best of 5")
    assert [loaded for _, loaded in runs] == [[]] * 5


def test_a_users_file_with_every_public_name_passes_mypy_strict(clean: Path, tmp_path: Path) -> None:
    names = [name for name in ga.__all__ if issubclass(getattr(ga, name), ga.GatehouseError)]
    code = USER.replace("ALL", ", ".join(f"ga.{name}" for name in names))
    assert {name for name in ga.__all__ if name not in code} == set()
    user = tmp_path / "user.py"
    user.write_text(code)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-incremental",
        "--config-file=",
        "--cache-dir",
        str(tmp_path),
    ]
    done = subprocess.run(
        [*command, "--python-executable", str(clean), str(user)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "wrong.py"  # the types are there, and say no
    wrong.write_text(
        "from gatehouse_adapter import Health\n\n\ndef bad(health: Health) -> int:\n    return health.reason\n"
    )
    done = subprocess.run(
        [*command, "--python-executable", str(clean), str(wrong)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert 'has type "str | None"' in done.stdout or "Incompatible return value" in done.stdout
