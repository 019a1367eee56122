"""What `python -m bench pipeline` sends is what it says, and it refuses to compare gateways that do not do the work."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from gatehouse.guards.pii.config import PiiConfig
from gatehouse.guards.pii.engine import Engine
from gatehouse.policy.load import load_policy

from bench import prompts
from bench.gateways import BARE, OURS
from bench.measure import Sample
from bench.pipeline import arguments
from bench.pipeline_gateways import BLOCKED, PLAIN, POLICY, PRESIDIO, mask_problem
from bench.pipeline_report import figures, text
from bench.pipeline_rules import RULES, facts, policy_p50_ms, rule_set


def found_in(content: str) -> list[str]:
    return [each.entity for each in Engine(PiiConfig()).scan(content)]


@pytest.mark.parametrize("number", [*range(8), 1_000_002, 4_000_000_000])
def test_one_prompt_in_four_holds_an_address_and_one_a_card_and_the_scanner_finds_just_that(number: int) -> None:
    assert found_in(prompts.prompt(number)) == {0: ["EMAIL_ADDRESS"], 2: ["CREDIT_CARD"]}.get(number % 4, [])


def test_no_two_prompts_or_conversations_are_alike_and_a_number_gives_the_same_each_time() -> None:
    assert len({prompts.prompt(number) for number in range(2_000)}) == 2_000
    assert len({prompts.card(number) for number in range(2_000)}) == 2_000
    one, other = prompts.conversation(1), prompts.conversation(2)
    assert one == prompts.conversation(1)
    assert not {m["content"] for m in one[1:]} & {m["content"] for m in other[1:]}


def test_prompts_have_50_tokens_and_a_conversation_4000_in_20_turns() -> None:
    # Words of these lists are one token each in OpenAI's encodings, and so is a full stop; digits are one for three.
    words = [len(prompts.prompt(number).split()) for number in (1, 3)]
    assert all(45 <= count <= prompts.PROMPT_TOKENS for count in words)
    conversation = prompts.conversation(3)
    assert [m["role"] for m in conversation] == ["system", "user", *["assistant", "user"] * (prompts.TURNS - 1)]
    total = sum(len(m["content"].split()) for m in conversation)
    assert 0.9 * prompts.CONVERSATION_TOKENS < total < prompts.CONVERSATION_TOKENS
    assert prompts.until_turn(conversation, prompts.TURNS) == conversation
    assert [m["role"] for m in prompts.until_turn(conversation, 2)] == ["system", "user", "assistant", "user"]
    assert "EMAIL_ADDRESS" in found_in(conversation[-1]["content"])


def test_the_rules_name_facts_of_every_part_and_none_matches() -> None:
    rules = rule_set()
    assert len(rules.rules) == RULES
    named = {path[0] for rule in rules.rules for path in rule.condition.paths}
    assert named == {"request", "caller", "agent", "cost", "pii", "screens", "spend", "now"}
    assert rules.evaluate(facts(7)).matched == ()
    assert 0 < policy_p50_ms(5, rules) < 100


def test_the_governed_gateway_reads_a_policy_with_every_stage_and_the_prompts_hold_nothing_that_is_blocked() -> None:
    policy = load_policy(Path("policy.yaml"), yaml.safe_dump(POLICY).encode()).policy
    assert policy.limits is not None
    assert policy.screens is not None
    assert policy.pii is not None
    assert policy.rules
    blocked = {words for category in policy.screens.blocked_content.values() for words in category}
    sent = " ".join(m["content"] for n in range(50) for m in prompts.conversation(n))
    assert BLOCKED in blocked
    assert not [words for words in blocked if words in sent]


SENT = "Write to ann4@example.com about it."


@pytest.mark.parametrize(
    ("seen", "masks", "wrong"),
    [
        ("Write to <EMAIL_ADDRESS> about it.", True, False),
        ("Write to <EMAIL_ADDRESS_7Q2MKD4P> about it.", True, False),
        (SENT, False, False),
        (SENT, True, True),
        ("Write to about it.", True, True),
        ("Write to <EMAIL_ADDRESS> about it.", False, True),
    ],
)
def test_a_gateway_that_does_not_do_what_its_name_says_is_not_compared(seen: str, masks: bool, wrong: bool) -> None:
    assert (mask_problem(seen, SENT, "EMAIL_ADDRESS", "ann4@example.com", masks=masks) is not None) is wrong


def samples() -> list[Sample]:
    rates = {OURS: (90.0, 60.0), PLAIN: (100.0, 80.0), BARE: (120.0, 60.0), PRESIDIO: (30.0, 15.0)}
    return [
        Sample(name, count, number, rate, 1.0, [1000 / rate] * 3)
        for name, by_round in rates.items()
        for number, rate in enumerate(by_round)
        for count in (1, 16)
    ]


TURNS_A_SECOND = {OURS: {0: 60.0, 1: 50.0}, PLAIN: {0: 80.0}, PRESIDIO: {0: 15.0, 1: 10.0}}


def test_each_figure_is_of_gateways_in_the_same_round() -> None:
    last = {OURS: {0: [12.0, 31.0], 1: [14.0, 14.0]}, PLAIN: {0: [10.0, 30.0], 1: [11.0, 12.0]}}
    found = {figure.title: figure.values for figure in figures([0.1, 0.2], samples(), last, TURNS_A_SECOND, (1, 16))}
    assert found["facts and 100 rules, p50"] == [0.1, 0.2]
    assert found["gatehouse / gatehouse-unscreened, requests/s, 16 connections"] == [0.9, 0.75]
    assert found["gatehouse / litellm-presidio, requests/s, 1 connection"] == [3.0, 4.0]
    assert found["gatehouse - gatehouse-unscreened, p50, last of 20 turns"] == [1.5, 2.5]
    assert found["gatehouse / litellm-presidio, turns of conversations/s"] == [4.0, 5.0]
    assert found["gatehouse / gatehouse-unscreened, turns of conversations/s"] == [0.75]
    assert "gatehouse - without-plugin, p50, last of 20 turns" not in found
    said = text([0.1, 0.2], samples(), last, TURNS_A_SECOND, (1, 16))
    assert "0.825 [0.750 .. 0.900]" in said


@pytest.mark.parametrize("argv", [["--rounds", "0"], ["--seconds", "0"], ["--conversations", "0"]])
def test_a_run_of_nothing_is_refused(argv: list[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(argv)
