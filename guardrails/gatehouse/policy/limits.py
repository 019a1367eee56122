"""How much one request may use: the strictest of what policy.yaml, the key, its team and the caller say.

Pure. A caller may lower what is allowed, never raise it; what cannot be read refuses the request; and a model without
a price is never taken to be free.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gatehouse.core.errors import GovernanceUnavailable, InvalidRequest, LimitExceeded
from gatehouse.policy.model import LimitsPolicy

log = logging.getLogger("gatehouse.limits")

MAX_TOKENS_HEADER: Final = "X-Gatehouse-Max-Tokens"
MAX_COST_HEADER: Final = "X-Gatehouse-Max-Cost-Usd"
_TOKENS_LOWER, _COST_LOWER = MAX_TOKENS_HEADER.lower(), MAX_COST_HEADER.lower()

METADATA_SECTION: Final = "gatehouse"
_TOKENS_KEY: Final = "max_tokens_per_request"
_COST_KEY: Final = "max_cost_per_request_usd"

# Far above any model and any budget; what is larger was not meant.
_MOST_TOKENS: Final = 10**12
_MOST_USD: Final = 1e9
_A_COUNT: Final = "a whole number from 1 to 999999999999"
_AN_AMOUNT: Final = "an amount of US dollars from 0 to 1000000000, such as 0.25"

_COUNT = re.compile(r"[0-9]{1,12}", re.ASCII)
# As programs print floating-point numbers: 0.25, 1e-05.
_AMOUNT = re.compile(r"[0-9]{1,10}(\.[0-9]{1,20})?(e-[0-9]{1,2})?", re.ASCII | re.IGNORECASE)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@*+-]{0,119}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a request may use, before it is sent; never below what its text says.

    Attributes:
        model: as the caller named it.
        input_tokens: of everything the model will read.
        max_output_tokens: the most it may answer, over all the choices that are asked for.
        estimated_usd: US dollars; None when the model has no price.
        input_usd_per_token: the dearest price that may apply; None when there is none, or none by token.
        output_usd_per_token: the same.
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
    """The most that a request may use, and who says so; None where nobody does."""

    max_tokens: int | None = None
    max_cost_usd: float | None = None
    tokens_from: str = ""
    cost_from: str = ""

    def lowered(self, tokens: int | None, cost: float | None, source: str) -> Ceiling:
        """This ceiling, or the lower one where `source` says less."""
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
    """The strictest of all that is said.

    Args:
        policy: policy.yaml's `limits`.
        key_metadata: the virtual key's; its `gatehouse` section may set limits.
        team_metadata: the same of its team.
        headers: the request's; their case does not matter.
        key_name: which key this is, for the operator's log.

    Raises:
        InvalidRequest: a header cannot be read.
        GovernanceUnavailable: the key's or the team's metadata cannot be read; the log says what is wrong with it.
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
        LimitExceeded: it may use more than the ceiling, or what it costs is not known and somebody wants to know.
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
            raise LimitExceeded(
                f"What {_named(estimate.model)} costs, or one that it falls back to, is not known, and "
                f"{ceiling.cost_from} sets a limit of ${_usd(ceiling.max_cost_usd)} for one request. Use a model that "
                "has a price, or ask an administrator to give this one a price in config.yaml or to name it under "
                "limits.allow_unpriced_models in policy.yaml."
            )
        return
    if not estimate.estimated_usd <= ceiling.max_cost_usd:  # so that NaN is refused
        raise LimitExceeded(
            f"This request may cost ${_usd(estimate.estimated_usd)} ({estimate.input_tokens:,} tokens in, up to "
            f"{estimate.max_output_tokens:,} out), more than the ${_usd(ceiling.max_cost_usd)} that "
            f"{ceiling.cost_from} allows for one request. Ask for a shorter answer, send less, or use a cheaper model."
        )


def is_allowed_unpriced(model: str, policy: LimitsPolicy | None) -> bool:
    """Whether policy.yaml names the model, exactly or by a beginning that ends with `*`."""
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
    if isinstance(value, str) and _AMOUNT.fullmatch(value) and (amount := float(value)) <= _MOST_USD:
        return amount
    raise InvalidRequest(f"The header {MAX_COST_HEADER} must be {_AN_AMOUNT}. Correct it, or leave it out.")


def _of_metadata(metadata: Mapping[str, Any], source: str, key_name: str | None) -> tuple[int | None, float | None]:
    """The limits of a key or a team."""
    if not isinstance(metadata, Mapping):
        raise _unreadable("", "an object", source, key_name)
    section = metadata.get(METADATA_SECTION)
    if section is None:
        return None, None
    if not isinstance(section, Mapping):
        raise _unreadable(METADATA_SECTION, "an object", source, key_name)
    tokens, cost = section.get(_TOKENS_KEY), section.get(_COST_KEY)
    if tokens is not None and not (_is_number(tokens, int) and 1 <= tokens < _MOST_TOKENS):
        raise _unreadable(f"{METADATA_SECTION}.{_TOKENS_KEY}", _A_COUNT, source, key_name)
    if cost is not None and not (_is_number(cost, int | float) and 0 <= cost <= _MOST_USD):
        raise _unreadable(f"{METADATA_SECTION}.{_COST_KEY}", _AN_AMOUNT, source, key_name)
    # A misspelt limit must not look as if it were in force.
    if any(
        isinstance(name, str) and name.startswith("max") and name not in (_TOKENS_KEY, _COST_KEY) for name in section
    ):
        raise _unreadable(f"{METADATA_SECTION}.max*", f"{_TOKENS_KEY} or {_COST_KEY}", source, key_name)
    return tokens, None if cost is None else float(cost)


def _is_number(value: object, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and (isinstance(value, int) or math.isfinite(value))


def _unreadable(where: str, expected: str, source: str, key_name: str | None) -> GovernanceUnavailable:
    log.error(
        "%s (key %r): %s of its metadata is not %s; its calls are refused until an administrator corrects it",
        source,
        key_name,
        where or "the whole",
        expected,
    )
    return GovernanceUnavailable(f"The limits that {source} has cannot be read. Ask an administrator to correct them.")


def _named(model: str) -> str:
    """A model's name in a message; one that is not plain may be anything, so it is not repeated."""
    return f"model {model}" if _PLAIN_NAME.fullmatch(model) else "this model"


def _usd(amount: float) -> str:
    """Dollars with as many places as tell small amounts apart."""
    return f"{amount:,.2f}" if amount >= 1 and round(amount, 2) == amount else f"{amount:.6g}"
