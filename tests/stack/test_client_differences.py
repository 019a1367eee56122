"""Clients see through the gateway what they see from the provider directly: objects, events in order, exceptions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.client_conversations import (
    CLAUDE,
    CONVERSATIONS,
    GPT,
    PERSONAL,
    VERCEL,
    VERCEL_CLIENT,
    Conversation,
    Place,
    differences,
    seen,
    vercel,
)
from tests.support.client_differences import KNOWN
from tests.support.codex import Codex
from tests.support.gateway import REPOSITORY, Gateway
from tests.support.markdown import blocks
from tests.support.postgres import Postgres
from tests.support.redis_server import Redis
from tests.support.strict_provider import StrictProvider
from tests.support.strict_turns import Call, Turn

_MASKING = """
version: 1
limits: {allow_unpriced_models: ["*"]}
pii: {mode: mask}
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[StrictProvider]:
    server = StrictProvider()
    yield server
    server.close()


@pytest.fixture(scope="module", params=["without masking", "with masking"])
def place(
    request: pytest.FixtureRequest,
    provider: StrictProvider,
    postgres: Postgres,
    redis_server: Redis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("differences")
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    config["model_list"] = [model(GPT, f"{provider.url}/v1"), model(CLAUDE, provider.url)]
    config["router_settings"] |= {"num_retries": 0, "fallbacks": [], "disable_cooldowns": True}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    policy: Path | None = None
    if request.param == "with masking":
        policy = folder / "policy.yaml"
        policy.write_text(_MASKING)
    server = Gateway(
        postgres.create_database(), redis_server.port, config=folder / "config.yaml", policy=policy
    ).start()
    yield Place(server.url, server.new_key(), masking=policy is not None)
    server.close()


def model(name: str, api_base: str) -> dict[str, Any]:
    provider = "anthropic" if name == CLAUDE else "openai"
    params = {"model": f"{provider}/{name}", "api_base": api_base, "api_key": "sk-of-the-provider"}
    return {"model_name": name, "litellm_params": params}


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=str)
def test_a_client_sees_what_it_sees_directly(
    provider: StrictProvider, place: Place, conversation: Conversation
) -> None:
    provider.plays(*conversation.turns)
    directly = seen(conversation.run, Place(provider.url, "sk-of-the-provider"))
    assert provider.script == [], "not every turn was played"
    provider.plays(*conversation.turns)
    through = seen(conversation.run, place)
    assert provider.script == []
    assert unknown(conversation.client, directly, through, place) == {}
    assert (PERSONAL.split()[2].rstrip(",") in provider.received) == (
        "personal data" in conversation.name and not place.masking
    )


def test_programs_of_the_vercel_ai_sdk_see_what_they_see_directly(provider: StrictProvider, place: Place) -> None:
    turns = [turn for _, turns in VERCEL for turn in turns]
    provider.plays(*turns)
    directly = vercel(Place(provider.url, "sk-of-the-provider"))
    provider.plays(*turns)
    through = vercel(place)
    assert provider.script == []
    pairs = zip(VERCEL, directly, through, strict=True)
    found = {name: unknown(VERCEL_CLIENT, one, two, place) for (name, _), one, two in pairs}
    assert {name: different for name, different in found.items() if different} == {}


# What the model does in Codex: it thinks, works on files in several turns, and says that it is done.
_WORK = (
    "printf 'one\\ntwo\\n' > notes.txt",
    "cat notes.txt && wc -l < notes.txt",
    "sed -i 's/two/three/' notes.txt && mkdir -p deep && cp notes.txt deep/copy.txt",
    "ls deep missing 2>&1; echo over",
)
_TASK = (
    *(Turn(thinking=(f"Step {at}.",), calls=(Call("exec_command", {"cmd": each}),)) for at, each in enumerate(_WORK)),
    Turn(text="I am done."),
)


def test_codex_does_a_task_of_several_commands_as_it_does_directly(
    provider: StrictProvider, place: Place, tmp_path: Path
) -> None:
    directly = work_of_codex(provider, Place(provider.url, "sk-of-the-provider"), tmp_path / "directly")
    through = work_of_codex(provider, place, tmp_path / "through")
    assert directly["stdout"] == "I am done.\n"
    assert through == directly


def work_of_codex(provider: StrictProvider, place: Place, folder: Path) -> dict[str, Any]:
    """Let Codex do the task; return what it printed, what it wrote, and what its commands printed for the model."""
    [shown] = [block.code for block in blocks(REPOSITORY, "docs/agents.md") if block.language == "toml"]
    folder.mkdir()
    codex = Codex.create(folder, shown.replace("http://127.0.0.1:4000", place.url), place.key)
    provider.plays(*_TASK)
    done = codex.run(GPT, "Do the task.")
    assert (done.returncode, provider.script, provider.refusals) == (0, [], []), done.stderr
    files = {path.relative_to(codex.work).as_posix(): path.read_text() for path in codex.work.rglob("*.txt")}
    told = [item["output"] for item in provider.bodies[-1]["input"] if item.get("type") == "function_call_output"]
    return {
        "stdout": done.stdout,
        "files": files,
        "requests": len(provider.arrivals),
        "told": [re.sub(r"(?m)^(Chunk ID|Wall time): .*$", r"\1", each) for each in told],
    }


def unknown(client: str, directly: Any, through: Any, place: Place) -> dict[str, tuple[Any, Any]]:
    """Return the differences that the page does not have."""
    return {
        where: pair
        for where, pair in differences(directly, through).items()
        if not any(each.covers(client, where, masking=place.masking) for each in KNOWN)
    }
