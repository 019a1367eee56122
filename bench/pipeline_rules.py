"""Measures a hundred rules: making a call's facts and evaluating every rule, in this process, alone."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from gatehouse.core.decision import Verdict
from gatehouse.policy.facts import (
    AgentFacts,
    CallerFacts,
    CostFacts,
    Facts,
    NowFacts,
    RequestFacts,
    ScreensFacts,
    SpendFacts,
)
from gatehouse.policy.load import read_policy
from gatehouse.policy.rules import RuleSet

RULES = 100
# One of each in turn; together they name facts of every part.
WHEN = (
    'caller.team == "team-{n}" && request.model.startsWith("gpt-4") || cost.estimated_usd > {n}.5',
    'pii.CREDIT_CARD > {n} || pii.total > 10{n} || "secrets" in screens.hits && caller.role == "role-{n}"',
    'agent.id == "agent-{n}" && now.hour < 6 && now.weekday > 5 && request.max_tokens > 1{n} && !request.stream',
    'request.tools.exists(tool, tool == "tool-{n}") || "tag-{n}" in caller.tags',
    'spend.key_budget_usd > 0.0 && spend.key_usd > {n}000.0 || caller.user == "user-{n}"',
)


def rule_set(count: int = RULES) -> RuleSet:
    """Read so many rules as the gateway does. None matches the facts below, so each is evaluated in full."""
    rules = "\n".join(
        f"  - {{id: rule-{n}, when: '{WHEN[n % len(WHEN)].replace('{n}', str(n))}', then: deny}}" for n in range(count)
    )
    return read_policy(Path("policy.yaml"), f"version: 1\nrules:\n{rules}\n".encode())[0].rules


def facts(number: int) -> Facts:
    """Return the facts of a call, made anew as for each call."""
    return Facts(
        RequestFacts("demo", "/v1/chat/completions", "acompletion", True, 5, ("search", "shell"), 0.7, 200 + number),
        CallerFacts("my-agent", "0" * 64, "ada", "research", "acme", "internal_user", "customer-7", ("batch",)),
        AgentFacts("planner", f"session-{number}"),
        CostFacts(0.02, 50, 1_000),
        {"EMAIL_ADDRESS": 1},
        ScreensFacts(()),
        SpendFacts(0.5, 100.0),
        NowFacts(14, 3),
    )


def policy_p50_ms(calls: int, rules: RuleSet | None = None) -> float:
    """Return the median milliseconds of facts and all rules, over so many calls."""
    rules = rule_set() if rules is None else rules
    took = []
    for number in range(calls):
        begin = time.perf_counter()
        ruling = rules.evaluate(facts(number))
        took.append(1000 * (time.perf_counter() - begin))
        if ruling.verdict is not Verdict.ALLOW or ruling.errors:
            raise SystemExit(f"error: bench: a rule matched or failed: {[rule.id for rule in ruling.matched]}")
    return statistics.median(took)
