"""Blocked words and phrases are found in every disguise, and nothing that only looks like them is."""

from __future__ import annotations

from time import monotonic

import pytest
from gatehouse.core.errors import SetupError
from gatehouse.guards.screens.config import ScreenConfig
from gatehouse.guards.screens.engine import ScreenEngine
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.disguises import DISGUISES

BLOCKED = {"weapons": ("bomb", "nerve agent", "make a bomb"), "others": ("Bär", "炸弹", "бомба")}


@pytest.fixture(scope="module")
def engine() -> ScreenEngine:
    return ScreenEngine(ScreenConfig(BLOCKED))


def found(engine: ScreenEngine, text: str) -> list[tuple[str, str]]:
    return [(hit.screen, text[hit.start : hit.end]) for hit in engine.scan(text)]


@pytest.mark.parametrize(
    ("screen", "value"),
    [
        ("weapons", "bomb"),
        ("weapons", "BoMB"),
        ("weapons", "nerve agent"),
        ("weapons", "nerve,\n  -- agent"),
        ("weapons", "nerve_agent"),
        ("weapons", "nerve\u200bagent"),
        ("weapons", "b\u200bo\u00admb"),
        ("weapons", "\uff42\uff4f\uff4d\uff42"),
        ("weapons", "b\u043emb"),
        ("weapons", "b\u00f3mb"),
        ("weapons", "b.o.m.b"),
        ("weapons", "b0mb"),
        ("weapons", "&#98;&#111;&#109;&#98;"),
        ("weapons", "%62%6f%6d%62"),
        ("others", "B\u00c4R"),
        ("others", "炸弹"),
        ("others", "БОМБА"),
    ],
)
def test_a_blocked_word_is_found_where_it_stands(engine: ScreenEngine, screen: str, value: str) -> None:
    assert found(engine, f"Well, {value}! Yes?") == [(f"blocked_content/{screen}", value)]


def test_a_phrase_and_a_word_in_it_are_both_found(engine: ScreenEngine) -> None:
    assert [value for _, value in found(engine, "to make a bomb")] == ["make a bomb", "bomb"]
    assert [value for _, value in found(engine, "#makeabomb")] == ["makeabomb"]


@pytest.mark.parametrize(
    "text",
    [
        "bombastic",
        "entomb",
        "a reverse proxy, bmob",
        "Scunthorpe",
        "bar, Baer",
        "nerves agent",
        "agent nerve",
        "0b0mb1",
    ],
)
def test_a_word_that_only_contains_a_blocked_one_is_none(engine: ScreenEngine, text: str) -> None:
    assert engine.scan(text) == []


def test_a_hit_never_carries_the_word(engine: ScreenEngine) -> None:
    (hit,) = engine.scan("nerve agent")
    assert (hit.screen, hit.rule, hit.score) == ("blocked_content/weapons", "weapons", 1.0)
    assert "nerve" not in repr(ScreenConfig(BLOCKED))


@settings(max_examples=100)
@given(st.sampled_from(sorted(DISGUISES)), st.text("abcdefgh \n.,", max_size=60))
def test_a_phrase_is_found_in_every_disguise(name: str, before: str) -> None:
    engine = ScreenEngine(ScreenConfig({"weapons": ("nerve agent",)}))
    assert engine.scan(f"{before}\n" + DISGUISES[name]("the old nerve agent case"))


def test_ten_thousand_words_cost_what_one_does() -> None:
    text = "the quick brown fox jumps over the lazy dog " * 2_000
    words = tuple(f"word{number} of{number}" for number in range(10_000))
    few, many = (ScreenEngine(ScreenConfig({"x": words[:count]})) for count in (1, 10_000))

    def seconds(engine: ScreenEngine) -> float:
        begin = monotonic()
        engine.scan(text)
        return monotonic() - begin

    assert min(seconds(many) for _ in range(5)) < 5 * min(seconds(few) for _ in range(5)) + 0.05


@pytest.mark.parametrize("word", ["!!!", "a$$", "\u200b", "C#"])
def test_a_word_that_would_block_ordinary_letters_is_refused(word: str) -> None:
    with pytest.raises(SetupError, match=r"screens\.blocked_content\.x"):
        ScreenEngine(ScreenConfig({"x": (word,)}))
