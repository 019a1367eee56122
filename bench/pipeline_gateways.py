"""The gateways of `python -m bench pipeline`, and the proof that each of them masks, or does not, as its name says.

LiteLLM's guardrail is configured as in its documentation: every entity that Presidio knows, in prompt and answer. It
runs in the same process as Gatehouse without the plugin, which is faster than pip's, on a Presidio served as the
official images serve it, with a smaller language model (`bench/presidio_server.py`). The lean one looks only for
Gatehouse's entities, by patterns without a language model, and only in the prompt.
"""

from __future__ import annotations

import itertools
import json
import sys
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import yaml
from gatehouse.guards.pii.config import DEFAULT_ENTITIES

from bench import prompts
from bench.gateways import BARE, OURS, Variant, make_key, start_gateways
from bench.load import Load, apply_load, chat
from bench.measure import Gateway, checked
from bench.processes import Process, wait_for_http
from bench.services import ROOT, Services
from tests.support.process import free_port

PLAIN, PRESIDIO, LEAN = "gatehouse-unscreened", "litellm-presidio", "litellm-presidio-lean"
MASKING = (OURS, PRESIDIO, LEAN)

BLOCKED = "project nightjar"
POLICY = {
    "version": 1,
    "limits": {"max_tokens_per_request": 32_000, "max_cost_per_request_usd": 10},
    "screens": {
        "blocked_content": {"illegal": ["build a pipe bomb", "counterfeit passport"], "internal": [BLOCKED]},
        "secrets": "block",
        "prompt_injection": "block",
    },
    "pii": {"mode": "mask"},
    "rules": [
        {"id": "dear-is-denied", "when": "cost.estimated_usd > 5.0", "then": "deny"},
        {"id": "interns", "when": 'caller.team == "interns" && request.model.startsWith("gpt-4")', "then": "deny"},
        {"id": "many-people", "when": "pii.total > 100", "then": "deny"},
        {"id": "no-bare-cards", "mode": "observe", "when": "pii.CREDIT_CARD > 0", "then": "deny"},
    ],
}


def start(stack: ExitStack, folder: Path, services: Services, say: Callable[[str], None]) -> list[Gateway]:
    """Start all five, and Presidio for those that ask it."""
    plain = folder / "plain-policy.yaml"
    plain.write_text("version: 1\n")
    governed = folder / "policy.yaml"
    governed.write_text(yaml.safe_dump(POLICY, sort_keys=False))
    say("starting Presidio's analyzer and anonymizer ...")
    urls = {kind: _presidio(stack, folder, kind) for kind in ("analyzer", "patterns", "anonymizer")}
    guardrail = {
        "guardrail": "presidio",
        "mode": "pre_call",
        "default_on": True,
        "presidio_analyzer_api_base": urls["analyzer"],
        "presidio_anonymizer_api_base": urls["anonymizer"],
    }
    lean = {
        "presidio_analyzer_api_base": urls["patterns"],
        "presidio_filter_scope": "input",
        "pii_entities_config": dict.fromkeys(DEFAULT_ENTITIES, "MASK"),
    }
    variants = [
        Variant(OURS, OURS, governed),
        Variant(PLAIN, OURS, plain),
        Variant(BARE, BARE),
        Variant(PRESIDIO, BARE, guardrails=({"guardrail_name": "presidio", "litellm_params": guardrail},)),
        Variant(LEAN, BARE, guardrails=({"guardrail_name": "presidio", "litellm_params": guardrail | lean},)),
    ]
    return start_gateways(stack, folder, services, variants, say)


def _presidio(stack: ExitStack, folder: Path, kind: str) -> str:
    url = f"http://127.0.0.1:{(port := free_port())}"
    argv = [sys.executable, "-m", "bench.presidio_server", kind, str(port)]
    wait_for_http(Process(stack, argv, log=folder / f"presidio-{kind}.log", cwd=ROOT), f"{url}/health")
    return url


class Check:
    """Ask the upstream what it received. Each question is a new one, so that no cache answers it."""

    def __init__(self, key: str, upstream_port: int) -> None:
        self._key, self._url = key, f"http://127.0.0.1:{upstream_port}/"
        self._numbers = itertools.count(4_000_000_000, 4)  # an address is in these, a card in those two further on

    def __call__(self, gateway: Gateway) -> None:
        """Raise SystemExit when the gateway does not do what its name says."""
        number = next(self._numbers)
        for entity, at, value in (("EMAIL_ADDRESS", number, prompts.email), ("CREDIT_CARD", number + 2, prompts.card)):
            text = prompts.prompt(at)
            checked(gateway, self._send(gateway, text))
            with urllib.request.urlopen(self._url, timeout=10) as answer:
                seen = json.load(answer)["messages"][-1]["content"]
            if problem := mask_problem(seen, text, entity, value(at), masks=gateway.name in MASKING):
                raise SystemExit(f"error: bench: {gateway.name} {problem}. A ratio would compare nothing.")
        if gateway.name == OURS:
            refused = self._send(gateway, f"Note {number}: tell me about {BLOCKED}.").failures
            if not any(each.startswith("403:") and "content_blocked" in each for each in refused):
                raise SystemExit(
                    f"error: bench: {gateway.name} did not block. A ratio would compare nothing. {refused}"
                )

    def _send(self, gateway: Gateway, text: str) -> Load:
        return apply_load(gateway.port, self._key, 1, bodies=iter([chat({"role": "user", "content": text})]))


def mask_problem(seen: str, sent: str, entity: str, value: str, *, masks: bool) -> str | None:
    """Return what is wrong with the prompt that the upstream has `seen`, if anything."""
    assert value in sent
    if masks and value in seen:
        return f"let {entity} through"
    if masks and f"<{entity}" not in seen:
        return f"sent no placeholder for {entity}"
    if not masks and seen != sent:
        return "changed a prompt although it should not"
    return None


def make_check(gateways: list[Gateway], services: Services) -> tuple[str, Check]:
    """Return a virtual key, and the check with it; every gateway has passed it once."""
    key = make_key(gateways[0])
    check = Check(key, services.upstream_port)
    for gateway in gateways:
        check(gateway)
    return key, check
