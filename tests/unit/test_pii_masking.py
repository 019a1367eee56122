"""Masking and unmasking are the identity, whatever the text and wherever a stream is cut."""

from __future__ import annotations

import base64
import json
import pickle
from itertools import pairwise

import pytest
from gatehouse.pii.config import Mode, PiiConfig
from gatehouse.pii.engine import Engine
from gatehouse.pii.findings import Finding
from gatehouse.pii.masking import Mask
from hypothesis import given, settings
from hypothesis import strategies as st

CONFIG = PiiConfig(entities={"A": Mode.MASK, "EMAIL_ADDRESS": Mode.MASK, "SEEN": Mode.OBSERVE})
# Pieces that come close to a placeholder are what breaks an unmasker, so texts are made of them.
PIECES = st.sampled_from(
    [
        "<",
        ">",
        "A",
        "_",
        "1",
        "2",
        "<A_1>",
        "<A_1_2>",
        "<A_2>",
        "<LITERAL_1>",
        "<EMAIL_ADDRESS_1>",
        "é",
        "x",
        '"',
        "\\",
        "\ud800",
    ]
)
TEXTS = st.lists(PIECES, max_size=20).map("".join)


def find(text: str, value: str, entity: str = "EMAIL_ADDRESS") -> list[Finding]:
    at = text.index(value)
    return [Finding(entity, at, at + len(value), 1.0)]


@st.composite
def marked(draw: st.DrawFn) -> tuple[str, list[Finding]]:
    text = draw(TEXTS)
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    return text, [Finding(draw(st.sampled_from(["A", "EMAIL_ADDRESS", "SEEN"])), a, b, 1.0) for a, b in spans]


def fed(mask: Mask, text: str, cuts: list[int], *, inside_json: bool = False) -> str:
    unmasker = mask.unmasker(inside_json=inside_json)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return "".join(unmasker.feed(text[a:b]) for a, b in pairwise(edges)) + unmasker.flush()


@given(st.lists(marked(), max_size=4), st.booleans(), st.lists(st.integers(0, 200), max_size=30))
def test_mask_then_unmask_is_the_identity_for_any_text_and_any_chunking(
    parts: list[tuple[str, list[Finding]]], told: bool, cuts: list[int]
) -> None:
    mask = Mask([text for text, _ in parts] if told else ())
    masked = [mask.mask(text, findings, CONFIG) for text, findings in parts]
    for (text, _), hidden in zip(parts, masked, strict=True):
        assert mask.unmask(hidden) == text
        assert fed(mask, hidden, cuts) == text
        assert fed(mask, hidden, list(range(len(hidden)))) == text


@given(st.text(min_size=1), st.lists(st.integers(0, 40), max_size=10))
def test_inside_json_any_value_stays_one_string(value: str, cuts: list[int]) -> None:
    mask = Mask()
    arguments = '{"to": "' + mask.mask(value, find(value, value), CONFIG) + '"}'
    assert json.loads(mask.unmask_json(arguments)) == {"to": value}
    assert json.loads(fed(mask, arguments, cuts, inside_json=True)) == {"to": value}


ENGINE = Engine(PiiConfig())
# What the engine finds, in several spellings, between what comes close to a placeholder or ends a JSON string.
REAL = st.sampled_from(
    [
        "jane@example.com",
        "JANE@Example.com",
        "ja\u200bne@example.com",
        "+44 20 7946 0958",
        "(201) 555-0123x4",
        "4111 1111 1111 1111",
        "DE89 3704 0044 0532 0130 00",
        '"jane doe"@example.com',
        "j\u00f6rg@m\u00fcller.de",
        "\U0001f600@example.com",
        base64.b64encode(b"write to jane@example.com").decode(),
        "<EMAIL_ADDRESS_1>",
        "<EMAIL_ADDRESS_1_2>",
        "<EMAIL",
        "_ADDRESS_1>",
        "<PHONE_NUMBER_2>",
        "<",
        '"',
        "\\",
        "\n",
        " ",
        ", ",
        "\ud83d",
    ]
)
REAL_TEXTS = st.lists(REAL, max_size=12).map("".join)


