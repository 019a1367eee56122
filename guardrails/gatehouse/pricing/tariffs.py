"""Reads a model's prices from LiteLLM's price fields, and computes what a request may cost. Pure.

Where several prices may apply, the highest does. A missing price is never zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeGuard

Price = float | None


class Kind(Enum):
    """Name what a call is paid by."""

    TEXT = "text"  # tokens in and out
    INPUT = "input"  # tokens in only: embeddings, moderations
    RERANK = "rerank"  # tokens in, and searches
    IMAGE = "image"  # pictures made
    SPEECH = "speech"  # characters read aloud
    AUDIO = "audio"  # seconds heard
    TOOL = "tool"  # no model takes part
    UNKNOWN = "unknown"


# By LiteLLM's call types, without the `a` of the asynchronous ones.
_KINDS: Final = {
    **dict.fromkeys(("completion", "text_completion", "anthropic_messages", "responses"), Kind.TEXT),
    **dict.fromkeys(("embedding", "moderation"), Kind.INPUT),
    "rerank": Kind.RERANK,
    **dict.fromkeys(("image_generation", "image_edit"), Kind.IMAGE),
    "speech": Kind.SPEECH,
    "transcription": Kind.AUDIO,
    "call_mcp_tool": Kind.TOOL,
}


def kind_of(call_type: str) -> Kind:
    """Return what a call of LiteLLM's type `call_type` is paid by."""
    return _KINDS.get(call_type) or _KINDS.get(call_type.removeprefix("a")) or Kind.UNKNOWN


@dataclass(frozen=True, slots=True)
class Use:
    """Hold what a request may use.

    Attributes:
        input_tokens: all input tokens, with those of files.
        file_tokens: input tokens of images, sounds and documents.
        images: pictures sent.
        output_tokens: output tokens of all answers together.
        answers: how many answers are requested; for images, how many are made.
        characters: characters of the texts.
        searches: the most searches that a request for reranking is billed as.
        caches: the request asks the provider to cache a part of it, which may cost more than reading it.
        premium: the request asks for a service tier or a speed that may cost more.
        modal: the request asks for an answer that is not only text.
    """

    input_tokens: int
    file_tokens: int = 0
    images: int = 0
    output_tokens: int = 0
    answers: int = 1
    characters: int = 0
    searches: int = 1
    caches: bool = False
    premium: bool = False
    modal: bool = False


@dataclass(frozen=True, slots=True)
class Tariff:
    """Hold the prices of one model in US dollars; None where there is none.

    Attributes:
        source: `config`, `litellm` or `none`.
        input: prices per token by the number of input tokens from which they apply, in ascending order.
        output: as `input`.
        window: the most tokens that the model can read; None where unknown.
        max_output: the longest answer in tokens; None where unknown.
    """

    source: str = "none"
    input: tuple[tuple[int, float], ...] = ()
    output: tuple[tuple[int, float], ...] = ()
    premium_input: float = 0.0
    premium_output: float = 0.0
    cache_write: float = 0.0
    modal_input: float = 0.0
    modal_output: float = 0.0
    per_image_sent: float = 0.0
    per_request: float = 0.0
    per_image_made: Price = None
    per_character: Price = None
    per_second: Price = None
    window: int | None = None
    max_output: int | None = None

    def prices(self, use: Use) -> tuple[Price, Price]:
        """Return the price of an input token and of an output token."""
        inside, outside = _at(self.input, use.input_tokens), _at(self.output, use.input_tokens)
        if inside is not None and use.premium:
            inside = max(inside, self.premium_input)
        if inside is not None and use.caches:
            inside = max(inside, self.cache_write)
        if outside is not None and use.premium:
            outside = max(outside, self.premium_output)
        if outside is not None and use.modal:
            outside = max(outside, self.modal_output)
        return inside, outside

    def cost(self, kind: Kind, use: Use) -> Price:
        """Return what a request may cost; None where that is unknown."""
        inside, outside = self.prices(use)
        match kind:
            case Kind.TOOL:
                return 0.0
            case Kind.TEXT if inside is not None and outside is not None:
                return self._input_cost(inside, use) + outside * use.output_tokens
            case Kind.INPUT if inside is not None:
                return self._input_cost(inside, use)
            case Kind.RERANK if inside is not None:
                return inside * use.input_tokens + self.per_request * use.searches
            case Kind.IMAGE if self.per_image_made is not None:
                return self.per_image_made * use.answers + (inside or 0.0) * use.input_tokens + self.per_request
            case Kind.SPEECH if self.per_character is not None:
                return self.per_character * use.characters + self.per_request
            case Kind.AUDIO if self.per_second == 0.0:  # the duration is unknown before the transcription
                return self.per_request
            case _:
                return None

    def _input_cost(self, inside: float, use: Use) -> float:
        texts = inside * (use.input_tokens - use.file_tokens)
        files = max(inside, self.modal_input) * use.file_tokens + self.per_image_sent * use.images
        return texts + files + self.per_request


