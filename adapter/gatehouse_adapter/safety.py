"""Limits that an agent's author sets for each call: checked before it is sent, and sent to the gateway too."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from gatehouse_adapter.errors import ConfigurationError

__all__ = ["SafetyConfig"]

_CATEGORY = re.compile(r"[A-Za-z0-9_.:-]{1,60}")


@dataclass(frozen=True, slots=True)
class SafetyConfig:
    """Set the limits of one adapter; each is off when it is left out.

    Attributes:
        max_budget_per_request: US dollars that one call may cost by the gateway's estimate. A model without a price is
            then refused, unless policy.yaml allows it by name.
        max_tokens_per_request: tokens that one call may use, in and out together. A call without `max_tokens` is sent
            with what its messages leave of them.
        require_approval_over: US dollars; a call that may cost more, or has no price, needs a person's approval.
        rate_limit_per_minute: calls of this adapter that may begin at once; room comes back over a minute. A call over
            the limit waits for its turn, at most for `timeout`.
        blocked_content_types: categories of content that the gateway blocks in request and answer: `harmful`,
            `illegal`, and those of policy.yaml's screens. The gateway refuses a call that names an unknown one.
        blocked_part_types: kinds of parts that no message may have: `image_url`, `input_audio`, `file`, ...

    Raises:
        ConfigurationError: a value is invalid.
    """

    max_budget_per_request: float | None = None
    max_tokens_per_request: int | None = None
    require_approval_over: float | None = None
    rate_limit_per_minute: int | None = None
    blocked_content_types: Iterable[str] = ()
    blocked_part_types: Iterable[str] = ()

    def __post_init__(self) -> None:
        for name in ("max_budget_per_request", "require_approval_over"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value, int | float) and 0 <= value <= 1e9):
                raise ConfigurationError(f"SafetyConfig: {name} is {value!r}, not an amount of US dollars from 0 on.")
        for name in ("max_tokens_per_request", "rate_limit_per_minute"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value, int) and 1 <= value < 10**12):
                raise ConfigurationError(f"SafetyConfig: {name} is {value!r}, not a whole number from 1 on.")
        object.__setattr__(self, "blocked_content_types", _names(self.blocked_content_types, "content", "harmful"))
        object.__setattr__(self, "blocked_part_types", _names(self.blocked_part_types, "part", "image_url"))
        if odd := [each for each in self.blocked_content_types if not _CATEGORY.fullmatch(each)]:
            raise ConfigurationError(f"SafetyConfig: blocked_content_types: {odd[0]!r} is not the name of a category.")


def _names(names: Iterable[str], kind: str, example: str) -> frozenset[str]:
    found = () if isinstance(names, str) else tuple(names)
    if isinstance(names, str) or not all(isinstance(each, str) and each for each in found):
        raise ConfigurationError(
            f"SafetyConfig: blocked_{kind}_types is not a list of names. Use one such as ['{example}']."
        )
    return frozenset(found)


def _is_number(value: object, kind: type | object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)  # type: ignore[arg-type]
