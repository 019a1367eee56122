"""Estimates what a request may cost before it is sent: tokens by LiteLLM's tokenizers, prices by LiteLLM's router.

An estimate is the most that the request may use. Where that is unknown there is no price, and never a low one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, Protocol

import orjson

from gatehouse.core.call import Usage
from gatehouse.dialects.canonical import CanonicalRequest
from gatehouse.dialects.parts import FilePart, value_at
from gatehouse.dialects.requested import MOST
from gatehouse.policy.limits import Estimate
from gatehouse.pricing.deployment import Deployment
from gatehouse.pricing.structure import CL100K, structure_tokens
from gatehouse.pricing.tariffs import Kind, Tariff, Use, kind_of

UNKNOWN_OUTPUT: Final = 32_768
"""Output tokens of a request without a bound, on a model whose longest answer is unknown."""

UNKNOWN_WINDOW: Final = 131_072
"""Input tokens of content that cannot be read, on a model whose context window is unknown."""

IMAGE_TOKENS: Final = 5_000
"""The most tokens of one picture. LiteLLM's own bound is 1,445 for OpenAI's tiles and 1,533 for Claude's pixels, and
OpenAI's 1,536 patches make 3,779 with its smallest models. Some newer models look closer, so this leaves room."""

# OpenAI's `detail: original` makes up to 10,000 patches (its guide to images), and small models count more for a patch.
_ORIGINAL_IMAGE_TOKENS: Final = 20_000
# gpt-4o-mini counts 2,833 tokens where gpt-4o counts 85; LiteLLM bounds a picture at 17 such tiles of 2,834.
_MINI_IMAGE_TOKENS: Final = 48_178

# For sound and film of the lowest usual bitrate (6 kbit/s), at the most tokens a second that providers count (32).
_BYTES_PER_MEDIA_TOKEN: Final = 20

# The fields that the model reads; LiteLLM puts much else beside them.
_READ: Final = (
    "messages system instructions prompt input suffix documents functions function_call tool_choice response_format "
    "text_format text output_format output_config arguments mcp_arguments context_management extra_body "
    "litellm_system_prompt"
).split()
# Fields with which the provider adds what it has stored from earlier requests.
_STORED_ELSEWHERE: Final = ("previous_response_id", "conversation")
_TOKENS_PER_DOCUMENT: Final = 500
_DOCUMENTS_PER_SEARCH: Final = 100
# The identifier of a file that the provider stores is shorter than a file.
_MAX_ID_CHARS: Final = 512
# Sets of tools whose tokens are remembered; an agent has one set.
_STRUCTURES: Final = 500
_NO_PREMIUM: Final = (None, "default", "standard", "standard_only", "flex")


class KnowsDeployments(Protocol):
    """Tell which deployments may answer for a model."""

    def of(self, model: str) -> Sequence[Deployment]: ...


class CountsTokens(Protocol):
    """Count the tokens of texts."""

    def count(self, texts: Iterable[str], encoding: str) -> int: ...

    async def prepare(self, texts: Sequence[str], encoding: str) -> None: ...


class Prices:
    """Estimate requests.

    Args:
        deployments: the deployments of the proxy's router.
        counter: the proxy's tokenizers.
    """

    def __init__(self, deployments: KnowsDeployments, counter: CountsTokens) -> None:
        self._deployments = deployments
        self._counter = counter
        self._structures: dict[bytes, tuple[int, bool]] = {}

    def knows(self, model: str) -> bool:
        """Tell whether a deployment would answer a call to this model."""
        return bool(self._deployments.of(model))

    async def prepare(self, model: str, texts: Sequence[str]) -> None:
        """Count long new texts in a thread. Without it `estimate` counts bytes, which are more than tokens."""
        for encoding in {each.encoding for each in self._deployments.of(model)} or {CL100K}:
            await self._counter.prepare(texts, encoding)

    def estimate(self, request: CanonicalRequest, model: str | None = None) -> Estimate:
        """Return the most that a request may use.

        Args:
            model: the model that answers, as callers name it; by default the requested one.
        """
        kind, wanted, body = kind_of(request.call_type), request.requested, request.fields
        model = str(request.model or "") if model is None else model
        texts, files = [part.text for part in request.texts], request.files
        deployments = self._deployments.of(model) if kind is not Kind.TOOL else ()
        tariffs = [each.tariff for each in deployments] or [Tariff()]
        window = max(each.window or UNKNOWN_WINDOW for each in tariffs)
        structure, caches = self._structure(body)
        file_tokens = min(sum(_file(part, body, deployments, window) for part in files), MOST)
        unseen = window if kind is Kind.TEXT and _adds_stored(body) else 0
        tokens = self._counted(texts, deployments) + structure + file_tokens + unseen
        ranked = self._ranked(request, deployments) if kind is Kind.RERANK else ()
        tokens += sum(ranked)
        use = Use(
            input_tokens=tokens,
            file_tokens=file_tokens,
            images=sum(part.kind == "image" for part in files),
            output_tokens=_output(kind, wanted.tokens, wanted.choices, tariffs),
            answers=wanted.choices,
            characters=sum(map(len, texts)),
            searches=_searches(ranked),
            caches=caches,
            premium=body.get("service_tier") not in _NO_PREMIUM or body.get("speed") not in _NO_PREMIUM,
            modal=body.get("modalities") not in (None, ["text"]) or body.get("audio") is not None,
        )
        return _estimate(model, kind, use, tariffs)

    def cost(self, call_type: str, model: str, deployment: str | None, usage: Usage) -> float | None:
        """Return what an answer costs that used these tokens; None where its price is not known, or is not by token.

        Args:
            model: as callers name it.
            deployment: LiteLLM's id of the one that answered; the dearest counts where it is not known.
        """
        kind, found = kind_of(call_type), self._deployments.of(model)
        answered = [each for each in found if each.id == deployment] or found
        if kind not in (Kind.TEXT, Kind.INPUT) or not answered:
            return None
        use = Use(input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens)
        costs = [each.tariff.cost(kind, use) for each in answered]
        known = [cost for cost in costs if cost is not None]
        return max(known) if len(known) == len(costs) else None

    def _counted(self, texts: Sequence[str], deployments: Iterable[Deployment]) -> int:
        ways = {(each.encoding, each.factor) for each in deployments} or {(CL100K, 1.0)}
        return max(math.ceil(self._counter.count(texts, encoding) * factor) for encoding, factor in ways)

    def _ranked(self, request: CanonicalRequest, deployments: Sequence[Deployment]) -> list[int]:
        """Return the tokens of each document to be ranked, with those of the query, beside which it is read."""
        documents: dict[Any, list[str]] = {}
        query = 0
        for part in request.texts:
            match part.path:
                case ("query", *_):
                    query += self._counted([part.text], deployments)
                case ("documents", index, *_):
                    documents.setdefault(index, []).append(part.text)
        return [query + self._counted(texts, deployments) for texts in documents.values()]

    def _structure(self, body: Mapping[str, Any]) -> tuple[int, bool]:
        """Count the tokens around the texts. Those of tools, which repeat in each turn, are cached."""
        tokens, caches = structure_tokens([body[name] for name in _READ if name in body])
        tools = body.get("tools")
        if not tools:
            return tokens, caches
        key = _digestible(tools)
        found = self._structures.get(key) if key is not None else None
        if found is None:
            found = structure_tokens([tools])
            if key is not None:
                if len(self._structures) >= _STRUCTURES:
                    self._structures.clear()
                self._structures[key] = found
        return tokens + found[0], caches or found[1]


