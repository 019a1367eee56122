"""Tokens become the texts that they stand for, or the request is refused; nothing else of it changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from gatehouse.core.errors import InvalidRequest
from gatehouse.dialects.token_arrays import with_texts
from gatehouse.pricing.deployment import Deployment
from gatehouse.pricing.structure import CL100K, O200K
from gatehouse.pricing.tariffs import Tariff
from gatehouse.proxy.tokenizer import Detokenizer, TokenCounter
from hypothesis import given
from hypothesis import strategies as st
from litellm.litellm_core_utils.token_counter import get_encoding

COUNTER = TokenCounter()


def spelled(model: str, tokens: Sequence[int]) -> str | None:
    return None if 0 in tokens else f"{model}:{'-'.join(map(str, tokens))}"


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ([1, 2], "m:1-2"),
        ([[1, 2], [3]], ["m:1-2", "m:3"]),
        (["a text", [3]], ["a text", "m:3"]),
    ],
)
def test_tokens_become_their_texts(said: Any, read: Any) -> None:
    body = {"model": "m", "input": said, "dimensions": 2}
    assert with_texts(body, "m", spelled) == body | {"input": read}
    assert body["input"] == said


@pytest.mark.parametrize("said", ["a text", ["a", "b"], [], [[]], None, {"a": [1]}, [1.5], [True], [[1, "a"]], 7])
def test_all_else_stays_as_it_is(said: Any) -> None:
    body = {"input": said}
    assert with_texts(body, "m", spelled) is body
    assert with_texts({}, "m", spelled) == {}


@pytest.mark.parametrize("said", [[1, 0], [[1], [0]]])
def test_tokens_that_nobody_knows_are_refused_by_name(said: Any) -> None:
    with pytest.raises(InvalidRequest, match="Send the text") as refused:
        with_texts({"input": said}, "m", spelled)
    assert refused.value.param == "input"


class Models:
    """The deployments of some names."""

    def of(self, model: str) -> list[Deployment]:
        def one(encoding: str, factor: float) -> Deployment:
            return Deployment(model, Tariff(), encoding, factor)

        known = {
            "one": [one(CL100K, 1.0)],
            "twins": [one(CL100K, 1.0), one(CL100K, 1.0)],
            "newer": [one(O200K, 1.0)],
            "two": [one(CL100K, 1.0), one(O200K, 1.0)],
            "half": [one(CL100K, 1.0), one(CL100K, 1.2)],
            "other": [one(CL100K, 1.2)],
        }
        return known.get(model, [])


@given(st.text())
def test_the_text_of_a_texts_tokens_is_the_text(text: str) -> None:
    for model, encoding in (("one", CL100K), ("twins", CL100K), ("newer", O200K)):
        tokens = get_encoding(encoding).encode_ordinary(text)
        assert Detokenizer(Models(), COUNTER)(model, tokens) == text


@pytest.mark.parametrize("model", ["two", "half", "other", "nobody's"])
def test_a_tokenizer_that_is_not_known_turns_nothing_into_text(model: str) -> None:
    assert Detokenizer(Models(), COUNTER)(model, [1]) is None


@pytest.mark.parametrize("token", [-1, 10**6, 2**32, 2**64])
def test_a_number_that_is_no_token_is_none(token: int) -> None:
    assert Detokenizer(Models(), COUNTER)("one", [token]) is None
