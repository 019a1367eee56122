"""Turns arrays of tokens into the texts that they stand for, because only texts can be scanned.

OpenAI's embeddings take an array of tokens in the place of a text, and LangChain sends these unasked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeGuard

from gatehouse.core.errors import InvalidRequest

TextOf: TypeAlias = Callable[[str, Sequence[int]], str | None]
"""Return the text of tokens of a model's tokenizer; None where they are none of its tokens, or it is not known."""


def with_texts(body: Mapping[str, Any], model: str, text_of: TextOf) -> Mapping[str, Any]:
    """Return a request for embeddings with texts in the place of tokens; the same one where it has no tokens.

    Args:
        body: as JSON; its `input` may have any shape.

    Raises:
        InvalidRequest: nobody knows which texts the tokens stand for.
    """
    given = body.get("input")
    if _is_tokens(given):
        return {**body, "input": _text(model, given, text_of)}
    if isinstance(given, list) and any(map(_is_tokens, given)):
        return {**body, "input": [_text(model, each, text_of) if _is_tokens(each) else each for each in given]}
    return body


def _is_tokens(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and value != [] and all(type(each) is int for each in value)


def _text(model: str, tokens: Sequence[int], text_of: TextOf) -> str:
    text = text_of(model, tokens)
    if text is None:
        raise InvalidRequest(
            "input: these are no tokens of this model, or the gateway does not know its tokenizer. Send the text.",
            param="input",
        )
    return text
