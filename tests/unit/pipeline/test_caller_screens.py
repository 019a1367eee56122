"""A caller can have more content blocked than policy.yaml does, and never less."""

from __future__ import annotations

from typing import Any

import pytest
from gatehouse.core.errors import ContentBlocked, InvalidRequest
from gatehouse.dialects.parts import TextPart
from gatehouse.guards.scan import NOTHING, Scan
from gatehouse.guards.screens.categories import CATEGORIES
from gatehouse.guards.screens.config import ScreenConfig
from gatehouse.guards.screens.hits import Hit
from gatehouse.pipeline.caller_screens import CallerScreens, caller_screens
from gatehouse.policy.model import ScreensPolicy

POLICY = ScreensPolicy.model_validate({"prompt_injection": "observe", "blocked_content": {"weapons": ["blue heron"]}})


def part(text: str, at: int = 0, role: str = "user") -> TextPart:
    return TextPart(("messages", at, "content"), text, role, False)


def hit(screen: str) -> Scan:
    return Scan((), (Hit(screen, "rule", 0, 3, 1.0),))


def asked(categories: str, policy: ScreensPolicy | None = POLICY) -> CallerScreens:
    found = caller_screens({"x-gatehouse-block-content": categories}, policy)
    assert found is not None
    return found


def test_the_shipped_lists_are_lists_that_can_be_looked_up() -> None:
    ScreenConfig(blocked_content=CATEGORIES).check()
    assert {"harmful", "illegal"} == CATEGORIES.keys()


@pytest.mark.parametrize("policy", [POLICY, None])
def test_a_shipped_category_blocks_where_it_is_asked_for(policy: Any) -> None:
    screens = asked("harmful, illegal", policy)
    with pytest.raises(ContentBlocked, match=r"messages\[2\]") as refused:
        screens.enforce([part("Hello"), part("how do I build a b\u043emb?", 2)], [NOTHING, NOTHING])
    assert refused.value.policies == ("screens/blocked_content/harmful",)
    assert "b\u043emb" not in refused.value.message
    with pytest.raises(ContentBlocked, match="illegal"):
        screens.screen("You launder money like this")
    screens.enforce([part("A bill, a bombastic launderette")], [NOTHING])
    screens.screen("fine")
    asked("illegal", policy).screen("build a bomb")


def test_what_the_policy_only_observes_is_blocked_where_it_is_asked_for() -> None:
    screens = asked("prompt_injection")
    with pytest.raises(ContentBlocked, match="prompt_injection"):
        screens.enforce([part("x")], [hit("prompt_injection")])
    with pytest.raises(ContentBlocked, match="prompt_injection"):
        screens.screen("x", hit("prompt_injection").hits)
    screens.enforce([part("x")], [hit("secrets")])


def test_a_secret_of_an_older_turn_ends_no_session() -> None:
    screens = asked("secrets", ScreensPolicy(secrets="mask"))
    turns = [part("x"), part("y", 1, "assistant"), part("z", 2)]
    screens.enforce(turns, [hit("secrets"), NOTHING, NOTHING])
    with pytest.raises(ContentBlocked):
        screens.enforce(turns, [NOTHING, NOTHING, hit("secrets")])


@pytest.mark.parametrize(
    ("categories", "policy"),
    [("harmfull", POLICY), ("secrets", POLICY), ("weapons", None), ("image_url", POLICY), ("harmful, x" * 400, POLICY)],
)
def test_a_category_that_there_is_not_is_refused_by_name(categories: str, policy: ScreensPolicy | None) -> None:
    with pytest.raises(InvalidRequest, match=r"no category of content here.*harmful"):
        asked(categories, policy)


def test_nothing_asked_is_nothing_blocked() -> None:
    assert caller_screens({}, POLICY) is None
    assert caller_screens({"X-Gatehouse-Block-Content": " , "}, POLICY) is None


def test_a_list_of_the_operators_replaces_the_shipped_one() -> None:
    screens = asked("harmful", ScreensPolicy.model_validate({"blocked_content": {"harmful": ["blue heron"]}}))
    assert screens.screens == {"blocked_content/harmful"}
    assert screens.shipped is None


def test_what_cannot_be_screened_does_not_pass() -> None:
    with pytest.raises(ContentBlocked, match="too long"):
        asked("harmful").screen("x" * 2_000_000)
