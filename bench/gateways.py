"""The compared gateways, and how each starts on the same database, Redis and configuration."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from gatehouse.storage.prisma_engine import engine_environment

from bench.measure import Gateway
from bench.processes import Process, wait_for_http
from bench.services import ROOT, Services
from tests.support.process import free_port

MASTER_KEY = "sk-gatehouse-bench-master-key"
OURS, BARE, PIP = "gatehouse", "without-plugin", "litellm-from-pip"
PIP_VENV = ROOT / ".gatehouse" / "bench-venv"


@dataclass(frozen=True)
class Variant:
    """Describe one gateway of a run.

    Attributes:
        served_by: OURS, BARE or PIP.
        policy: its policy.yaml; only OURS reads one.
        guardrails: LiteLLM's own, as config.yaml lists them.
    """

    name: str
    served_by: str
    policy: Path = ROOT / "bench" / "policy.yaml"
    guardrails: tuple[dict[str, Any], ...] = ()


# Keeps LiteLLM from downloading at start-up; requests are the same.
OFFLINE = {
    f"LITELLM_LOCAL_{what}": "True"
    for what in ("MODEL_COST_MAP", "ANTHROPIC_BETA_HEADERS", "BLOG_POSTS", "POLICY_TEMPLATES", "AUTOROUTER_PRESETS")
}


def configuration(services: Services, variant: Variant) -> dict[str, Any]:
    """Return the shipped config.yaml with one more model, the constant upstream, and without Gatehouse's providers."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())
    settings = config["litellm_settings"]
    ours = {item["provider"] for item in settings.pop("custom_provider_map", [])}
    config["model_list"] = [
        model for model in config["model_list"] if model["litellm_params"]["model"].split("/")[0] not in ours
    ]
    config["model_list"].append(
        {
            "model_name": "bench",
            "litellm_params": {
                "model": "openai/constant",
                "api_base": f"http://127.0.0.1:{services.upstream_port}/v1",
                "api_key": "none",
            },
            "model_info": {"max_output_tokens": 1024, "input_cost_per_token": 1e-7, "output_cost_per_token": 1e-7},
        }
    )
    if variant.guardrails:
        config["guardrails"] = list(variant.guardrails)
    if variant.served_by != OURS:
        settings["callbacks"] = [name for name in settings["callbacks"] if not name.startswith("gatehouse.")]
    return config


def make_pip_venv(say: Callable[[str], None]) -> Path:
    """Install what `pip install 'litellm[proxy]'` gives, and what the database and the prometheus callback also need.

    The client generated for this environment is copied: same LiteLLM, same schema, same Prisma.
    """
    python = PIP_VENV / "bin/python"
    wanted = [f"litellm[proxy]=={version('litellm')}", f"prisma=={version('prisma')}", "prometheus-client"]
    stamp = PIP_VENV / "wanted.json"
    if not stamp.exists() or json.loads(stamp.read_text()) != wanted:
        say(f"installing {' '.join(wanted)} into {PIP_VENV} ...")
        shutil.rmtree(PIP_VENV, ignore_errors=True)
        subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, str(PIP_VENV)], check=True)
        subprocess.run(["uv", "pip", "install", "--quiet", "--python", str(python), *wanted], check=True)
        stamp.write_text(json.dumps(wanted))
    spec = importlib.util.find_spec("prisma")
    assert spec is not None
    assert spec.origin is not None
    (theirs,) = PIP_VENV.glob("lib/python*/site-packages/prisma")
    shutil.rmtree(theirs)  # not overwritten, because uv links one file into several environments
    shutil.copytree(Path(spec.origin).parent, theirs)
    return PIP_VENV / "bin/litellm"


def start_gateways(
    stack: ExitStack, folder: Path, services: Services, variants: Sequence[Variant], say: Callable[[str], None]
) -> list[Gateway]:
    """Start the gateways one after the other; the first one creates the database's schema."""
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        **OFFLINE,
        **engine_environment(ROOT),
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "LITELLM_SALT_KEY": "sk-bench-salt",
        "DATABASE_URL": services.database_url,
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(services.redis_port),
        "REDIS_PASSWORD": services.redis_password,
    }
    gateways = []
    for variant in variants:
        name = variant.name
        home = {
            "GATEHOUSE_HOME": str(ROOT),
            "GATEHOUSE_LOG_DIR": str(folder / f"{name}-logs"),
            "GATEHOUSE_POLICY": str(variant.policy),
            "GATEHOUSE_METRICS_TOKEN": "bench",
            "GATEHOUSE_SECRET": "bench-installation-secret-0123456789",
        }
        (folder / f"{name}-logs").mkdir()
        config = folder / f"{name}.yaml"
        config.write_text(yaml.safe_dump(configuration(services, variant)))
        port = free_port()
        env = environment | {"CONFIG_FILE_PATH": str(config)}
        if variant.served_by == PIP:
            # The command of LiteLLM's documentation. Its database exists already, so it need not make one.
            argv = [str(make_pip_venv(say)), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
            env |= {"DISABLE_SCHEMA_UPDATE": "True", "PATH": f"{PIP_VENV}/bin:{env['PATH']}"}
        elif variant.served_by == BARE:
            argv, env = [sys.executable, "-m", "bench.bare", str(port)], env | home
        else:
            argv = [str(Path(sys.executable).parent / "gatehouse"), "serve", "--host", "127.0.0.1", "--port", str(port)]
            env |= home
        say(f"starting {name} ...")
        process = Process(stack, argv, log=folder / f"{name}.log", env=env, cwd=ROOT)
        wait_for_http(process, f"http://127.0.0.1:{port}/health/readiness")
        gateways.append(Gateway(name, process, port))
    return gateways


def make_key(gateway: Gateway) -> str:
    """Make a virtual key with a budget that the run will not use up."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{gateway.port}/key/generate",
        method="POST",
        headers={"Authorization": f"Bearer {MASTER_KEY}", "Content-Type": "application/json"},
        data=json.dumps({"max_budget": 1000, "models": ["bench"]}).encode(),
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        key: str = json.load(answer)["key"]
    return key