def tariff(listed: Mapping[str, Any] | None, configured: Mapping[str, Any], *, caches_unasked: bool = False) -> Tariff:
    """Return the tariff of one deployment.

    Args:
        listed: the model's entry in LiteLLM's price list; None where it has none.
        configured: the prices of config.yaml or /model/new, which win over the list.
        caches_unasked: the provider may cache what it reads, for a price, without a request to do so.
    """
    own = {name: value for name, value in configured.items() if value is not None}
    info = {**(listed or {}), **own}
    prices = {name: value for name, value in info.items() if "cost" in name and _is_price(value)}
    if not prices and not info.get("tiered_pricing"):
        source = "none"
    else:
        source = "config" if any("cost" in name for name in own) else "litellm"
    reasoning = prices.get("output_cost_per_reasoning_token", 0.0)
    cache_write = _most(prices, "cache_creation_input_token_cost")
    least = cache_write if caches_unasked else 0.0
    return Tariff(
        source=source,
        input=tuple((tokens, max(price, least)) for tokens, price in _steps(info, prices, "input")),
        output=tuple((tokens, max(price, reasoning)) for tokens, price in _steps(info, prices, "output")),
        premium_input=_most(prices, "input_cost_per_token"),
        premium_output=_most(prices, "output_cost_per_token"),
        cache_write=cache_write,
        modal_input=_most(prices, *(f"input_cost_per_{what}_token" for what in _MODES)),
        modal_output=_most(prices, *(f"output_cost_per_{what}_token" for what in _MODES)),
        per_image_sent=prices.get("input_cost_per_image", 0.0),
        per_request=prices.get("input_cost_per_request", 0.0) + prices.get("input_cost_per_query", 0.0),
        per_image_made=max((price for name, price in prices.items() if _PICTURE.fullmatch(name)), default=None),
        per_character=_dearest(prices, "input_cost_per_character"),
        per_second=_dearest(prices, "input_cost_per_second", "output_cost_per_second"),
        window=_count(info.get("max_input_tokens")) or _count(info.get("max_tokens")),
        max_output=_count(info.get("max_output_tokens"))
        or _count(info.get("max_tokens"))
        or _count(info.get("max_input_tokens")),
    )


_MODES: Final = ("audio", "image", "video")
_STEP = re.compile(r"_above_(\d{1,6})k_tokens", re.ASCII)
# Some lists give the price of a generated picture as an input price; some give one for each size, such as _4K.
_PICTURE = re.compile(r"(in|out)put_cost_per_image(_\d[.\d]*K?)?", re.ASCII)


def _steps(info: Mapping[str, Any], prices: Mapping[str, float], side: str) -> Iterator[tuple[int, float]]:
    """Yield prices per token and the input tokens from which they apply; of several tiers, the highest price."""
    name = f"{side}_cost_per_token"
    found = {0: prices[name]} if name in prices else {}
    for other, price in prices.items():
        if match := _STEP.fullmatch(other.removeprefix(name)):
            found[int(match[1]) * 1000] = price
    tiers = info.get("tiered_pricing")
    for tier in tiers if isinstance(tiers, list | tuple) else ():
        most = tier.get(name) if isinstance(tier, Mapping) else None
        if _is_price(most):
            found[0] = max(found.get(0, 0.0), most)
    if 0 in found:
        yield from sorted(found.items())


def _at(steps: tuple[tuple[int, float], ...], tokens: int) -> Price:
    return max((price for start, price in steps if start == 0 or tokens > start), default=None)


def _most(prices: Mapping[str, float], *beginnings: str) -> float:
    """Return the highest of the prices whose names begin so: for service tiers, for long requests."""
    return max((price for name, price in prices.items() if name.startswith(beginnings)), default=0.0)


def _dearest(prices: Mapping[str, float], *names: str) -> Price:
    return max((prices[name] for name in names if name in prices), default=None)


def _is_price(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
