"""Starts the real gateway (`gatehouse serve`) for tests, on a database, a Redis and a log folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import yaml
from gatehouse.capsule import keys
from gatehouse.core.clock import now

from tests.support.lines import audit_lines
from tests.support.prefork import ForkedServer
from tests.support.process import PATIENCE_S, START_S, free_port, wait_until
from tests.support.redis_server import PASSWORD

REPOSITORY = Path(__file__).resolve().parents[2]
_NOTHING_FORBIDDEN = Path(__file__).with_name("policy.yaml")
MASTER_KEY = "sk-gatehouse-test-master-key-0123456789"
METRICS_TOKEN = "test-metrics-token"
INSTALLATION_SECRET = "test-installation-secret-0123456789"


class Gateway:
    """Runs one gateway process.

    Args:
        database_url: an empty or prepared database.
        redis_port: where its Redis listens.
        config: LiteLLM's configuration; the repository's own when not given.
        policy: one that forbids nothing when not given.
        folder: where log folder and output lie; two gateways may share one.
    """

    def __init__(
        self,
        database_url: str,
        redis_port: int,
        *,
        config: Path | None = None,
        policy: Path | None = None,
        folder: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.database_url = database_url
        self.port = free_port()
        self.folder = folder or Path(tempfile.mkdtemp(prefix="gatehouse-test-"))
        self.output = self.folder / f"gateway-{self.port}.log"
        if not (self.folder / "ledger" / "keys").exists():
            keys.create(self.folder / "ledger" / "keys", now())
        env = {
            **os.environ,
            "GATEHOUSE_HOME": str(REPOSITORY),
            "DATABASE_URL": database_url,
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(redis_port),
            "REDIS_PASSWORD": PASSWORD,
            "LITELLM_MASTER_KEY": MASTER_KEY,
            "LITELLM_SALT_KEY": "sk-test-salt-key-0123456789",
            "GATEHOUSE_SECRET": INSTALLATION_SECRET,
            "UI_USERNAME": "admin",
            "UI_PASSWORD": "test-ui-password",
            "GATEHOUSE_METRICS_TOKEN": METRICS_TOKEN,
            "GATEHOUSE_LOG_DIR": str(self.folder / "logs"),
            "GATEHOUSE_LEDGER_DIR": str(self.folder / "ledger"),
            "CONFIG_FILE_PATH": str(config or REPOSITORY / "config.yaml"),
            "GATEHOUSE_POLICY": str(policy or _NOTHING_FORBIDDEN),
            "OLLAMA_API_BASE": "http://127.0.0.1:9",
            **(environ or {}),
        }
        self.server = ForkedServer(
            [Path(sys.executable).parent / "gatehouse", "serve", "--port", str(self.port)],
            self.output,
            env=env,
            cwd=self.folder,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, seconds: float = START_S) -> Gateway:
        """Start the gateway unless it runs, and wait until it answers."""
        if not self.server.running:
            self.server.start()
        wait_until(self.ready, f"gateway answers (its output: {self.output})", seconds)
        return self

    def ready(self) -> bool:
        assert self.server.process is not None
        if self.server.process.poll() is not None:
            raise RuntimeError(f"the gateway ended:\n{self.output.read_text()[-4000:]}")
        try:
            return httpx.get(f"{self.url}/health/readiness", timeout=10).status_code == 200
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        """End it at once: what it would still write, its folder takes along."""
        if self.server.process is not None:
            self.server.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self, key: str | None = MASTER_KEY, **options: Any) -> httpx.Client:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE_S, **options)

    def new_key(self, **fields: Any) -> str:
        """Make a virtual key."""
        with self.client() as client:
            answer = client.post("/key/generate", json=fields)
            answer.raise_for_status()
            return str(answer.json()["key"])

    def lines(self) -> list[dict[str, Any]]:
        return audit_lines(self.folder / "logs" / "litellm_audit.jsonl")

    def lines_of(self, call_id: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["data"]["call_id"] == call_id]

    def calls(self) -> dict[str, dict[str, Any]]:
        """Return the ledger's rows by call id."""
        with psycopg.connect(self.database_url) as connection:
            rows = connection.execute(
                "select call_id::text, request, settled_at, record from gatehouse.calls"
            ).fetchall()
        return {row[0]: {"request": row[1], "settled_at": row[2], "record": row[3]} for row in rows}

    def capsule(self, call_id: str) -> dict[str, Any]:
        """Return the capsule of a call that is settled."""
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute("select canonical from gatehouse.capsules where id = %s", (call_id,)).fetchone()
        assert row, f"call {call_id} has no capsule"
        return dict(json.loads(row[0]))

    def wait_settled(self, seconds: float = PATIENCE_S) -> None:
        """Wait until no call is open, and every row has its line."""

        def settled() -> bool:
            rows = self.calls()
            return all(row["settled_at"] for row in rows.values()) and {
                line["data"]["call_id"] for line in self.lines()
            } >= set(rows)

        wait_until(settled, "every call is settled and logged", seconds)


def query_engine_of(pid: int) -> psutil.Process:
    """Return the query engine that LiteLLM started in the gateway process `pid`, once there is one."""
    found: list[psutil.Process] = []

    def look() -> bool:
        found[:] = [child for child in psutil.Process(pid).children(recursive=True) if _is_engine(child)]
        return found != []

    wait_until(look, "the gateway has a query engine")
    return found[0]


def _is_engine(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.name().startswith("query-engine") and process.status() != psutil.STATUS_ZOMBIE)
    return False


def config_with_upstream(upstream_url: str, folder: Path, strict_url: str | None = None) -> Path:
    """Return the repository's configuration, with models `up-*` that a test's own provider answers.

    Args:
        strict_url: the address of a strict provider, which answers the models `strict-*`.
    """
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    provider = {"api_base": upstream_url, "api_key": "sk-upstream"}
    priced = {"input_cost_per_token": 0.000001, "output_cost_per_token": 0.000002, "max_output_tokens": 1024}
    for name, model in (
        ("up-chat", "openai/gpt-4o"),
        ("up-first", "openai/gpt-4o"),
        ("up-text", "text-completion-openai/gpt-3.5-turbo-instruct"),
        ("up-embedding", "openai/text-embedding-3-small"),
        ("up-moderation", "openai/omni-moderation-latest"),
        ("up-rerank", "hosted_vllm/bge-reranker-v2-m3"),
        ("up-speech", "openai/tts-1"),
        ("up-transcription", "openai/whisper-1"),
        ("up-image", "openai/dall-e-3"),
        ("up-claude", "anthropic/claude-sonnet-4-20250514"),
    ):
        base = {**provider, "api_base": upstream_url.removesuffix("/v1")} if name == "up-claude" else provider
        config["model_list"].append(
            {"model_name": name, "litellm_params": {"model": model, **base}, "model_info": priced}
        )
    for name, model, path in (
        ("strict-claude", "anthropic/claude-sonnet-4-20250514", ""),
        ("strict-gpt", "openai/gpt-5", "/v1"),
        ("strict-gemini", "gemini/gemini-3-pro-preview", "/v1beta"),
    ):
        if strict_url is not None:
            base = {"api_base": strict_url + path, "api_key": "sk-upstream"}
            config["model_list"].append(
                {"model_name": name, "litellm_params": {"model": model, **base}, "model_info": priced}
            )
    config["router_settings"]["num_retries"] = 0
    config["router_settings"]["fallbacks"].append({"up-first": ["up-chat"]})
    config["router_settings"]["disable_cooldowns"] = True
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path
