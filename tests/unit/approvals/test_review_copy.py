"""A reviewer's copy opens to exactly what was bound, and does not open without its own key."""

from __future__ import annotations

import json
import random
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from gatehouse.approvals.audit_entries import AuditEntries
from gatehouse.approvals.binding import Bound, bind
from gatehouse.approvals.lifecycle import may_open
from gatehouse.approvals.model import Approval, ReviewCopy, State, Vote, Voter
from gatehouse.approvals.review_copy import open_request, open_values, seal
from gatehouse.core.errors import AccessDenied, Gone
from gatehouse.core.keys import InstallationKeys, Purpose

NOW = datetime(2026, 11, 29, tzinfo=UTC)
OLD, NEW = InstallationKeys("o" * 32), InstallationKeys("n" * 32, "o" * 32)
VALUES = {"<EMAIL_ADDRESS_1>": "anna@bank.example", "<PERSON_1>": "Zo\u00eb"}
BODY = {"model": "demo", "messages": [{"role": "user", "content": "to <EMAIL_ADDRESS_1>" + "x" * 100_000}]}


def bound(keys: InstallationKeys = OLD, **changes: Any) -> Bound:
    said: dict[str, Any] = {"caller": {"user": "ada"}, "route": "/r", "body": BODY, "policy_version": "v"}
    return bind(**(said | changes), values=VALUES, key=keys.key(Purpose.APPROVALS))


def test_what_is_opened_is_all_that_was_bound() -> None:
    kept = seal(OLD, bound(), VALUES)
    request = open_request(OLD, kept, bound().digest)
    assert (request["body"], request["caller"], request["route"], request["policy_version"]) == (
        BODY,
        {"user": "ada"},
        "/r",
        "v",
    )
    assert open_values(OLD, kept, bound().digest) == VALUES


def test_a_value_that_no_answer_can_hold_is_shown_as_well_as_it_can_be() -> None:
    assert open_values(OLD, seal(OLD, bound(), {"<X_1>": "a\ud800"}), bound().digest) == {"<X_1>": "a?"}


def test_nothing_of_it_can_be_read_where_it_is_kept_and_no_two_are_alike() -> None:
    kept, again = (seal(OLD, bound(), VALUES) for _ in range(2))
    for each in fields(ReviewCopy)[1:]:
        data = getattr(kept, each.name)
        assert data != getattr(again, each.name)
        assert not any(word in data for word in (b"anna", b"EMAIL", b"demo", b"xxxx"))
    assert "anna" not in repr(kept)
    assert OLD.key(Purpose.REVIEW).key not in kept.key


def test_a_copy_outlives_a_new_secret_as_long_as_the_old_one_is_configured() -> None:
    kept = seal(OLD, bound(), VALUES)
    assert open_values(NEW, kept, bound().digest) == VALUES
    with pytest.raises(Gone, match="no longer configured"):
        open_values(InstallationKeys("n" * 32), kept, bound().digest)


@pytest.mark.parametrize("part", ["key", "request", "values"])
def test_a_copy_that_was_changed_or_belongs_to_another_request_is_not_opened(part: str) -> None:
    kept, other = seal(OLD, bound(), VALUES), seal(OLD, bound(route="/other"), VALUES)
    whole: bytes = getattr(kept, part)
    place = random.Random(part).randrange(len(whole))
    changed = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    for bad in (changed, whole[:-1], b"", getattr(other, part), kept.values if part == "request" else kept.request):
        with pytest.raises(Gone, match="changed where it is kept"):
            (open_values if part == "values" else open_request)(OLD, replace(kept, **{part: bad}), bound().digest)


def test_a_request_that_is_not_what_the_digest_says_is_not_shown() -> None:
    forged = Bound(bound().canonical.replace(b"demo", b"dear"), bound().digest)
    with pytest.raises(Gone, match="not what was asked"):
        open_request(OLD, seal(OLD, forged, VALUES), bound().digest)


def approval(**changes: Any) -> Approval:
    default: dict[str, Any] = {
        "id": UUID(int=1),
        "digest": "d" * 64,
        "state": State.REQUESTED,
        "requested_by": {"key_hash": "k", "user": "ada"},
        "requester_user": "ada",
        "route": "/r",
        "model": "demo",
        "rule_ids": ("r",),
        "reason": None,
        "policy_version": "v",
        "approvers": {"users": ["grace", "alan"]},
        "requested_at": NOW,
        "expires_at": NOW + timedelta(hours=8),
    }
    return Approval(**(default | changes))


GRACE = Voter("grace", "internal_user")


@pytest.mark.parametrize(
    ("by", "whole", "values"),
    [
        (GRACE, True, True),
        (Voter("ada"), True, False),  # whoever asked knows what they sent
        (Voter(None, "internal_user", key_hash="k"), True, False),
        (Voter("eve"), False, False),
        (Voter("root", "proxy_admin"), False, False),  # the rule names others
        (Voter("vera", "proxy_admin_viewer"), False, False),
        (Voter("alan", "proxy_admin_viewer"), True, False),  # named, and reads only
        (Voter(None), False, False),
    ],
)
def test_all_of_a_request_is_for_those_who_may_decide_and_who_asked_and_values_for_voters(
    by: Voter, whole: bool, values: bool
) -> None:
    assert (may_open(approval(), by, NOW, values=False) is None) is whole
    assert (may_open(approval(), by, NOW, values=True) is None) is values


def test_who_has_voted_still_reads_and_sees_no_more_values() -> None:
    voted = approval(approvers={"users": ["grace", "alan"], "count": 2}, votes=(Vote("grace", None, True, None, NOW),))
    assert may_open(voted, GRACE, NOW, values=False) is None
    assert isinstance(may_open(voted, GRACE, NOW, values=True), AccessDenied)


@pytest.mark.parametrize("state", sorted(set(State) - {State.REQUESTED, State.APPROVED}))
def test_what_is_over_is_gone_also_before_anybody_wrote_it_down(state: State) -> None:
    for values in (False, True):
        assert isinstance(may_open(approval(state=state), GRACE, NOW, values=values), Gone)
        assert isinstance(may_open(approval(), GRACE, NOW + timedelta(hours=8), values=values), Gone)


def test_the_audit_log_says_who_opened_values_and_none_of_them() -> None:
    lines: list[dict[str, Any]] = []
    AuditEntries(lines.append).opened(approval(), GRACE)
    assert lines[0]["event_type"] == "approval_values_opened"
    assert lines[0]["data"] == {"approval_id": str(UUID(int=1)), "digest": "d" * 64, "opened_by": "grace"}
    assert "anna" not in json.dumps(lines)