@settings(max_examples=200, deadline=None)
@given(st.lists(REAL_TEXTS, max_size=3), st.booleans(), st.lists(st.integers(0, 400), max_size=40))
def test_what_the_engine_finds_comes_back_as_written_wherever_the_stream_is_cut(
    texts: list[str], told: bool, cuts: list[int]
) -> None:
    config = PiiConfig()
    mask = Mask(texts if told else ())
    masked = [mask.mask(text, ENGINE.scan(text), config) for text in texts]
    for text, hidden in zip(texts, masked, strict=True):
        assert "jane@example.com" not in hidden
        assert mask.unmask(hidden) == text
        assert fed(mask, hidden, cuts) == text
        assert fed(mask, hidden, list(range(len(hidden)))) == text
        # A tool call's arguments: the model writes the placeholder inside a JSON string.
        for ensure_ascii in (True, False):
            arguments = json.dumps({"note": hidden, "to": [hidden]}, ensure_ascii=ensure_ascii)
            whole = {"note": text, "to": [text]}
            assert json.loads(mask.unmask_json(arguments)) == whole
            assert json.loads(fed(mask, arguments, cuts, inside_json=True)) == whole


def test_the_same_value_has_the_same_placeholder_in_every_part_numbered_by_first_appearance() -> None:
    mask = Mask()
    hidden = [
        mask.mask(text, find(text, text.split()[-1]), CONFIG) for text in ("to b@x.com", "cc a@x.com", "re b@x.com")
    ]
    assert hidden == ["to <EMAIL_ADDRESS_1>", "cc <EMAIL_ADDRESS_2>", "re <EMAIL_ADDRESS_1>"]


def test_another_spelling_keeps_the_number_and_comes_back_as_written() -> None:
    mask = Mask()
    spellings = ["a@x.com", "A@X.com", "a\u200b@x.com"]
    hidden = [mask.mask(each, find(each, each), CONFIG) for each in spellings]
    assert hidden == ["<EMAIL_ADDRESS_1>", "<EMAIL_ADDRESS_1_2>", "<EMAIL_ADDRESS_1_3>"]
    assert [mask.unmask(each) for each in hidden] == spellings


def test_what_a_text_already_holds_is_not_given_out() -> None:
    text = "keep <EMAIL_ADDRESS_1>, hide a@x.com"
    assert Mask().mask(text, find(text, "a@x.com"), CONFIG) == "keep <EMAIL_ADDRESS_1>, hide <EMAIL_ADDRESS_2>"


def test_a_later_text_that_holds_what_was_given_out_gets_no_value_in_its_place() -> None:
    mask = Mask()
    mask.mask("a@x.com", find("a@x.com", "a@x.com"), CONFIG)
    hidden = mask.mask("say <EMAIL_ADDRESS_1>", [], CONFIG)
    assert mask.unmask(hidden) == "say <EMAIL_ADDRESS_1>"


def test_only_the_mode_mask_hides() -> None:
    assert Mask().mask("seen", find("seen", "seen", "SEEN"), CONFIG) == "seen"


def test_only_the_exact_form_is_turned_back() -> None:
    mask = Mask()
    mask.mask("a@x.com", find("a@x.com", "a@x.com"), CONFIG)
    for other in ("<email_address_1>", "EMAIL_ADDRESS_1", "<EMAIL_ADDRESS_11>", "< EMAIL_ADDRESS_1>"):
        assert mask.unmask(other) == other == fed(mask, other, [3])


def test_a_stream_is_held_back_only_while_a_placeholder_is_possible() -> None:
    mask = Mask()
    mask.mask("a@x.com", find("a@x.com", "a@x.com"), CONFIG)
    unmasker = mask.unmasker()
    assert unmasker.feed("if a <") == "if a "
    assert unmasker.feed(" b: <EMAIL") == "< b: "
    assert unmasker.feed("_ADDRESS_1") == ""
    assert unmasker.feed("> <" + "A" * 200) == "a@x.com <" + "A" * 200
    assert unmasker.flush() == ""


def test_the_map_is_in_nothing_that_is_printed_or_stored() -> None:
    mask = Mask()
    mask.mask("a@x.com", find("a@x.com", "a@x.com"), CONFIG)
    assert "a@x" not in f"{mask!r} {mask} {mask.unmasker()!r}"
    with pytest.raises(TypeError):
        pickle.dumps(mask)
