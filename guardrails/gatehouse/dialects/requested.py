"""Reads how long an answer a request asks for, and how many. Pure.

A value is used as it is, or the request is refused: a provider may read a value that Gatehouse cannot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gatehouse.core.errors import InvalidRequest

# For counts: far above any model, and small enough to calculate with.
MOST: Final = 10**12

# The dialects' fields for the length of an answer.
LENGTHS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample")
_CHOICES: Final = ("n", "best_of")


@dataclass(frozen=True, slots=True)
class Requested:
    """Hold the requested answers.

    Attributes:
        tokens: the longest answer, in tokens; None where the request sets no limit.
        choices: how many answers.
    """

    tokens: int | None
    choices: int


def requested(body: Mapping[str, Any]) -> Requested:
    """Return what a request asks for, in any dialect. Of two values the larger counts.

    A length of zero or less counts as none, because some providers take it to mean no limit.

    Raises:
        InvalidRequest: a length or a number of choices is not a whole number.
    """
    lengths: list[int] = []
    choices = 1
    for part in _bodies(body):
        lengths += [_whole(name, value) for name in LENGTHS if (value := part.get(name)) is not None]
        for name in _CHOICES:
            if (value := part.get(name)) is not None:
                if (count := _whole(name, value)) < 1:
                    raise _wrong(name)
                choices = max(choices, count)
    prompts = max((_prompts(part) for part in _bodies(body)), default=1)
    bound = max(lengths) if lengths and min(lengths) > 0 else None
    return Requested(bound, min(choices * prompts, MOST))


def _bodies(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the body, and the body that OpenAI's client puts over it."""
    yield body
    extra = body.get("extra_body")
    if isinstance(extra, Mapping):
        yield extra


def _prompts(body: Mapping[str, Any]) -> int:
    """Count the prompts: /v1/completions answers each prompt of a list."""
    prompt = body.get("prompt")
    return len(prompt) if isinstance(prompt, list) and len(prompt) > 1 else 1


def _whole(name: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():  # JSON does not tell 100.0 from 100; NaN and infinity fail
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(name)
    return min(max(value, -MOST), MOST)


def _wrong(name: str) -> InvalidRequest:
    return InvalidRequest(f"{name}: a whole number was expected. Correct it and ask again.")
