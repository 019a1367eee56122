"""What a call may cost, who pays, and what it did cost where the engine did not say. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from gatehouse.core.call import CostSource, Outcome, Payer
from gatehouse.ledger.bills import payer_rows
from gatehouse.ledger.rows import IntentRow
from gatehouse.pipeline.scope import CallScope, Delivered, LetThrough, Sending
from gatehouse.policy.limits import is_allowed_unpriced
from gatehouse.policy.model import LimitsPolicy


def reserve(intent: IntentRow, scope: CallScope, policy: LimitsPolicy | None) -> None:
    """Note with a call's intent who pays for it, and the most that one attempt to answer it may cost.

    A call without a price that policy.yaml allows by its model's name reserves nothing.
    """
    call, passed, decision = scope.call, scope.let_through, scope.considered.decision
    if call is None or passed is None:
        return
    tags = decision.obligation.tags if decision is not None else ()
    scope.payers = (*call.grants.payers, *(Payer("tag", tag) for tag in tags))
    intent["payers"] = payer_rows(scope.payers)
    if passed.attempt_usd is not None or not is_allowed_unpriced(call.model or "", policy):
        intent["reserve"] = passed.attempt_usd


def attempts_to_reserve(sending: Sending) -> int:
    """Return for how many more attempts budgets must have room before a call is sent again.

    An attempt that was sent and not answered may be billed, and the next one beside it.
    """
    return max(sum(each.unanswered for each in sending.attempts) + 1 - sending.reserved, 0)


def priced(outcome: Outcome, usd: float | None, passed: LetThrough | None) -> Outcome:
    """Return an answered call's outcome with its cost, where the engine has none or takes the call for free.

    Args:
        usd: what the answer costs by the prices of the deployment that answered; None where that is not known.
    """
    if outcome.cost_usd or outcome.cache_hit:
        return outcome
    if usd is not None:
        return replace(outcome, cost_usd=usd)
    estimated = passed.attempt_usd if passed is not None else None
    if estimated is None:
        return replace(outcome, cost_usd=None, cost_source=CostSource.NO_PRICE)
    return replace(outcome, cost_usd=estimated, cost_source=CostSource.ESTIMATED)


# As providers write what an answer used, at the end of it. A quotation mark of the model's own has a backslash.
_OUTPUT: Final = re.compile(rb'(?<!\\)"(?:completion_tokens|output_tokens)": ?(\d{1,9})\b')


def delivered_usd(delivered: Delivered, passed: LetThrough | None) -> float | None:
    """Return what a call costs by our own count of what was sent to the provider and of what came back.

    Returns:
        None where nothing came, or the model has no price.
    """
    if not delivered.size or passed is None or passed.attempt_usd is None or passed.input_usd is None:
        return None
    if passed.output_usd_per_token is None:
        return passed.attempt_usd
    said = _OUTPUT.findall(delivered.end)
    # Where the answer does not say it: providers send about a token with each event of a stream.
    tokens = int(said[-1]) if said else delivered.events or delivered.size
    return min(passed.input_usd + tokens * passed.output_usd_per_token, passed.attempt_usd)
