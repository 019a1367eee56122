"""`python -m bench egress`: the cost of the check before bytes leave, compared with the whole admission.

In this process, without the proxy and the ledger: a body is read, estimated, scanned, decided on and masked as in the
gateway with the shipped policy.yaml. Then the admitted request is recorded, and compared with what leaves.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from gatehouse.approvals.gate import Gate
from gatehouse.capsule.document import ContentMode
from gatehouse.core.call import Caller, GovernedCall
from gatehouse.core.clock import monotonic, new_call_id, now
from gatehouse.core.keys import InstallationKeys
from gatehouse.dialects.caller_fields import caller_request
from gatehouse.dialects.canonical import CallerNames
from gatehouse.gateway import egress
from gatehouse.gateway.request_body import json_object
from gatehouse.pipeline.admission import Admission
from gatehouse.pipeline.conversations import Conversations
from gatehouse.pipeline.in_force import PolicyInForceHolder
from gatehouse.pipeline.retention import Retention
from gatehouse.pipeline.scope import CallScope, Incoming
from gatehouse.pipeline.sessions import StoppedSessions
from gatehouse.policy.holder import PolicyHolder
from gatehouse.pricing.estimate import Prices
from gatehouse.proxy.catalog import Deployments
from gatehouse.proxy.control_fields import control_fields
from gatehouse.proxy.tokenizer import TokenCounter
from litellm.llms.anthropic.pass_through.adapters.transformation import LiteLLMAnthropicMessagesAdapter

from bench import report

POLICY = Path(__file__).resolve().parents[1] / "policy.yaml"
TEXT = "The tram leaves the square at nine and crosses the river twice before the hill. "
SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "description": "Where it is asked for"}}}
Body = dict[str, Any]
_numbers = itertools.count()


def _said(messages: int, chars: int) -> list[dict[str, Any]]:
    """Return a conversation whose last message is new, as an agent's are."""
    roles = itertools.cycle(("user", "assistant"))
    said = [f"{number}: {TEXT * 20}"[:chars] for number in range(messages - 1)]
    said.append(f"new {next(_numbers)}: {TEXT * 20}"[:chars])
    return [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]


def short() -> Body:
    return {"model": "gpt-4o", "max_tokens": 50, "messages": _said(1, 200)}


def long() -> Body:
    return {"model": "gpt-4o", "max_tokens": 50, "messages": _said(100, 500)}


def tools() -> Body:
    offered = [
        {"type": "function", "function": {"name": f"tool_{n}", "description": TEXT * 3, "parameters": SCHEMA}}
        for n in range(30)
    ]
    return long() | {"tools": offered}


def translated() -> Body:
    offered = [{"name": f"tool_{n}", "description": TEXT * 3, "input_schema": SCHEMA} for n in range(30)]
    return {"model": "gpt-4o", "max_tokens": 50, "system": TEXT, "messages": _said(100, 500), "tools": offered}


def large() -> Body:
    """Return two megabytes, of which only the last question is new; every seventh text holds an address."""
    texts = [f"{number}: {TEXT * 80}"[:5_000] for number in range(400)]
    texts = [text + f" person{number}@example.com" * (number % 7 == 0) for number, text in enumerate(texts)]
    said = [
        {"role": role, "content": text}
        for role, text in zip(itertools.cycle(("user", "assistant")), texts, strict=False)
    ]
    said.append({"role": "user", "content": f"new {next(_numbers)}"})
    return {"model": "gpt-4o", "max_tokens": 50, "messages": said}


CASES: dict[str, tuple[str, Callable[[], Body]]] = {
    "short chat": ("acompletion", short),
    "100 messages of 500 characters": ("acompletion", long),
    "the same with 30 tools": ("acompletion", tools),
    "the same, from messages to chat": ("anthropic_messages", translated),
    "2 MB, seen but for a question": ("acompletion", large),
}


def _sent(call_type: str, body: Body) -> tuple[str, Body]:
    """Return what LiteLLM makes of a body for a model of OpenAI's."""
    if call_type != "anthropic_messages":
        return call_type, dict(body)
    made = LiteLLMAnthropicMessagesAdapter().translate_anthropic_to_openai(body)
    return "acompletion", dict(made[0] if isinstance(made, tuple) else made)


async def measure(name: str, calls: int, deciding: Admission, holder: PolicyInForceHolder) -> tuple[float, float]:
    """Return the median milliseconds of the admission and, of that, of recording and comparing."""
    call_type, make = CASES[name]
    whole, second = [], []
    for _ in range(calls):
        raw = json.dumps(make()).encode()
        begin = time.perf_counter()
        given = json_object(raw)
        body = caller_request(call_type, given, control_fields())
        said = {field: value is None or isinstance(value, int | float) for field, value in given.items()}
        scope = CallScope(new_call_id(), "/v1/chat/completions", now(), monotonic())
        call = GovernedCall(
            scope.call_id, scope.started_at, scope.route, call_type, "gpt-4o", stream=False, caller=Caller()
        )
        scope.governance, scope.incoming = holder.current, Incoming(names=CallerNames.of(body))
        await deciding.decide(scope, call, body, holder.current)
        decided = time.perf_counter()
        assert scope.considered.request is not None
        noted = egress.admitted(scope.considered.request, body, said, control_fields().numbers)
        took = time.perf_counter() - decided
        sent_as, kwargs = _sent(call_type, body | {"model": "openai/gpt-4o"})
        begun = time.perf_counter()
        differs = egress.check(noted, sent_as, kwargs, {"model": "openai/gpt-4o"})
        took += time.perf_counter() - begun
        if differs is not None:
            raise SystemExit(f"error: bench: ordinary traffic was stopped: {differs}")
        second.append(1000 * took)
        whole.append(1000 * (decided - begin + took))
    return statistics.median(whole), statistics.median(second)


async def run(rounds: int, calls: int) -> dict[str, list[tuple[float, float]]]:
    holder = PolicyInForceHolder(PolicyHolder(POLICY, lambda _: None), workers=1)
    await holder.start()
    prices = Prices(Deployments(lambda: None), TokenCounter())
    keys = InstallationKeys("bench-" * 8)
    deciding = Admission(
        MagicMock(Gate),
        prices,
        Retention(ContentMode.HASH, keys),
        keys,
        Conversations(MagicMock(), keys, MagicMock()),
        lambda _: False,
        StoppedSessions(),
    )
    try:
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
        for name in CASES:
            await measure(name, 5, deciding, holder)  # fills the caches of earlier turns
        for _ in range(rounds):
            for name, samples in found.items():
                samples.append(await measure(name, calls, deciding, holder))
        return found
    finally:
        await holder.stop()


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench egress", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each case is measured (7)")
    parser.add_argument("--calls", type=int, default=40, help="calls each time (40)")
    chosen = parser.parse_args(argv)
    if min(chosen.rounds, chosen.calls) < 1:
        parser.error("--rounds and --calls must be above 0")
    for name, value in report.environment().items():
        print(f"{name}: {value}")
    print(f"{'':34}{'admission':>12}{'second look':>14}{'ratio':>9}")
    for name, samples in asyncio.run(run(chosen.rounds, chosen.calls)).items():
        whole, second = (statistics.median(each) for each in zip(*samples, strict=True))
        ratios = sorted(part / all_ for all_, part in samples)
        print(
            f"{name:34}{whole:9.2f} ms{second:11.3f} ms{statistics.median(ratios):9.3f}"
            f" [{ratios[0]:.3f} .. {ratios[-1]:.3f}]"
        )
