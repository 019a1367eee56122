"""policy.yaml's `pii.scope` says which calls share placeholders, and approvals are bound accordingly."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from gatehouse.capsule.document import ContentMode
from gatehouse.core.call import Caller, GovernedCall
from gatehouse.core.clock import now
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.config import PiiConfig
from gatehouse.guards.pii.masking import Mask
from gatehouse.pipeline.in_force import PolicyInForce
from gatehouse.pipeline.retention import Retention
from gatehouse.policy.load import read_policy

from tests.support.binding import digest
from tests.support.masking import KEYS, mask_one

KEPT = Retention(ContentMode.REDACTED, KEYS)


def governance(folder: Path, scope: str) -> PolicyInForce:
    (folder / "policy.yaml").write_text(f"version: 1\npii: {{mode: mask{scope}}}\n")
    return PolicyInForce(read_policy(folder / "policy.yaml")[0])


def call(team: str | None = None, key: str = "k", alias: str | None = None) -> GovernedCall:
    caller = Caller(key_hash=key, team=alias or team, team_id=team)
    return GovernedCall(uuid4(), now(), "/v1/chat/completions", "acompletion", "m", False, caller)


@pytest.mark.parametrize(
    ("scope", "same"),
    [
        ("", ["another call", "a renamed team", "another key of the team"]),
        (", scope: team", ["another call", "a renamed team", "another key of the team"]),
        (", scope: key", ["another call", "a renamed team", "another team of the key"]),
        (", scope: call", []),
    ],
)
def test_calls_of_one_scope_share_placeholders_and_no_others_do(tmp_path: Path, scope: str, same: list[str]) -> None:
    in_force = governance(tmp_path, scope)
    others = {
        "another call": call("t"),
        "a renamed team": call("t", alias="renamed"),
        "another key of the team": call("t", "other"),
        "another team of the key": call("other"),
        "a team that is called like the key": call("k", "other"),
        "no team": call(None, "other"),
    }
    first = KEPT.placeholders(in_force, call("t")).of("EMAIL_ADDRESS", "ada@x.com")
    given = {name: KEPT.placeholders(in_force, each).of("EMAIL_ADDRESS", "ada@x.com") for name, each in others.items()}
    assert [name for name, each in given.items() if each == first] == same


@pytest.mark.parametrize("scope", ["team", "key", "call"])
def test_a_request_that_is_sent_again_is_what_was_approved_and_one_with_another_value_is_not(
    tmp_path: Path, scope: str
) -> None:
    in_force = governance(tmp_path, f", scope: {scope}")

    def bound(value: str) -> str:
        asked = call("t")
        mask = Mask(KEPT.placeholders(in_force, asked))
        text = mask_one(mask, f"pay {value}", [Finding("EMAIL_ADDRESS", 4, 4 + len(value), 1.0)], PiiConfig())
        body = KEPT.repeatable(asked, mask, {"model": "m", "messages": [{"role": "user", "content": text}]})
        assert value not in str(body)
        return digest(caller={"key_hash": "k"}, route="/v1/chat/completions", body=body, policy_version="v")

    assert bound("anna@x.com") == bound("anna@x.com")
    assert bound("anna@x.com") != bound("mallory@x.com")


def test_a_scope_that_does_not_exist_is_a_mistake_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"pii.scope|line 2"):
        governance(tmp_path, ", scope: everybody")
