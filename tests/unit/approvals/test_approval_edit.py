"""An approver's edit only lowers what was asked for, and the approval binds exactly the edit."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from gatehouse.approvals.binding import edited_digest
from gatehouse.approvals.lifecycle import (
    NoVote,
    edited,
    longest_answer,
    may_see,
    may_vote,
    replacement,
    summary_edited,
    why_not,
)
from gatehouse.approvals.model import Edit, State, Vote, Voter
from gatehouse.core.decision import Obligation
from gatehouse.core.errors import ApprovalMismatch, ApprovalRequired, InvalidRequest, PolicyDenied
from gatehouse.dialects.canonical import CallerNames, CanonicalRequest, canonical_request
from gatehouse.pipeline.obligations import apply_obligations, changed_by, edit

from tests.support.approvals import NOW, asked
from tests.support.binding import digest

ASKED = asked(summary={"max_tokens": 100, "max_output_tokens": 200, "estimated_usd": 1.0})


@pytest.mark.parametrize(
    "edit",
    [
        Edit(),
        Edit(model="large"),
        Edit(max_tokens=100),
        Edit(max_tokens=101),
        Edit(max_tokens=0),
        Edit(max_tokens=-1),
        Edit(model="small", max_tokens=101),
    ],
)
def test_an_edit_that_does_not_lower_what_was_asked_is_none(edit: Edit) -> None:
    with pytest.raises(InvalidRequest):
        edited(ASKED, edit)


def test_an_edit_is_another_model_or_fewer_tokens() -> None:
    assert edited(ASKED, Edit("small")) == Edit("small")
    assert edited(ASKED, Edit(max_tokens=99)) == Edit(None, 99)
    assert edited(ASKED, Edit("large", 99)) == Edit(None, 99)
    assert Edit("small", 1).row == {"model": "small", "max_tokens": 1}
    assert Edit(max_tokens=1).row == {"max_tokens": 1}


def test_what_was_edited_can_be_lowered_further_and_never_raised_again() -> None:
    once = replace(ASKED, model="small", edit=Edit("small", 50), summary=summary_edited(ASKED, Edit("small", 50)))
    assert once.summary == {"max_tokens": 50, "max_output_tokens": 100, "estimated_usd": 1.0}
    assert edited(once, Edit(max_tokens=20)) == Edit("small", 20)
    assert edited(once, Edit("smaller")) == Edit("smaller", 50)
    with pytest.raises(InvalidRequest):
        edited(once, Edit(max_tokens=60))


def test_an_edit_makes_a_new_approval_without_votes_that_its_caller_finds_by_what_they_asked() -> None:
    voted = replace(ASKED, state=State.APPROVED, votes=(Vote("eve", None, True, None, NOW),))
    once = replacement(voted, Edit(max_tokens=50), UUID(int=2))
    assert once == replace(
        ASKED,
        id=UUID(int=2),
        digest=edited_digest(ASKED.digest, Edit(max_tokens=50)),
        summary={"max_tokens": 50, "max_output_tokens": 100, "estimated_usd": 1.0},
        edited_from=ASKED.digest,
        edit=Edit(max_tokens=50),
    )
    assert replacement(once, Edit("small"), UUID(int=3)) == replace(
        once,
        id=UUID(int=3),
        digest=edited_digest(ASKED.digest, Edit("small", 50)),
        model="small",
        edit=Edit("small", 50),
    )


def test_an_answer_of_one_token_can_be_asked_for_and_not_shortened() -> None:
    one = replace(ASKED, summary={"max_tokens": 1, "max_output_tokens": 3})
    assert longest_answer(one) == 1
    assert edited(replace(ASKED, summary={"max_tokens": 2}), Edit(max_tokens=1)) == Edit(None, 1)
    with pytest.raises(InvalidRequest):
        edited(one, Edit(max_tokens=1))


def test_what_a_reviewer_sees_counts_every_choice_of_the_answer() -> None:
    for summary, output in (
        ({"max_tokens": 100, "max_output_tokens": 300}, 30),
        ({"max_tokens": 100, "max_output_tokens": 250}, 20),
        ({"max_tokens": 100, "max_output_tokens": 0}, 10),
        ({"max_tokens": 100, "max_output_tokens": 50}, 10),
        ({"max_tokens": 100}, 10),
    ):
        seen = summary_edited(replace(ASKED, summary=summary), Edit(max_tokens=10))
        assert seen == {"max_tokens": 10, "max_output_tokens": output}
    assert summary_edited(replace(ASKED, summary={"x": 1}), Edit(max_tokens=10)) == {"x": 1}
    assert summary_edited(ASKED, Edit("small")) == ASKED.summary


def test_without_a_length_that_is_known_nothing_can_be_shortened() -> None:
    for summary in ({}, {"max_output_tokens": 0}, {"max_tokens": None, "max_output_tokens": "9"}):
        assert longest_answer(replace(ASKED, summary=summary)) is None
        with pytest.raises(InvalidRequest):
            edited(replace(ASKED, summary=summary), Edit(max_tokens=1))
    assert longest_answer(replace(ASKED, summary={"max_tokens": None, "max_output_tokens": 7})) == 7


def test_an_edited_request_has_a_digest_of_its_own() -> None:
    asked = digest(caller={"key_hash": "k"}, route="/r", body={"model": "large"}, policy_version="v1")
    digests = {
        asked,
        edited_digest(asked, Edit("small")),
        edited_digest(asked, Edit("small", 5)),
        edited_digest(asked, Edit(max_tokens=5)),
        edited_digest(hashlib.sha256(b"another").hexdigest(), Edit("small")),
        digest(caller={"key_hash": "k"}, route="/r", body={"model": "small"}, policy_version="v1"),
    }
    assert len(digests) == 6
    assert edited_digest(asked, Edit("small", 5)) == edited_digest(asked, Edit("small", 5))


def test_its_caller_is_told_of_an_edited_request_by_what_they_asked() -> None:
    became = replace(ASKED, digest="e" * 64, edited_from=ASKED.digest, edit=Edit("small"))
    later = NOW + timedelta(seconds=1)
    assert isinstance(why_not(became, ASKED.digest, "k-ada", later), ApprovalRequired)
    assert isinstance(why_not(became, became.digest, "k-ada", later), ApprovalMismatch)
    assert isinstance(why_not(became, ASKED.digest, "k-other", later), ApprovalMismatch)


def read(body: dict[str, Any], call_type: str = "acompletion") -> CanonicalRequest:
    return canonical_request(call_type, body, CallerNames.of(body))


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("said", [100, 100.0, None])
def test_whatever_says_how_long_an_answer_may_be_is_lowered(name: str, said: Any) -> None:
    body: dict[str, Any] = {"model": "large", name: said}
    edited = edit(read(body), Edit("small", 10))
    assert (body["model"], body[name]) == (edited.model, edited.requested.tokens) == ("small", 10)


@pytest.mark.parametrize("said", [100, "100", 10.5, True, None])
def test_what_an_operator_lays_over_a_request_is_lowered_too(said: Any) -> None:
    body: dict[str, Any] = {"max_output_tokens": said, "extra_body": {"max_tokens": said}}
    apply_obligations(body, Obligation(max_tokens=10), "acompletion")
    assert body == {"max_output_tokens": 10, "extra_body": {"max_tokens": 10}}


def test_a_shorter_request_is_not_made_longer() -> None:
    body: dict[str, Any] = {"max_tokens": 5}
    edit(read(body), Edit(max_tokens=10))
    assert body == {"max_tokens": 5}


def test_a_route_on_which_no_length_can_be_said_is_refused() -> None:
    with pytest.raises(PolicyDenied):
        edit(read({"input": "x"}, "aembedding"), Edit(max_tokens=10))


def test_what_an_obligation_would_change_is_noticed_and_left() -> None:
    body: dict[str, Any] = {"model": "small", "max_tokens": 10, "extra_body": {"max_tokens": 20}}
    asked = read(body)
    assert not changed_by(asked, Obligation(max_tokens=20, downgrade_to="small"))
    for obligation in (Obligation(max_tokens=15), Obligation(downgrade_to="tiny")):
        assert changed_by(asked, obligation)
    assert body == {"model": "small", "max_tokens": 10, "extra_body": {"max_tokens": 20}}


def test_an_auditor_sees_everything_and_votes_on_nothing() -> None:
    auditor = Voter("vera", "proxy_admin_viewer", frozenset({"finance"}), "k-vera")
    assert may_see(ASKED, auditor)
    for approvers in ({"users": ["vera"]}, {"teams": ["finance"]}, {"roles": ["proxy_admin_viewer"]}):
        assert may_vote(replace(ASKED, approvers=approvers), auditor, NOW) is NoVote.READS_ONLY


def test_whom_a_request_does_not_concern_does_not_see_it() -> None:
    for nobody in (Voter(None), Voter(""), Voter("eve", "internal_user", frozenset({"t"}), "k-eve")):
        assert not may_see(replace(ASKED, requested_by={}, approvers={"users": [""], "teams": ["other"]}), nobody)
    assert may_see(replace(ASKED, votes=(Vote("eve", None, True, None, NOW),)), Voter("eve"))
    assert may_see(ASKED, Voter("ada"))
    assert may_see(ASKED, Voter("x", key_hash="k-ada"))