def _digestible(tools: Any) -> bytes | None:
    """Return a digest of the tools' JSON, the same for the same tools; None for what is not plain JSON."""
    try:
        written = orjson.dumps(tools)
    except (TypeError, ValueError, RecursionError):
        return None
    return blake2b(written, digest_size=16).digest()


def _searches(ranked: Iterable[int]) -> int:
    """Return how many searches a request for reranking is billed as, from the tokens of each document and the query.

    Source: Cohere's pricing. A search has up to 100 documents, and a longer one than 500 tokens counts as several.
    """
    return math.ceil(sum(math.ceil(each / _TOKENS_PER_DOCUMENT) for each in ranked) / _DOCUMENTS_PER_SEARCH) or 1


def _adds_stored(body: Mapping[str, Any]) -> bool:
    """Tell whether the provider adds something that it stores: earlier turns, or a prompt of its own."""
    below = body.get("extra_body")
    places = (body, below) if isinstance(below, Mapping) else (body,)
    return any(place.get(name) for name in _STORED_ELSEWHERE for place in places) or isinstance(
        body.get("prompt"), Mapping
    )


def _output(kind: Kind, bound: int | None, choices: int, tariffs: Iterable[Tariff]) -> int:
    """Return the most output tokens: the requested bound, else the longest answer of any model that may answer."""
    if kind not in (Kind.TEXT, Kind.UNKNOWN):
        return 0
    longest = bound if bound is not None else max(each.max_output or UNKNOWN_OUTPUT for each in tariffs)
    return min(longest * choices, MOST)


def _file(part: FilePart, body: Mapping[str, Any], deployments: Iterable[Deployment], window: int) -> int:
    """Return the most tokens of a file: a document's bytes, or the whole window for a file that cannot be read."""
    if part.kind == "image":
        if any("4o-mini" in each.name for each in deployments):
            return _MINI_IMAGE_TOKENS
        around = value_at(body, part.path[:-1])
        original = isinstance(around, Mapping) and around.get("detail") == "original"
        return _ORIGINAL_IMAGE_TOKENS if original else IMAGE_TOKENS
    size = _size(value_at(body, part.path))
    if size is None:
        return window
    return min(size // _BYTES_PER_MEDIA_TOKEN + 1 if part.kind in ("audio", "video") else size, window)


def _size(value: Any) -> int | None:
    """Return the bytes of a file that came with the request; None for an address or an identifier."""
    if isinstance(value, Mapping):  # a part with its content under one of these names
        value = next((value[name] for name in ("data", "file_data", "url", "input_audio") if name in value), None)
        return _size(value) if not isinstance(value, Mapping) else _size(value.get("data"))
    if isinstance(value, tuple) and len(value) > 1:  # name, content, type
        value = value[1]
    if isinstance(value, bytes | bytearray):
        return len(value)
    if isinstance(value, str):
        if not value.startswith("data:") and ("://" in value[:32] or len(value) < _MAX_ID_CHARS):
            return None
        return len(value)
    size = getattr(value, "size", None)
    return size if isinstance(size, int) and size > 0 else None


def _estimate(model: str, kind: Kind, use: Use, tariffs: Sequence[Tariff]) -> Estimate:
    """Estimate by the most expensive tariff; without a price when a tariff has none."""
    costs = [each.cost(kind, use) for each in tariffs]
    known = [cost for cost in costs if cost is not None and math.isfinite(cost)]
    if len(known) < len(costs):
        return Estimate(model, use.input_tokens, use.output_tokens, None, None, None, "none")
    usd = max(known)
    dearest = tariffs[costs.index(usd)]
    inside, outside = dearest.prices(use)
    return Estimate(model, use.input_tokens, use.output_tokens, usd, inside, outside, dearest.source)
