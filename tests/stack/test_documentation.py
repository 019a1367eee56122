"""Every block of README.md, adapter/README.md and docs/ works, in the order in which its page shows it.

Every fenced block is run against one real gateway; `tests/support/documentation.py` runs them.

- `python` is a program. `sh`, `bash` and `console` (`$ command`, and below it what it prints) are commands.
- `yaml` is a policy, cases for the policy above, or a part of config.yaml; `json`, `toml` are read; `sql` is asked.
- `text`, or `json` after a command, right below a block is what that prints. Numbers, times, ids, hashes may differ.

The environment has LITELLM_BASE_URL and LITELLM_MASTER_KEY, `.env` lies in the working directory, and http://127.0.0.1:4000
is the gateway. For library mode OPENAI_API_KEY and OPENAI_BASE_URL lead to a provider of the tests' own.
LiteLLM takes the prices that it ships with.

A comment above a block says what is special: `<!-- not run: REASON -->`, `<!-- continued -->` (a Python program that
goes on from the one before), `<!-- file: NAME -->` (also saved), `<!-- exit: 3 -->`. Whatever is not known here fails.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import httpx
import pytest

from tests.support.documentation import Surroundings, run
from tests.support.gateway import MASTER_KEY, REPOSITORY, Gateway
from tests.support.markdown import Block, blocks, pages
from tests.support.postgres import Postgres
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream

PAGES = pages(REPOSITORY)
BLOCKS = [block for page in PAGES for block in blocks(REPOSITORY, page)]
REMARKS = {"not run", "continued", "file", "exit"}
BIN = Path(sys.executable).parent

# A comment of the policy as shipped, and what an example asks for.
PHRASES = "# blocked_content: {weapons: [a word, a whole phrase]}"
FORBIDDEN = "Where does the forbidden fruit grow?"
# What the pages ask of people, on top of the policy as shipped.
RULE = """
rules:
  - id: expensive-needs-a-human
    when: caller.key_alias == "asks first"
    then: require_approval
    reason: More than five dollars in one request.
"""


@pytest.fixture(scope="module")
def documented(postgres: Postgres, redis_server: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Start a gateway as shipped, with a forbidden phrase and one more rule, for this module: pages rotate its keys."""
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    text = (REPOSITORY / "policy.yaml").read_text() + RULE
    assert PHRASES in text
    policy.write_text(text.replace(PHRASES, "blocked_content: {weapons: [forbidden fruit]}"))
    server = Gateway(postgres.create_database(), redis_server.port, policy=policy).start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def surroundings_of(
    documented: Gateway, recording_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Surroundings]:
    """Return a function that prepares a page when its first block comes."""
    environ = {
        **(documented.server.env or {}),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "LITELLM_BASE_URL": documented.url,
        "OPENAI_API_KEY": "sk-of-the-provider",
        "OPENAI_BASE_URL": recording_upstream.url,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or LiteLLM asks the Internet for prices, three times
        "PYTHONWARNINGS": "error::DeprecationWarning:__main__",
    }

    @cache
    def prepare(page: str) -> Surroundings:
        folder = tmp_path_factory.mktemp("page")
        (folder / ".env").write_text(f"LITELLM_MASTER_KEY={MASTER_KEY}\n")
        more = PREPARATIONS[page](documented, folder) if page in PREPARATIONS else {}
        return Surroundings(folder, {**environ, **more}, documented.url, documented.database_url)

    return prepare


def clients(gateway: Gateway, folder: Path) -> dict[str, str]:
    """An address and a key, as the page asks for them."""
    return {"GATEHOUSE_URL": gateway.url, "GATEHOUSE_KEY": gateway.new_key()}


def approvals(gateway: Gateway, folder: Path) -> dict[str, str]:
    """Make a pending request, and a reviewer with a key of their own."""
    error = ask(gateway, gateway.new_key(key_alias="asks first")).json()["error"]
    assert error["code"] == "approval_required", error
    return {"URL": gateway.url, "KEY": reviewer(gateway, "grace"), "ID": error["gatehouse"]["approval"]["id"]}


def reviewer(gateway: Gateway, user: str) -> str:
    with gateway.client() as client:
        return str(client.post("/user/new", json={"user_id": user, "user_role": "proxy_admin"}).json()["key"])


def agents(gateway: Gateway, folder: Path) -> dict[str, str]:
    """Approve what agents ask people for, except requests of a rule, which wait for their page."""
    key = reviewer(gateway, "ada")

    def approve_all() -> None:
        with contextlib.suppress(httpx.HTTPError), gateway.client(key) as client:  # until the gateway is gone
            while True:
                for waiting in client.get("/governance/v1/approvals/", params={"state": "requested"}).json()[
                    "approvals"
                ]:
                    if "expensive-needs-a-human" not in waiting["rules"]:
                        client.post(f"/governance/v1/approvals/{waiting['id']}/votes", json={"decision": "approve"})
                time.sleep(0.5)

    threading.Thread(target=approve_all, daemon=True).start()
    return {}


