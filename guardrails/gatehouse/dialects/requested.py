"""How much a request asks for: how long an answer, and how many. Pure.

What a field says is taken as it stands, or the request is refused: a provider may read what we cannot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gatehouse.core.errors import InvalidRequest

# Of counts: far above any model, and small enough to calculate with.
MOST: Final = 10**12

# Where the dialects say how long an answer may be.
LENGTHS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample")
_CHOICES: Final = ("n", "best_of")


@dataclass(frozen=True, slots=True)
class Requested:
    """What is asked for.

    Attributes:
        tokens: the longest answer, in tokens; None when the request sets no bound.
        choices: how many answers.
    """

    tokens: int | None
    choices: int


def requested(body: Mapping[str, Any]) -> Requested:
    """What a request asks for, whatever its dialect. Where it says so twice, the larger counts.

    A length of nought or less is none: some providers take it to mean that there is no bound.

    Raises:
        InvalidRequest: a length or a number of choices is no whole number.
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
    """The body, and what OpenAI's client lays over it."""
    yield body
    extra = body.get("extra_body")
    if isinstance(extra, Mapping):
        yield extra


def _prompts(body: Mapping[str, Any]) -> int:
    """/v1/completions answers each prompt of a list."""
    prompt = body.get("prompt")
    return len(prompt) if isinstance(prompt, list) and len(prompt) > 1 else 1


def _whole(name: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():  # JSON does not tell 100.0 from 100; NaN and infinity are not
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(name)
    return min(max(value, -MOST), MOST)


def _wrong(name: str) -> InvalidRequest:
    return InvalidRequest(f"{name}: a whole number was expected. Correct it and ask again.")
