"""Notifications hold only the named facts, and stay plain text in every receiver."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from typing import Any
from uuid import UUID

import pytest
from gatehouse.notifications.messages import (
    Notice,
    mail,
    message,
    plain,
    slack_body,
    time_left,
    webhook_body,
)
from hypothesis import given
from hypothesis import strategies as st

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
APPROVAL = UUID("01a1fd22-650f-7b00-b7cf-31c3ea862780")
BASE = "https://gate.example"
LINK = f"{BASE}/governance/approvals/{APPROVAL}"
SUMMARY = {
    "key_alias": "billing",
    "team": "finance",
    "agent": "invoice-bot",
    "model": "gpt-4o",
    "estimated_usd": 7.5,
    "rules": ["expensive-needs-a-human"],
    "reason": "Costs more than $5.",
    "expires_at": (AT + timedelta(minutes=14)).isoformat(),
}


def event(**summary: Any) -> Notice:
    return Notice("evt_1", "approval_requested", APPROVAL, AT, {**SUMMARY, **summary})


def mailed(told: Notice) -> bytes:
    found = mail(told, message(told, BASE, AT), sender="gate@example.com", to="boss@example.com", now=AT)
    return found.as_bytes()


def test_a_person_reads_who_asks_what_it_costs_why_and_how_long_there_is() -> None:
    told = message(event(), BASE, AT)
    assert told.title == "Approval wanted: gpt-4o"
    assert dict(told.facts) == {
        "Key": "billing",
        "Team": "finance",
        "Agent": "invoice-bot",
        "Model": "gpt-4o",
        "Rule": "expensive-needs-a-human",
        "Reason": "Costs more than $5.",
        "Estimated cost": "$7.50",
        "Time left": "14 min",
    }
    assert told.link == LINK


def test_a_decision_says_what_was_decided_and_by_whom() -> None:
    decided = Notice(
        "evt_2", "approval_decided", APPROVAL, AT, {**SUMMARY, "decision": "rejected", "decided_by": "ann"}
    )
    told = message(decided, BASE, AT)
    assert told.title == "Approval rejected: gpt-4o"
    assert dict(told.facts)["Decided by"] == "ann"
    assert "Time left" not in dict(told.facts)


def test_what_is_not_named_is_neither_told_nor_kept() -> None:
    told = event(prompt="the secret plan", messages=[{"content": "the secret plan"}], key_hash="the secret plan")
    texts = [
        json.dumps(told.row()),
        json.dumps(webhook_body(told, BASE)),
        json.dumps(slack_body(message(told, BASE, AT))),
        mailed(told).decode(),
        repr(told),
    ]
    assert not any("secret plan" in text for text in texts)


def test_an_event_comes_back_from_the_outbox_as_it_was() -> None:
    assert Notice.of_row(json.loads(json.dumps(event().row()))) == event()


def test_a_webhooks_body_is_the_same_at_every_attempt_and_links_to_the_request() -> None:
    body = webhook_body(event(), BASE)
    assert body == webhook_body(Notice.of_row(event().row()), BASE)
    assert (body["type"], body["data"]["url"], body["data"]["rules"]) == (
        "approval_requested",
        LINK,
        ["expensive-needs-a-human"],
    )


@pytest.mark.parametrize("made_up", ["a.b", "", "a b", "a\n", "x" * 101, "é"])
def test_an_event_with_an_id_that_a_signature_could_confuse_is_refused(made_up: str) -> None:
    with pytest.raises(ValueError, match="event's id"):
        Notice(made_up, "approval_requested", APPROVAL, AT)


HOSTILE = [
    "<!channel> <!here> <@U123> <https://evil.example|Approve>",
    "@channel @here @everyone",
    "`@channel` *bold* _x_",
    "& &lt;!channel&gt; &amp;",
    "[Approve](https://evil.example)",
]


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("where", ["key_alias", "team", "agent", "model", "reason", "rules"])
def test_slack_gets_no_mention_and_no_link_of_a_callers(hostile: str, where: str) -> None:
    body = slack_body(message(event(**{where: [hostile] if where == "rules" else hostile}), BASE, AT))
    text = json.dumps(body, ensure_ascii=False)
    assert text.count("<") == text.count(">") == 1, "the one link is ours"
    assert f"<{LINK}|Open the request>" in text
    for mention in ("@channel", "@here", "@everyone", "@U123", "://evil"):
        assert mention not in text
    assert all(line.count("`") in (0, 2) for line in body["text"].splitlines())
    kinds = [field["type"] for block in body["blocks"] for field in block.get("fields", [])]
    assert set(kinds) == {"plain_text"}


def test_ampersands_are_escaped_once() -> None:
    assert "R&amp;D &amp;lt;" in slack_body(message(event(team="R&D &lt;"), BASE, AT))["text"]


def test_slack_would_take_the_longest_message() -> None:
    long = "&" * 5_000
    told = event(**dict.fromkeys(["key_alias", "team", "agent", "user", "model", "reason"], long), rules=[long] * 50)
    for block in slack_body(message(told, BASE, AT))["blocks"]:
        assert len(block.get("fields", [])) <= 10
        assert all(len(field["text"]) <= 2_000 for field in block.get("fields", []))
        assert block["type"] != "header" or len(block["text"]["text"]) <= 150


@pytest.mark.parametrize("ending", ["\r\n", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\0"])
def test_a_mail_gets_no_header_and_no_recipient_of_a_callers(ending: str) -> None:
    hostile = f"gpt{ending}Bcc: victim@example.com{ending}{ending}a body of mine"
    told = event(model=hostile, agent=hostile, reason=hostile)
    found = message_from_bytes(mailed(told), policy=policy.SMTP)
    names = "From To Subject Date Message-ID Auto-Submitted MIME-Version Content-Type Content-Transfer-Encoding"
    assert sorted(found.keys()) == sorted(names.split())
    assert found["To"] == "boss@example.com"
    assert found["Subject"].startswith("Approval wanted: gpt Bcc: victim@example.com" if ending != "\0" else "Approval")
    lines = found.get_content().splitlines()
    assert sum("Bcc" in line for line in lines) == 4, "each stays on its fact's line"
    assert not any(line.startswith(("Bcc", "a body")) for line in lines)


@given(st.text(max_size=400))
def test_any_text_makes_a_mail_of_one_recipient_and_json_that_can_be_sent(text: str) -> None:
    told = event(model=text, key_alias=text, reason=text, rules=[text], team=text)
    found = message_from_bytes(mailed(told), policy=policy.SMTP)
    assert found["To"] == "boss@example.com"
    assert found["Bcc"] is None
    assert len(found.keys()) == 9
    json.dumps(slack_body(message(told, BASE, AT)), ensure_ascii=False).encode()
    json.dumps(webhook_body(told, BASE), ensure_ascii=False).encode()


def test_invisible_characters_do_not_turn_a_name_into_another() -> None:
    assert plain("ad\u200bmin\u202egnp.exe\u2066") == "admingnp.exe"
    assert plain("\ud800x\ue000") == "x"


def test_a_mail_links_only_to_us() -> None:
    text = message_from_bytes(mailed(event(agent="see https://evil.example or www.evil.example")), policy=policy.SMTP)
    body = text.get_content()
    assert body.count("://") == 2
    assert ":// evil" in body
    assert "www.evil" not in body


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-1, "none: it has expired"), (0, "none: it has expired"), (59, "59 s"), (61, "1 min"), (7_200, "2 h 0 min")],
)
def test_time_left_reads_as_people_say_it(seconds: int, said: str) -> None:
    assert time_left(timedelta(seconds=seconds)) == said


@pytest.mark.parametrize("odd", [{"estimated_usd": "7"}, {"estimated_usd": True}, {"expires_at": "soon"}, {"rules": 3}])
def test_a_summary_that_is_odd_still_tells_the_rest(odd: dict[str, Any]) -> None:
    assert dict(message(event(**odd), BASE, AT).facts)["Key"] == "billing"