def audit(gateway: Gateway, folder: Path) -> dict[str, str]:
    """Make two sealed calls, and what an auditor holds: the keyring, and an earlier checkpoint."""
    key = gateway.new_key(key_alias="billing agent")
    ask(gateway, key)
    call_id = ask(gateway, key).headers["x-gatehouse-call-id"]
    gateway.wait_settled()
    (folder / "my-folder").mkdir()
    for place in (folder, folder / "my-folder"):
        shutil.copy(gateway.folder / "ledger" / "keys" / "keyring.json", place)
    done = subprocess.run(
        [str(BIN / "gatehouse"), "audit", "checkpoint"], capture_output=True, env=gateway.server.env, check=True
    )
    (folder / "kept.checkpoint").write_bytes(done.stdout)
    return {"CALL_ID": call_id}


def pii(gateway: Gateway, folder: Path) -> dict[str, str]:
    (folder / "notes.txt").write_text("Write to jane@example.com.\nMy badge: E12345.\n")
    return {}


def ask(gateway: Gateway, key: str) -> httpx.Response:
    with gateway.client(key) as client:
        body = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}
        return client.post("/v1/chat/completions", json=body)


# What has to be there before a page's first block: files in its folder, and variables.
PREPARATIONS: dict[str, Callable[[Gateway, Path], dict[str, str]]] = {
    "docs/agents.md": agents,
    "docs/approvals.md": approvals,
    "docs/audit.md": audit,
    "docs/clients.md": clients,
    "docs/pii.md": pii,
}


@pytest.mark.parametrize("block", [block for block in BLOCKS if not block.is_output], ids=str)
def test_every_block_does_what_its_page_says(block: Block, surroundings_of: Callable[[str], Surroundings]) -> None:
    assert block.remarks.keys() <= REMARKS, f"{block}: {sorted(block.remarks.keys() - REMARKS)} means nothing here"
    if (reason := block.remarks.get("not run")) is not None:
        assert len(reason.split()) >= 3, f"{block}: say why it cannot run"
        pytest.skip(f"{block}: {reason}")
    run(block, surroundings_of(block.page), before=continued(block))


def continued(block: Block) -> str:
    """Return the Python programs that `block` continues."""
    if "continued" not in block.remarks:
        return ""
    programs = [each for each in BLOCKS if (each.page, each.language) == (block.page, "python")]
    before = programs[programs.index(block) - 1]
    return continued(before) + before.code + "\n\n"


@pytest.mark.parametrize(
    ("example", "arguments", "says"),
    [
        ("openai_agent.py", [], 'tool: get_weather {"city": "Lisbon"}\necho: 18 °C and clear in Lisbon\n'),
        ("langchain_agent.py", [], "tool: get_weather {'city': 'Lisbon'}\necho: 18 °C and clear in Lisbon\n"),
        ("budget_loop.py", ["0.01", "Hello", 'get_time {"city": "Oslo"}'], "echo: Hello\necho: 12:00 in Oslo\n0.00"),
    ],
)
def test_the_examples_are_agents_that_use_tools(
    example: str, arguments: list[str], says: str, surroundings_of: Callable[[str], Surroundings]
) -> None:
    done = run_example(example, arguments, surroundings_of)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(says)


@pytest.mark.parametrize(
    ("example", "arguments"),
    [("openai_agent.py", []), ("budget_loop.py", ["0.01"])],
)
def test_the_examples_say_what_the_gateway_refused(
    example: str, arguments: list[str], surroundings_of: Callable[[str], Surroundings]
) -> None:
    done = run_example(example, [*arguments, FORBIDDEN], surroundings_of)
    assert done.returncode == 1
    assert "refused: content_blocked" in done.stderr or "stopped: " in done.stderr


def test_the_loop_stops_before_the_step_that_its_budget_does_not_cover(
    surroundings_of: Callable[[str], Surroundings],
) -> None:
    done = run_example("budget_loop.py", ["0.0006", *["Hello"] * 20], surroundings_of)
    assert done.returncode == 1
    assert done.stderr.startswith("stopped: a step may cost ")
    assert 1 <= done.stdout.count("echo: Hello") < 20


def run_example(
    name: str, arguments: list[str], surroundings_of: Callable[[str], Surroundings]
) -> subprocess.CompletedProcess[str]:
    around = surroundings_of("examples/README.md")
    command = [sys.executable, str(REPOSITORY / "examples" / name), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=180, cwd=around.folder, env=dict(around.environ), check=False
    )


def test_every_example_is_run_and_short() -> None:
    source = Path(__file__).read_text()
    for file in (REPOSITORY / "examples").glob("*.py"):
        assert f'"{file.name}"' in source, f"examples/{file.name} is not run"
        assert len(file.read_text().splitlines()) < 80
