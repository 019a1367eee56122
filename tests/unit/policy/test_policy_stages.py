"""What the commands say of a call is what the gateway's stages do with it."""

from __future__ import annotations

from typing import Any

import pytest
from gatehouse.core.decision import Verdict
from gatehouse.policy.check import condition
from gatehouse.policy.facts import KNOWN_ENTITIES, Facts
from gatehouse.policy.model import Policy, RulePolicy
from gatehouse.policy.rules import Rule, RuleSet
from gatehouse.policy.stages import outcome, stage_effects

RULES = RuleSet(
    [
        Rule(
            RulePolicy.model_validate({"id": "secrets-need-people", "when": when, "then": "require_approval"}),
            condition(when, KNOWN_ENTITIES),
        )
        for when in ['"secrets" in screens.hits']
    ]
)


def effects(facts: dict[str, Any], **sections: Any) -> list[tuple[str, str]]:
    policy = Policy.model_validate({"version": 1, **sections})
    return [(each.stage, each.effect.value) for each in stage_effects(policy, Facts.from_mapping(facts))]


SECRET = {"screens": {"hits": ["secrets"]}}


@pytest.mark.parametrize(
    ("mode", "does"),
    [
        ("mask", [("screens/secrets", "masks")]),
        ("block", [("screens/secrets", "refuses")]),
        ("observe", [("screens/secrets", "observes")]),
        ("off", []),
    ],
)
def test_secrets_are_treated_by_their_mode(mode: str, does: list[tuple[str, str]]) -> None:
    assert effects(SECRET, screens={"secrets": mode}) == does
    assert effects(SECRET) == []


def test_other_screens_and_personal_data_are_treated_by_their_modes() -> None:
    facts = {
        "screens": {"hits": ["prompt_injection", "blocked_content/war", "blocked_content/gone"]},
        "pii": {"EMAIL_ADDRESS": 2, "CREDIT_CARD": 1, "PHONE_NUMBER": 0, "US_SSN": 1, "URL": 1},
    }
    assert effects(
        facts,
        screens={"prompt_injection": "observe", "blocked_content": {"war": ["tank"]}},
        pii={"entities": {"EMAIL_ADDRESS": None, "CREDIT_CARD": "block", "URL": "observe", "PHONE_NUMBER": "block"}},
    ) == [
        ("screens/prompt_injection", "observes"),
        ("screens/blocked_content/war", "refuses"),
        ("pii/CREDIT_CARD", "refuses"),
        ("pii/EMAIL_ADDRESS", "masks"),
        ("pii/URL", "observes"),
    ]


@pytest.mark.parametrize(
    ("reached", "allow", "does"),
    [
        ("mcp:mcp.example", [], "refuses"),
        ("mcp:mcp.example", ["https://mcp.example/team"], "may refuse"),
        ("mcp:mcp.example", ["https://other.example/"], "refuses"),
        ("mcp:unknown", ["litellm_proxy"], "may refuse"),
        ("mcp:unknown", ["https://mcp.example/"], "refuses"),
        ("connector:connector_gmail", [], "refuses"),
        ("connector:connector_gmail", ["connector_gmail"], None),
        ("web", [], None),
        ("link:pictures.example", [], None),
    ],
)
def test_servers_that_the_provider_would_call_are_refused_unless_named(
    reached: str, allow: list[str], does: str | None
) -> None:
    found = effects({"request": {"reaches": [reached]}}, hosted_mcp={"allow": allow})
    assert found == ([("hosted_mcp", does)] if does else [])


@pytest.mark.parametrize(
    ("reached", "team", "does"),
    [
        ("file:file-1", "", "refuses"),
        ("file:file-1", "research", None),
        ("file:pub-7", "", None),
        ("file:pub-a/../x", "", "refuses"),
        ("vector_store", "", None),
        ("container:cntr-1", "", None),
        ("file:hmac:0000ffff:" + "0" * 32, "", "may refuse"),
    ],
)
def test_what_a_provider_stores_is_refused_unless_listed(reached: str, team: str, does: str | None) -> None:
    facts = {"request": {"reaches": [reached]}, "caller": {"team": team}}
    listed = {"allow": ["file:pub-*"], "teams": {"research": ["file:file-1"]}}
    assert effects(facts, provider_data=listed) == ([("provider_data", does)] if does else [])


def test_the_limits_of_the_policy_refuse() -> None:
    facts = {"cost": {"input_tokens": 900, "max_output_tokens": 200, "estimated_usd": 0.5}}
    assert effects(facts, limits={"max_tokens_per_request": 1_000}) == [("limits", "refuses")]
    assert effects(facts, limits={"max_cost_per_request_usd": 0.4}) == [("limits", "refuses")]
    assert effects(facts, limits={"max_tokens_per_request": 1_100}) == []
    assert effects(facts) == []


def test_what_a_stage_refuses_no_rule_is_asked_about() -> None:
    facts = Facts.from_mapping(SECRET | {"pii": {"US_SSN": 1}})
    blocks = {"version": 1, "screens": {"secrets": "block"}, "pii": {"entities": {"US_SSN": "block"}}}
    refused = outcome(Policy.model_validate(blocks), RULES, facts)
    assert (refused.verdict, refused.policies, refused.ruling) == (Verdict.DENY, ("screens/secrets",), None)
    masked = outcome(Policy.model_validate({"version": 1, "screens": {"secrets": "mask"}}), RULES, facts)
    assert (masked.verdict, masked.policies) == (Verdict.REQUIRE_APPROVAL, ("secrets-need-people",))
