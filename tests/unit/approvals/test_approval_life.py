"""An approval's lifecycle says who may vote and what a vote does, and no ended approval opens again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from gatehouse.approvals.lifecycle import (
    Event,
    NoVote,
    made_by,
    may_cancel,
    may_see,
    may_vote,
    state_at,
    transition,
    why_not,
)
from gatehouse.approvals.model import SHOWN_CHARS, Approval, State, Vote, Voter, shown
from gatehouse.core.errors import (
    ApprovalExpired,
    ApprovalMismatch,
    ApprovalRejected,
    ApprovalRequired,
    Conflict,
    PolicyDenied,
)

from tests.support.approvals import NOW, asked

LATER = NOW + timedelta(minutes=10)
ADMIN = Voter("grace", "proxy_admin", frozenset(), "k-grace")


def approval(**changes: Any) -> Approval:
    return asked(**{"digest": "d", "expires_at": LATER, **changes})


def yes(user: str) -> Vote:
    return Vote(user, "proxy_admin", True, None, NOW)


def test_every_state_and_event_has_an_answer() -> None:
    table = {
        (State.REQUESTED, Event.APPROVE): State.APPROVED,
        (State.REQUESTED, Event.REJECT): State.REJECTED,
        (State.REQUESTED, Event.EDIT): State.REPLACED,
        (State.REQUESTED, Event.CANCEL): State.CANCELLED,
        (State.APPROVED, Event.CANCEL): State.CANCELLED,
        (State.APPROVED, Event.CONSUME): State.CONSUMED,
        (State.CONSUMED, Event.RETURN): State.APPROVED,
    }
    for state, event in product(State, Event):
        assert transition(approval(state=state), event, NOW) is table.get((state, event), state)


def test_after_its_time_an_open_approval_is_expired_whatever_happens() -> None:
    for state, event, late in product((State.REQUESTED, State.APPROVED), Event, (LATER, LATER + timedelta(days=1))):
        assert transition(approval(state=state), event, late) is State.EXPIRED
    for state in set(State) - {State.REQUESTED, State.APPROVED}:
        assert state_at(approval(state=state), LATER) is state
        assert transition(approval(state=state), Event.RETURN, LATER) is state


@pytest.mark.parametrize("count", [2, 3])
def test_so_many_different_people_must_say_yes(count: int) -> None:
    asked = approval(approvers={"count": count})
    for given in range(count - 1):
        asked = replace(asked, votes=tuple(yes(f"u{n}") for n in range(given)))
        assert transition(asked, Event.APPROVE, NOW) is State.REQUESTED
    asked = replace(asked, votes=tuple(yes(f"u{n}") for n in range(count - 1)))
    assert transition(asked, Event.APPROVE, NOW) is State.APPROVED


def test_one_no_is_enough() -> None:
    assert transition(approval(approvers={"count": 3}, votes=(yes("a"), yes("b"))), Event.REJECT, NOW) is State.REJECTED


@pytest.mark.parametrize("count", [0, -1, None, "2", True])
def test_a_count_that_makes_no_sense_is_one(count: Any) -> None:
    assert approval(approvers={"count": count}).needed == 1


@pytest.mark.parametrize(
    "voter",
    [
        Voter("ada", "proxy_admin", frozenset(), "k-other"),
        Voter("somebody", "proxy_admin", frozenset(), "k-ada"),
    ],
)
def test_nobody_votes_on_their_own_request(voter: Voter) -> None:
    assert may_vote(approval(), voter, NOW) is NoVote.OWN_REQUEST
    assert may_vote(approval(approvers={"users": [voter.user_id]}), voter, NOW) is NoVote.OWN_REQUEST


def test_a_caller_without_a_user_is_known_by_the_key() -> None:
    asked = approval(requested_by={"key_hash": "k-agent"}, requester_user=None)
    assert may_vote(asked, replace(ADMIN, key_hash="k-agent"), NOW) is NoVote.OWN_REQUEST
    assert may_vote(asked, ADMIN, NOW) is None


def test_who_made_a_key_of_nobodys_does_not_vote_on_what_it_asks_for() -> None:
    asked = approval(requested_by=made_by({"key_hash": "k-service"}, "grace"))
    assert may_vote(asked, ADMIN, NOW) is NoVote.OWN_KEY
    assert may_see(asked, Voter("grace", "internal_user"))
    assert may_vote(asked, Voter("edsger", "proxy_admin"), NOW) is None


@pytest.mark.parametrize(
    ("caller", "maker"),
    [
        ({"key_hash": "k", "user": "ada"}, "grace"),  # a key of a user's, whoever made it
        ({"key_hash": "k"}, None),  # nothing says who made it
        ({"key_hash": "k"}, ""),
        ({"key_hash": "k"}, "default_user_id"),  # the master key did, which is no person's
    ],
)
def test_a_key_of_a_users_or_of_no_known_maker_keeps_nobody_from_voting(
    caller: dict[str, str], maker: str | None
) -> None:
    asked = approval(requested_by=made_by(caller, maker))
    assert asked.requested_by == caller
    for voter in (ADMIN, Voter("default_user_id", "proxy_admin")):
        assert may_vote(asked, voter, NOW) is None


def test_a_name_that_was_cut_is_still_ones_own() -> None:
    long = "a" * 300
    assert (
        may_vote(approval(requested_by={"user": long[:256]}), replace(ADMIN, user_id=long), NOW) is NoVote.OWN_REQUEST
    )


@pytest.mark.parametrize("user", [None, ""])
def test_a_key_without_a_user_has_no_vote(user: str | None) -> None:
    assert may_vote(approval(), replace(ADMIN, user_id=user), NOW) is NoVote.NOBODY


def test_without_approvers_only_an_administrator_decides() -> None:
    for empty in ({}, {"roles": [], "users": [], "teams": [], "count": 1}, {"roles": None}):
        assert may_vote(approval(approvers=empty), ADMIN, NOW) is None
        for role in (None, "proxy_admin_viewer", "internal_user", ""):
            assert may_vote(approval(approvers=empty), replace(ADMIN, role=role), NOW) is NoVote.NOT_AN_APPROVER


def test_named_users_roles_and_teams_decide_and_nobody_else() -> None:
    asked = approval(approvers={"users": ["bob"], "roles": ["finance"], "teams": ["risk"]})
    for voter in (Voter("bob"), Voter("x", "finance"), Voter("x", None, frozenset({"risk"}))):
        assert may_vote(asked, voter, NOW) is None
        assert may_see(asked, voter)
    for voter in (ADMIN, Voter("x"), Voter("finance"), Voter("x", "risk"), Voter("x", "bob", frozenset({"finance"}))):
        assert may_vote(asked, voter, NOW) is NoVote.NOT_AN_APPROVER


def test_one_person_has_one_vote_that_stays() -> None:
    asked = approval(approvers={"count": 2}, votes=(yes("grace"),))
    assert may_vote(asked, ADMIN, NOW) is NoVote.VOTED
    assert isinstance(NoVote.VOTED.error, Conflict)


@pytest.mark.parametrize("state", sorted(set(State) - {State.REQUESTED}))
def test_what_is_decided_is_not_voted_on(state: State) -> None:
    why = NoVote.REPLACED if state is State.REPLACED else NoVote.NOT_OPEN
    assert may_vote(approval(state=state), ADMIN, NOW) is why
    assert isinstance(why.error, Conflict)
    assert may_vote(approval(), ADMIN, LATER) is NoVote.NOT_OPEN


def test_whoever_asked_and_administrators_may_cancel() -> None:
    assert may_cancel(approval(), Voter("ada"))
    assert may_cancel(approval(), Voter(None, key_hash="k-ada"))
    assert may_cancel(approval(), ADMIN)
    assert not may_cancel(approval(), Voter("bob", "internal_user"))
    assert not may_cancel(approval(), Voter("vera", "proxy_admin_viewer"))
    assert not may_cancel(approval(requester_user=None, requested_by={}), Voter(None))


@pytest.mark.parametrize(
    ("found", "digest", "key", "error"),
    [
        (None, "d", "k-ada", ApprovalMismatch),
        (approval(state=State.APPROVED), "d", "k-bob", ApprovalMismatch),
        (approval(state=State.APPROVED), "d", None, ApprovalMismatch),
        (approval(state=State.APPROVED), "e", "k-ada", ApprovalMismatch),
        (approval(state=State.REJECTED), "d", "k-ada", ApprovalRejected),
        (approval(state=State.CONSUMED), "d", "k-ada", ApprovalExpired),
        (approval(state=State.CANCELLED), "d", "k-ada", ApprovalExpired),
        (approval(state=State.EXPIRED), "d", "k-ada", ApprovalExpired),
        (approval(state=State.APPROVED, expires_at=NOW), "d", "k-ada", ApprovalExpired),
        (approval(), "d", "k-ada", ApprovalRequired),
    ],
)
def test_every_refusal_has_its_code(
    found: Approval | None, digest: str, key: str | None, error: type[Exception]
) -> None:
    assert type(why_not(found, digest, key, NOW)) is error


def test_somebody_elses_approval_is_as_unknown_as_one_that_never_was() -> None:
    foreign, unknown = why_not(approval(), "d", "k-bob", NOW), why_not(None, "d", "k-bob", NOW)
    assert foreign.body("c") == unknown.body("c")


def test_who_asked_under_another_secret_is_told_that_there_is_a_new_one() -> None:
    """Under another secret the keyed hash of values differs, and so does the digest."""
    refused = why_not(approval(digest="under the old secret"), "under the new one", "k-ada", NOW)
    assert isinstance(refused, ApprovalMismatch)
    assert "a new secret" in refused.message
    assert "ask again without its id" in refused.message


def test_a_refusal_says_which_approval_and_where_to_look() -> None:
    body = why_not(approval(), "d", "k-ada", NOW).body("c")["error"]
    assert body["code"] == "approval_required"
    assert body["gatehouse"] == {
        "call_id": "c",
        "policies": ["big"],
        "where": None,
        "approval": {
            "id": str(UUID(int=1)),
            "expires_at": "2026-01-02T03:14:05.000+00:00",
            "status_url": f"/governance/v1/approvals/{UUID(int=1)}",
        },
    }
    assert PolicyDenied("no").body("c")["error"]["gatehouse"]["approval"] is None


@pytest.mark.parametrize("state", sorted(State))
def test_every_refusal_names_its_rules_and_its_approval(state: State) -> None:
    asked = approval(state=state)
    refused = why_not(asked, "d", "k-ada", NOW)
    assert (refused.policies, refused.approval) == (("big",), asked.reference)
    assert "ask" in refused.message.lower() or state is State.REJECTED
    other = why_not(asked, "another", "k-ada", NOW)
    assert (other.policies, other.approval) == ((), asked.reference)


def test_only_who_rejected_is_quoted_and_the_rules_reason_is_told_to_who_waits() -> None:
    votes = (Vote("a", None, True, "Fine.", NOW), Vote("b", None, False, None, NOW))
    assert (
        why_not(approval(state=State.REJECTED, votes=votes), "d", "k-ada", NOW).message
        == "A reviewer rejected this request."
    )
    assert why_not(approval(reason="It is dear."), "d", "k-ada", NOW).message == "It is dear."
    assert "X-Gatehouse-Approval" in why_not(approval(), "d", "k-ada", NOW).message


def test_the_reviewers_words_reach_the_caller() -> None:
    said = approval(state=State.REJECTED, votes=(Vote("grace", None, False, "Too dear.", NOW),))
    assert "Too dear." in why_not(said, "d", "k-ada", NOW).message


def texts_of(value: Any) -> int:
    if isinstance(value, dict):
        return sum(len(name) + texts_of(inner) for name, inner in value.items())
    return sum(map(texts_of, value)) if isinstance(value, list) else len(value) if isinstance(value, str) else 0


@pytest.mark.parametrize(
    "summary",
    [
        {"prompt": "x" * 1_000_000},
        {"prompt": ["x" * 10_000] * 1_000},
        {"prompt": [[]] * 1_000_000},
        {"x" * 1_000_000: 1},
        {str(n): "x" for n in range(100_000)},
    ],
)
def test_what_a_reviewer_is_shown_stays_small(summary: dict[str, Any]) -> None:
    fitted = shown(summary)
    assert texts_of(fitted) < SHOWN_CHARS * 1.1
    assert "cut" in str(fitted)


def test_what_a_reviewer_is_shown_can_be_kept() -> None:
    odd = {"a": "x\0y\ud800", "b": [float("nan"), 1.5, None, True], "c": object}
    assert shown(odd) == {"a": "x\ufffdy?", "b": [None, 1.5, None, True], "c": str(object)}
