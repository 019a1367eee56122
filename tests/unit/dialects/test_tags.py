"""A tag is known again on the very content that it was written for, and on no other."""

from __future__ import annotations

import base64
from itertools import pairwise

import pytest
from gatehouse.core.keys import InstallationKeys
from gatehouse.dialects.tags import THOUGHT, Digest, Tags, split
from hypothesis import given
from hypothesis import strategies as st

OLD, NEW = "an-old-secret-" + "0" * 32, "a-new-secret-" + "1" * 32
TAGS = Tags(InstallationKeys(NEW))
TEXT = st.text(st.characters(codec=None), max_size=60)
VALUE = st.one_of(
    st.binary(min_size=1, max_size=300).map(lambda raw: base64.b64encode(raw).decode()),
    st.text(st.characters(codec=None), min_size=1, max_size=60),
    st.tuples(st.text("abc_", max_size=9), st.text("ab_=", max_size=9)).map(THOUGHT.join),
)


def fits(tags: Tags, tagged: str, text: str = "") -> bool:
    tag, value = split(tagged)
    return tag != "" and tags.fits(tag, value, Digest(text).value)


@given(VALUE, TEXT)
def test_the_string_comes_back_as_it_was_and_its_tag_fits(value: str, text: str) -> None:
    tagged = TAGS.tagged(value, Digest(text).value)
    tag, left = split(tagged)
    assert left == value
    assert len(tagged) == len(value) + len(tag) == len(value) + 44
    assert fits(TAGS, tagged, text)


@given(VALUE, VALUE, TEXT, TEXT)
def test_a_tag_fits_no_other_content(value: str, other: str, text: str, another: str) -> None:
    tag, _ = split(TAGS.tagged(value, Digest(text).value))
    assert TAGS.fits(tag, other, Digest(text).value) is (other == value)
    assert TAGS.fits(tag, value, Digest(another).value) is (another == text)


@given(TEXT, st.lists(st.integers(0, 60)))
def test_a_text_has_one_digest_wherever_it_is_cut(text: str, cuts: list[int]) -> None:
    digest, units = Digest(), text.encode("utf-16-le", "surrogatepass")
    places = sorted({0, len(units), *(2 * at for at in cuts if 2 * at < len(units))})
    for start, end in pairwise(places):
        digest.add(units[start:end].decode("utf-16-le", "surrogatepass"))
    assert digest.value == Digest(text).value


def test_two_texts_have_two_digests() -> None:
    assert Digest("a").value != Digest("b").value != Digest().value


def test_a_tag_of_a_secret_that_is_still_configured_fits() -> None:
    tagged = Tags(InstallationKeys(OLD)).tagged("c2lnbmF0dXJl")
    assert fits(Tags(InstallationKeys(NEW, OLD)), tagged)
    assert not fits(TAGS, tagged)
    assert Tags(InstallationKeys(NEW, OLD)).tagged("x") == TAGS.tagged("x")  # the newest secret writes


def test_what_is_base64_stays_base64() -> None:
    value = base64.b64encode(b"what the provider signed").decode()
    assert base64.b64decode(TAGS.tagged(value), validate=True).endswith(b"what the provider signed")


def test_the_signature_in_an_identifier_is_what_is_tagged() -> None:
    tagged = TAGS.tagged(f"call_1{THOUGHT}c2ln")
    assert tagged.startswith(f"call_1{THOUGHT}GHt1")
    assert split(tagged)[1] == f"call_1{THOUGHT}c2ln"
    assert TAGS.tagged(f"a{THOUGHT}b{THOUGHT}c").startswith(f"a{THOUGHT}GHt1")  # as LiteLLM cuts it


@pytest.mark.parametrize(
    "value", ["", "c2lnbmF0dXJl", "GHt1", "GHt1" + "g" * 40, "xGHt1" + "0" * 40, "GHt1" + "A" * 40]
)
def test_without_a_tag_the_string_stays(value: str) -> None:
    assert split(value) == ("", value)


def test_one_tag_is_taken_off_and_not_more() -> None:
    once = TAGS.tagged("c2ln")  # such as by another gateway behind this one
    assert split(TAGS.tagged(once))[1] == once
