"""What `gatehouse policy explain` says of a call's facts is what admission does with the call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gatehouse.core.errors import GovernanceError
from gatehouse.dialects.reaches import reaches
from gatehouse.policy.facts import Facts, RequestFacts
from gatehouse.policy.stages import Effect, outcome

from tests.support.admission import MAIL, Case

SERVER = {"tools": [{"type": "mcp", "server_label": "x", "server_url": "https://mcp.example/team/one"}]}
STORED = {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]}
RULE = 'rules: [{id: no-mail, when: "pii.total > 0", then: deny}]\n'


@pytest.mark.parametrize(
    ("policy", "text", "fields"),
    [
        ("", "hello", {}),
        ("pii: {mode: mask}\n", f"to {MAIL}", {}),
        ("pii: {mode: block}\n", f"to {MAIL}", {}),
        ("pii: {mode: observe}\n", f"to {MAIL}", {}),
        ("pii: {mode: mask}\n" + RULE, f"to {MAIL}", {}),
        ("pii: {mode: block}\n" + RULE, f"to {MAIL}", {}),
        ("screens: {prompt_injection: block}\n", "OVERRIDE", {}),
        ("screens: {prompt_injection: observe}\n", "OVERRIDE", {}),
        ("screens: {prompt_injection: block}\npii: {mode: block}\n", f"OVERRIDE {MAIL}", {}),
        ("limits: {max_tokens_per_request: 50}\n", "hello", {}),
        ("limits: {max_tokens_per_request: 500}\n", "hello", {}),
        ("limits: {max_cost_per_request_usd: 0.5}\n", "hello", {}),
        ("limits: {max_cost_per_request_usd: 0.5}\npii: {mode: block}\n", MAIL, {}),
        ("", "hello", SERVER),
        ("hosted_mcp: {allow: ['https://other.example/']}\n", "hello", SERVER),
        ("", "hello", STORED),
        ("provider_data: {allow: ['file:file-1']}\n", "hello", STORED),
        ("provider_data: {teams: {t: ['file:file-*']}}\n", "hello", STORED),
        ("provider_data: {teams: {u: ['file:*']}}\n", "hello", STORED),
        ("", "hello", SERVER | STORED),
    ],
)
async def test_the_outcome_of_a_calls_facts_is_what_becomes_of_the_call(
    policy: str, text: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    case = Case(tmp_path, policy, text, **fields)
    refused: tuple[str, ...] | None = None
    try:
        await case.decide()
    except GovernanceError as error:
        refused = error.policies
    considered, loaded = case.scope.considered, case.governance.loaded
    assert considered.request is not None
    # What is refused before it is scanned has no facts yet.
    facts = considered.facts or Facts(RequestFacts(reaches=reaches(considered.request)))
    found = outcome(loaded.policy, loaded.rules, facts)
    assert (found.policies if found.verdict.value == "deny" else None) == refused


@pytest.mark.parametrize(
    ("allow", "passes"), [("https://mcp.example/team/", True), ("https://mcp.example/other", False)]
)
async def test_a_server_whose_host_alone_is_known_may_be_refused(allow: str, passes: bool, tmp_path: Path) -> None:
    case = Case(tmp_path, f"hosted_mcp: {{allow: ['{allow}']}}\n", **SERVER)
    try:
        await case.decide()
    except GovernanceError:
        assert not passes
    else:
        assert passes
    loaded = case.governance.loaded
    assert case.scope.considered.request is not None
    facts = Facts(RequestFacts(reaches=reaches(case.scope.considered.request)))
    [effect] = outcome(loaded.policy, loaded.rules, facts).effects
    assert effect.effect is Effect.MAY_REFUSE
