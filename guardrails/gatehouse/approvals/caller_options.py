"""The options of approvals that a caller sets in the headers of a request. Pure.

A caller may only be stricter than policy.yaml: want a person where no rule does, and wait for a shorter time. What
cannot be read refuses the request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from gatehouse.core.decision import Decision, Verdict
from gatehouse.core.errors import InvalidRequest

APPROVAL_HEADER: Final = "x-gatehouse-approval"
OVER_HEADER: Final = "x-gatehouse-approval-over-usd"
HOLD_HEADER: Final = "x-gatehouse-hold"

ONLY_ASK: Final = "request"
"""In place of an approval's id: ask for approval, and send nothing whatever comes of it."""

BY_CALLER: Final = "caller/approval"
"""Stands among the ids of the rules that decided, where it was the caller who wanted a person."""

# As programs print floating-point numbers: 0.25, 1e-05.
_AMOUNT: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{1,20})?(e-[0-9]{1,2})?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CallerOptions:
    """What the caller wants.

    Attributes:
        only_ask: nothing is sent; the answer is the approval.
        over_usd: US dollars; a person must agree to what may cost more, or has no price. None: only policy.yaml says.
        hold_s: the longest that the connection is held, in seconds; None: as long as the rule says.
    """

    only_ask: bool = False
    over_usd: float | None = None
    hold_s: float | None = None

    def stricter(self, decision: Decision, estimated_usd: float | None) -> Decision:
        """Return the decision, or that a person must agree where the rules would let the call through."""
        over = self.over_usd is not None and (estimated_usd is None or not estimated_usd <= self.over_usd)
        if decision.verdict is not Verdict.ALLOW or not (self.only_ask or over):
            return decision
        return replace(
            decision,
            verdict=Verdict.REQUIRE_APPROVAL,
            policies=(*decision.policies, BY_CALLER),
            reason="The caller wants a person to agree to this request.",
        )


def caller_options(headers: Mapping[str, str]) -> CallerOptions:
    """Read these headers; names in any case.

    Raises:
        InvalidRequest: an amount or a time is none.
    """
    said = {name.lower(): value for name, value in headers.items()}
    return CallerOptions(
        said.get(APPROVAL_HEADER) == ONLY_ASK,
        _number(said.get(OVER_HEADER), "X-Gatehouse-Approval-Over-Usd", "an amount of US dollars, such as 0.25"),
        _number(said.get(HOLD_HEADER), "X-Gatehouse-Hold", "a number of seconds, such as 0 or 30"),
    )


def is_caller_option(name: str) -> bool:
    """Say whether a header of this name, in any case, is one of these options."""
    return name.lower() in (APPROVAL_HEADER, OVER_HEADER, HOLD_HEADER)


def _number(value: str | None, header: str, expected: str) -> float | None:
    if value is None:
        return None
    if not _AMOUNT.fullmatch(value):
        raise InvalidRequest(f"The header {header} must be {expected}. Correct it, or leave it out.")
    return float(value)
