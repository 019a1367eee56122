# ruff: noqa: RUF001  -- these characters are the test
"""Folding undoes what hides a word from a pattern, and says where the match stood."""

from __future__ import annotations

import pytest
from gatehouse.guards.unicode_fold import fold
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("trick", "plain"),
    [
        ("ｊｏｈｎ＠ｅｘａｍｐｌｅ．ｃｏｍ", "john@example.com"),
        ("jo\u200bhn\u2060@exam\ufeffple.com", "john@example.com"),
        ("jo\u00adhn@example\u3002com", "john@example.com"),
        ("\U0001d423\U0001d428\U0001d421\U0001d427@example.com", "john@example.com"),
        ("j\u0301o\u0308hn@example.com", "john@example.com"),
        ("４１１１\u00a0１１１１\u2007１１１１\u202f１１１１", "4111 1111 1111 1111"),
        ("078\u201305\u20111120", "078-05-1120"),
        ("\u0664\u0661\u0661\u0661", "4111"),
    ],
)
def test_tricks_are_folded_and_the_span_covers_all_of_the_original(trick: str, plain: str) -> None:
    folded = fold(f"<{trick}>")
    assert folded.text == f"<{plain}>"
    assert folded.span(1, len(folded.text) - 1) == (1, len(trick) + 1)


def test_letters_drawn_like_latin_ones_are_folded_only_when_asked() -> None:
    assert fold("р\u0430ypal").text == "р\u0430ypal"
    assert fold("р\u0430ypal", homoglyphs=True).text == "paypal"


@pytest.mark.parametrize(
    ("drawn", "plain"),
    [
        ("\u0456gn\u043er\u0435", "ignore"),  # Cyrillic
        ("\u0406GN\u041eR\u0415 \u0399", "IGNORE I"),  # Cyrillic and Greek capitals, of which Unicode makes l
        ("b\u03bf\u03bcb \u03c4\u03bf\u03ba\u03b5n", "boμb tokεn"),  # Greek; two of these look like no Latin letter
        ("b\u0585mb \u0578\u0578 \u057d\u0585", "bomb nn uo"),  # Armenian
        ("\u13b7\u13aa\u13a2\u13a0", "MATD"),  # Cherokee
        ("\U0001d6c2\u03ac", "aa"),  # a mathematical alpha and one with an accent
        ("p\u1d0fi\ua731on", "poison"),  # small capitals
    ],
)
def test_letters_of_many_scripts_are_drawn_like_latin_ones(drawn: str, plain: str) -> None:
    assert fold(drawn, homoglyphs=True).text == plain


@pytest.mark.parametrize("text", ["\u4e8c\u3007\u4e8c\u56db", "日本語の一口ノート", "한국어", "שלום", "ไทย", "हिन्दी"])
def test_scripts_without_such_letters_stay_as_they_are(text: str) -> None:
    assert fold(text, homoglyphs=True).text == text


def test_words_of_other_scripts_keep_their_vowels() -> None:
    for word in ("한국어", "हिन्दी", "ไทย", "日本語"):
        assert fold(word).text == word


@given(st.text())
def test_every_folded_character_comes_from_an_original_one_in_order(text: str) -> None:
    folded = fold(text)
    starts = [folded.span(index, index + 1) for index in range(len(folded.text))]
    assert starts == sorted(starts)
    assert all(0 <= start < end <= len(text) for start, end in starts)
