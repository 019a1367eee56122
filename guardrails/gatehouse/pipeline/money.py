"""What a call may cost, who pays, and what it did cost where the engine did not say. Pure."""

from __future__ import annotations

from gatehouse.core.call import Payer
from gatehouse.ledger.bills import payer_rows
from gatehouse.ledger.rows import IntentRow
from gatehouse.pipeline.scope import CallScope
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
