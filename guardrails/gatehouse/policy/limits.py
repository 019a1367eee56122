"""Limits what one request may use, to the strictest of the limits of policy.yaml, the key, its team and the caller.

Pure. A caller may lower a limit, never raise it; an unreadable limit refuses the request; no price does not mean free.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gatehouse.core.errors import InvalidRequest, LimitExceeded, Misconfigured
from gatehouse.core.text import shown_usd
from gatehouse.policy.model import LimitsPolicy

log = logging.getLogger("gatehouse.limits")

MAX_TOKENS_HEADER: Final = "X-Gatehouse-Max-Tokens"
MAX_COST_HEADER: Final = "X-Gatehouse-Max-Cost-Usd"
_TOKENS_LOWER, _COST_LOWER = MAX_TOKENS_HEADER.lower(), MAX_COST_HEADER.lower()

METADATA_SECTION: Final = "gatehouse"
_TOKENS_KEY: Final = "max_tokens_per_request"
_COST_KEY: Final = "max_cost_per_request_usd"

# Far above any model and any budget; a larger value is a mistake.
_MAX_TOKENS: Final = 10**12
_MAX_USD: Final = 1e9
_A_COUNT: Final = "a whole number from 1 to 999999999999"
_AN_AMOUNT: Final = "an amount of US dollars from 0 to 1000000000, such as 0.25"

_COUNT = re.compile(r"[0-9]{1,12}", re.ASCII)
# The format in which programs print floating-point numbers: 0.25, 1e-05.
_AMOUNT = re.compile(r"[0-9]{1,10}(\.[0-9]{1,20})?(e-[0-9]{1,2})?", re.ASCII | re.IGNORECASE)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@*+-]{0,119}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Hold the most that a request may use, estimated before it is sent; never below what its text needs.

    Attributes:
        model: the name that the caller gave.
        input_tokens: tokens of everything that the model will read.
        max_output_tokens: the most tokens of all requested answers together.
        estimated_usd: US dollars; None when the model has no price.
        input_usd_per_token: the highest price that may apply; None when there is none, or none per token.
        output_usd_per_token: as `input_usd_per_token`.
        price_source: `config` (config.yaml or the models added at run time), `litellm` (its price list), or `none`.
    """

    model: str
    input_tokens: int
    max_output_tokens: int
    estimated_usd: float | None
    input_usd_per_token: float | None
    output_usd_per_token: float | None
    price_source: str


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Hold the most that a request may use, and where each limit comes from; None where there is no limit."""

    max_tokens: int | None = None
    max_cost_usd: float | None = None
    tokens_from: str = ""
    cost_from: str = ""

    def lowered(self, tokens: int | None, cost: float | None, source: str) -> Ceiling:
        """Return this ceiling, or a lower one where `source` allows less."""
        lower = tokens is not None and (self.max_tokens is None or tokens < self.max_tokens)
        cheaper = cost is not None and (self.max_cost_usd is None or cost < self.max_cost_usd)
        return Ceiling(
            max_tokens=tokens if lower else self.max_tokens,
            max_cost_usd=cost if cheaper else self.max_cost_usd,
            tokens_from=source if lower else self.tokens_from,
            cost_from=source if cheaper else self.cost_from,
        )


def ceiling(
    policy: LimitsPolicy | None,
    key_metadata: Mapping[str, Any],
    team_metadata: Mapping[str, Any],
    headers: Mapping[str, str],
    *,
    key_name: str | None = None,
) -> Ceiling:
    """Return the strictest of all limits.

    Args:
        policy: policy.yaml's `limits`.
        key_metadata: the virtual key's metadata; its `gatehouse` section may set limits.
        team_metadata: the metadata of its team, likewise.
        headers: the request's headers; their case does not matter.
        key_name: names the key in the operator's log.

    Raises:
        InvalidRequest: a header cannot be read.
        Misconfigured: the key's or the team's metadata cannot be read; the log says what is wrong with it.
    """
    strictest = Ceiling()
    if policy is not None:
        strictest = strictest.lowered(policy.max_tokens_per_request, policy.max_cost_per_request_usd, "policy.yaml")
    for metadata, source in ((key_metadata, "the key"), (team_metadata, "the key's team")):
        if metadata:
            strictest = strictest.lowered(*_of_metadata(metadata, source, key_name), source)
    for name, value in headers.items():
        lower = name.lower()
        if lower == _TOKENS_LOWER:
            strictest = strictest.lowered(_tokens_of(value), None, f"the header {MAX_TOKENS_HEADER}")
        elif lower == _COST_LOWER:
            strictest = strictest.lowered(None, _usd_of(value), f"the header {MAX_COST_HEADER}")
    return strictest


def check(estimate: Estimate, ceiling: Ceiling, policy: LimitsPolicy | None) -> None:
    """Let the request through, or raise.

    Raises:
        LimitExceeded: it may use more than the ceiling, or its cost is limited and unknown.
    """
    tokens = estimate.input_tokens + estimate.max_output_tokens
    if ceiling.max_tokens is not None and tokens > ceiling.max_tokens:
        room = ceiling.max_tokens - estimate.input_tokens
        raise LimitExceeded(
            f"This request may use {tokens:,} tokens ({estimate.input_tokens:,} in, up to "
            f"{estimate.max_output_tokens:,} out), more than the {ceiling.max_tokens:,} that {ceiling.tokens_from} "
            "allows for one request. "
            + (
                f"Ask for an answer of at most {room:,} tokens, over all its choices."
                if room > 0 and estimate.max_output_tokens
                else "Send less text."
            )
        )
    if ceiling.max_cost_usd is None:
        return
    if estimate.estimated_usd is None:
        if not is_allowed_unpriced(estimate.model, policy):
            raise unpriced(
                estimate.model,
                f"{ceiling.cost_from} sets a limit of ${shown_usd(ceiling.max_cost_usd)} for one request",
            )
        return
    if not estimate.estimated_usd <= ceiling.max_cost_usd:  # written so that NaN is refused
        raise LimitExceeded(
            f"This request may cost ${shown_usd(estimate.estimated_usd)} ({estimate.input_tokens:,} tokens in, up to "
            f"{estimate.max_output_tokens:,} out), more than the ${shown_usd(ceiling.max_cost_usd)} that "
            f"{ceiling.cost_from} allows for one request. Ask for a shorter answer, send less, or use a cheaper model."
        )


def unpriced(model: str, because: str) -> LimitExceeded:
    """Return the refusal of a call whose price is not known.

    Args:
        because: why it would have to be.
    """
    return LimitExceeded(
        f"The price of {_named(model)}, or of a model that it falls back to, is not known, and {because}. Use a model "
        "that has a price, or ask an administrator to give this one a price in config.yaml or to name it under "
        "limits.allow_unpriced_models in policy.yaml."
    )


def is_allowed_unpriced(model: str, policy: LimitsPolicy | None) -> bool:
    """Tell whether policy.yaml names the model, exactly or by a prefix that ends with `*`."""
    if policy is None:
        return False
    return any(
        model.startswith(name[:-1]) if name.endswith("*") else model == name for name in policy.allow_unpriced_models
    )


def _tokens_of(value: str) -> int:
    if isinstance(value, str) and _COUNT.fullmatch(value) and int(value) > 0:
        return int(value)
    raise InvalidRequest(f"The header {MAX_TOKENS_HEADER} must be {_A_COUNT}. Correct it, or leave it out.")


def _usd_of(value: str) -> float:
    if isinstance(value, str) and _AMOUNT.fullmatch(value) and (amount := float(value)) <= _MAX_USD:
        return amount
    raise InvalidRequest(f"The header {MAX_COST_HEADER} must be {_AN_AMOUNT}. Correct it, or leave it out.")


def _of_metadata(metadata: Mapping[str, Any], source: str, key_name: str | None) -> tuple[int | None, float | None]:
    """Return the limits of a key or a team."""
    if not isinstance(metadata, Mapping):
        raise _unreadable("", "an object", source, key_name)
    section = metadata.get(METADATA_SECTION)
    if section is None:
        return None, None
    if not isinstance(section, Mapping):
        raise _unreadable(METADATA_SECTION, "an object", source, key_name)
    tokens, cost = section.get(_TOKENS_KEY), section.get(_COST_KEY)
    if tokens is not None and not (type(tokens) is int and 1 <= tokens < _MAX_TOKENS):
        raise _unreadable(f"{METADATA_SECTION}.{_TOKENS_KEY}", _A_COUNT, source, key_name)
    if cost is not None and not (type(cost) in (int, float) and 0 <= cost <= _MAX_USD):
        raise _unreadable(f"{METADATA_SECTION}.{_COST_KEY}", _AN_AMOUNT, source, key_name)
    # A misspelt limit must not look as if it were in force.
    if any(
        isinstance(name, str) and name.startswith("max") and name not in (_TOKENS_KEY, _COST_KEY) for name in section
    ):
        raise _unreadable(f"{METADATA_SECTION}.max*", f"{_TOKENS_KEY} or {_COST_KEY}", source, key_name)
    return tokens, None if cost is None else float(cost)


def _unreadable(where: str, expected: str, source: str, key_name: str | None) -> Misconfigured:
    log.error(
        "%s (key %r): %s of its metadata is not %s; its calls are refused until an administrator corrects it",
        source,
        key_name,
        where or "the whole",
        expected,
    )
    return Misconfigured(f"The limits of {source} cannot be read. Ask an administrator to correct them.")


def _named(model: str) -> str:
    """Return a model's name for a message. A name that is not plain may hold anything, so it is not repeated."""
    return f"model {model}" if _PLAIN_NAME.fullmatch(model) else "this model"
