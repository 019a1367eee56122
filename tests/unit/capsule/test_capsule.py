"""A capsule says who asked for what, what was decided and how it ended, in the protocol's form, and quotes nobody."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from datetime import timedelta, timezone
from functools import reduce
from typing import Any
from uuid import uuid4

import pytest
import qp_capsule
from gatehouse.capsule.canonical import NotCanonical, canonical, check, parse
from gatehouse.capsule.document import Content, ContentMode, SealedApproval
from gatehouse.capsule.seal import sha3_256
from gatehouse.core.call import Outcome, Status, ToolCallRecord
from gatehouse.core.decision import Decision, Verdict
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.capsules import ANSWERED, AT, REQUEST, capsule, documents


def _set(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(document)
    *parents, name = path.split(".")
    inner = document
    for parent in parents:
        inner = inner[parent]
    inner[name] = value
    return document


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("reasoning.confidence", 1),
        ("reasoning.confidence", math.nan),
        ("reasoning.options", [{"feasibility": 1}]),
        ("outcome.metrics", {"deep": [math.nan]}),
        ("outcome.metrics", {"deep": [math.inf]}),
        ("outcome.result", {1, 2}),
        ("outcome.status", "done"),
        ("trigger.timestamp", "2026-01-01T00:00:00Z"),
        ("trigger.timestamp", "2026-01-01T00:00:00"),
        ("trigger.timestamp", "2026-01-01T02:00:00+02:00"),
        ("trigger.timestamp", "2026-01-01T00:00:00.000+00:00"),
        ("trigger.request", "\ud800"),
        ("id", "A1B2C3D4-E5F6-7890-ABCD-EF1234567890"),
        ("parent_id", "1"),
        ("outcome.result", reduce(lambda inner, _: [inner], range(100_000), [])),
        ("sequence", False),
        ("spec_version", "2.0"),
        ("execution.duration_ms", 1.0),
    ],
)
def test_what_the_protocol_does_not_allow_is_refused_not_mended(path: str, value: Any) -> None:
    with pytest.raises(NotCanonical):
        canonical(_set(capsule(), path, value))


@pytest.mark.parametrize(
    ("sequence", "previous"),
    [(1, "F" * 64), (1, "f" * 63), (1, ""), (1, None), (0, "f" * 64), (-1, None), (-1, "f" * 64)],
)
def test_a_place_in_a_chain_is_a_number_and_what_was_before(sequence: int, previous: str | None) -> None:
    with pytest.raises(NotCanonical):
        canonical(capsule() | {"sequence": sequence, "previous_hash": previous})
    canonical(capsule() | {"sequence": 1, "previous_hash": "f" * 64})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"id": "1"}, "id is not a lower-case UUID"),
        ({"parent_id": "1"}, "parent_id is not a lower-case UUID"),
        ({"type": "bot"}, "type is none of the protocol's"),
        ({"spec_version": "1.1"}, "spec_version is not 1.0"),
        ({"sequence": -1, "previous_hash": "0" * 64}, "sequence is negative"),
        ({"sequence": 1}, "previous_hash is null at sequence 0 and nowhere else"),
        ({"previous_hash": "0" * 64}, "previous_hash is null at sequence 0 and nowhere else"),
        ({"sequence": 1, "previous_hash": "F" * 64}, "previous_hash is not a SHA3-256 in lower-case hex"),
        ({"outcome.status": "done"}, "outcome.status is none of the protocol's"),
        ({"trigger.timestamp": "2026-01-01T00:00:00Z"}, "trigger.timestamp is not UTC written as +00:00"),
        ({"trigger.timestamp": "yesterday+00:00"}, "trigger.timestamp is not UTC written as +00:00"),
        ({"reasoning.confidence": 1.5}, "reasoning.confidence is not between 0.0 and 1.0"),
        ({"reasoning.confidence": -0.5}, "reasoning.confidence is not between 0.0 and 1.0"),
        ({"reasoning.options": ["x"]}, "reasoning.options[].feasibility has no decimal point"),
        ({"reasoning.options": [{}]}, "reasoning.options[].feasibility has no decimal point"),
        ({"domain": 1}, "domain is a int"),
        ({"trigger.user_id": 1}, "trigger.user_id is a int"),
        ({"trigger": []}, "trigger is missing or not an object"),
    ],
)
def test_a_refusal_names_the_field_and_the_rule(changes: dict[str, Any], says: str) -> None:
    document = _set(_set(capsule(), "sequence", 0), "previous_hash", None)
    check(document)
    for path, value in changes.items():
        document = _set(document, path, value)
    with pytest.raises(NotCanonical) as refused:
        check(document)
    assert str(refused.value) == says


def test_a_field_that_is_missing_is_named_with_its_section() -> None:
    document = _set(_set(capsule(), "sequence", 0), "previous_hash", None)
    for where, name, says in ((document, "domain", "domain"), (document["trigger"], "source", "trigger.source")):
        value = where.pop(name)
        with pytest.raises(NotCanonical) as refused:
            check(document)
        assert str(refused.value) == f"{says} is missing"
        where[name] = value
    with pytest.raises(NotCanonical):
        check([document])


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_the_ends_of_the_scale_are_on_it(confidence: float) -> None:
    check(_set(_set(_set(capsule(), "sequence", 0), "previous_hash", None), "reasoning.confidence", confidence))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        canonical(capsule()) + b" ",
        canonical(capsule()).replace(b'{"authority"', b'{"authority":1,"authority"'),
        canonical(capsule()).replace(b"billing", rb"\u0062illing"),
    ],
    ids=["empty", "array", "not-utf8", "deep", "space", "key-twice", "escape"],
)
def test_only_canonical_bytes_are_read(data: bytes) -> None:
    with pytest.raises(NotCanonical):
        parse(data)


@given(document=documents)
def test_whatever_a_caller_sends_makes_a_capsule_that_both_implementations_hash_alike(document: dict[str, Any]) -> None:
    data = canonical(document)
    assert parse(data) == document
    assert qp_capsule.validate_capsule_dict(document).ok
    # Through the reference's own model too: a field it would drop or rebuild breaks the hash.
    ours = sha3_256(data).hexdigest()
    assert ours == qp_capsule.compute_hash(qp_capsule.Capsule.from_dict(document).to_dict())


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50)
@given(
    kind=st.sampled_from(qp_capsule.CapsuleType),
    environment=st.dictionaries(st.text(), values, max_size=4),
    result=values,
    request=st.text(),
    options=st.lists(st.text(), max_size=3),
    confidence=st.floats(0, 1),
)
def test_capsules_of_the_reference_have_the_same_hash_here(
    kind: qp_capsule.CapsuleType,
    environment: dict[str, Any],
    result: Any,
    request: str,
    options: list[str],
    confidence: float,
) -> None:
    theirs = qp_capsule.Capsule.create(
        kind,
        trigger={"request": request},
        context={"environment": environment},
        reasoning={"options_considered": options, "confidence": confidence},
        outcome={"result": result, "status": "success"},
    )
    document = theirs.to_dict()
    assert sha3_256(canonical(document)).hexdigest() == qp_capsule.compute_hash(document)


def test_a_capsule_tells_the_whole_story() -> None:
    document = capsule(
        approvals=[SealedApproval(uuid4(), "alice", AT), SealedApproval(uuid4(), "bob", AT)],
        tool_calls=[ToolCallRecord("get_weather")],
    )
    assert document["trigger"]["source"] == "billing agent"
    assert document["trigger"]["user_id"] == "u-17"
    assert document["trigger"]["timestamp"] == "2026-01-02T03:04:05.678900+00:00"
    assert (document["context"]["agent_id"], document["context"]["session_id"]) == ("invoices", "s-1")
    environment = document["context"]["environment"]
    assert environment["caller"]["team"] == "finance"
    assert (environment["policies"], environment["policy_version"]) == (["night-shift"], "b" * 64)
    assert document["reasoning"]["model"] == "gpt-4o"
    assert document["reasoning"]["selected_option"] == "allow"
    assert document["authority"]["type"] == "human_approved"
    assert document["authority"]["approver"] == "alice, bob"
    assert [step["approver"] for step in document["authority"]["chain"]] == ["alice", "bob"]
    assert document["execution"]["tool_calls"][0]["tool"] == "get_weather"
    used = document["execution"]["resources_used"]
    assert (used["model"], used["tokens_in"], used["tokens_out"]) == ("gpt-4o-2024-08-06", 120, 44)
    # A string: JSON writers of other languages spell this number otherwise, and so hash it otherwise.
    assert used["cost_usd"] == "0.0000015"
    assert document["execution"]["duration_ms"] == 812
    assert document["outcome"]["status"] == "success"


@pytest.mark.parametrize(
    ("cost", "written"),
    [(None, None), (0.0, "0.0"), (1e-9, "0.000000001"), (12.5, "12.5"), (math.nan, None), (math.inf, None)],
)
def test_cost_is_written_as_a_decimal(cost: float | None, written: str | None) -> None:
    document = capsule(outcome=replace(ANSWERED, cost_usd=cost))
    assert document["execution"]["resources_used"]["cost_usd"] == written


@pytest.mark.parametrize(
    ("decision", "authority"),
    [
        (None, "autonomous"),
        (Decision(Verdict.ALLOW, (), "v"), "autonomous"),
        (Decision(Verdict.ALLOW, ("r",), "v"), "policy"),
        (Decision(Verdict.DENY, (), "v"), "policy"),
    ],
)
def test_who_decided_is_said(decision: Decision | None, authority: str) -> None:
    assert capsule(decision=decision)["authority"]["type"] == authority


def test_a_call_that_nobody_saw_end_has_a_capsule_from_its_intent_alone() -> None:
    document = capsule(
        request=json.loads(json.dumps(REQUEST)),
        decision=None,
        outcome=Outcome(Status.PARTIAL, error="gateway_died"),
        duration_ms=None,
    )
    canonical(document)
    assert document["outcome"]["status"] == "partial"
    assert document["outcome"]["error"] == "gateway_died"
    assert document["outcome"]["metrics"]["latency_ms"] is None


def test_times_are_written_in_utc() -> None:
    there = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert capsule(started_at=there)["trigger"]["timestamp"] == "2026-01-02T03:04:05.678900+00:00"


def test_mode_hash_takes_no_text() -> None:
    with pytest.raises(ValueError, match="no text"):
        Content(request="canary")
    with pytest.raises(ValueError, match="no text"):
        Content(answer="")
    with pytest.raises(ValueError, match="SHA3-256"):
        Content(prompt_hash="canary")


def test_mode_hash_quotes_nobody() -> None:
    document = capsule(
        outcome=Outcome(Status.FAILURE, 400, error="Invalid message: 'my canary is yellow'"),
        tool_calls=[ToolCallRecord("say the canary", '{"to":"canary"}'), ToolCallRecord("mail", '{"to":"canary"}')],
        content=Content(prompt_hash="c" * 64),
    )
    assert b"canary" not in canonical(document)
    assert document["reasoning"]["prompt_hash"] == "c" * 64
    assert capsule()["reasoning"]["prompt_hash"] is None


@pytest.mark.parametrize("mode", [ContentMode.REDACTED, ContentMode.FULL])
def test_other_modes_keep_the_text_they_are_given_and_say_so(mode: ContentMode) -> None:
    document = capsule(content=Content(mode, "who is <PERSON>?", "nobody"), tool_calls=[ToolCallRecord("mail", "{}")])
    assert document["context"]["environment"]["content"] == mode.value
    assert document["trigger"]["request"] == "who is <PERSON>?"
    assert document["outcome"]["result"] == "nobody"
    assert document["execution"]["tool_calls"][0]["arguments"] == {"json": "{}"}
