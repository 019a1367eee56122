"""How calls end: from what is known of it to the one settlement that is written down."""

from __future__ import annotations

from dataclasses import asdict, replace

from gatehouse.approvals.model import Approval as UsedApproval
from gatehouse.capsule.document import ContentMode, SealedApproval
from gatehouse.core import metrics
from gatehouse.core.call import CostSource, Outcome, Status, ToolCallRecord
from gatehouse.core.clock import monotonic, now
from gatehouse.core.reasons import Reason
from gatehouse.ledger.audit_line import caller_facts
from gatehouse.ledger.bills import payer_rows
from gatehouse.ledger.delivery_notes import Delivery
from gatehouse.ledger.recorder import Recorder
from gatehouse.ledger.rows import RequestRow
from gatehouse.ledger.settlement import settlement
from gatehouse.pipeline.money import delivered_usd
from gatehouse.pipeline.retention import Retention
from gatehouse.pipeline.scope import CallScope
from gatehouse.policy.facts import Facts


class CallSettlement:
    """Settles calls.

    Args:
        recorder: writes them down.
        retention: what is written down of answers.
        by_team: whether each team has a chain of its own.
    """

    def __init__(self, recorder: Recorder, retention: Retention, *, by_team: bool) -> None:
        self._recorder = recorder
        self._retention = retention
        self._by_team = by_team

    async def ended(self, scope: CallScope, outcome: Outcome) -> None:
        """Note how the model's part ended; the call is settled once its connection is over too."""
        if self._retention.mode is ContentMode.REDACTED and scope.governance is not None:
            # Placeholders are still in it; what the model brought of its own is masked here.
            redacted, call = self._retention.redacted, scope.call
            answer = None if call is None else await redacted(scope.governance, call, outcome.answer)
            tool_calls = tuple(ToolCallRecord(each.tool) for each in outcome.tool_calls)
            outcome = replace(outcome, answer=answer, tool_calls=tool_calls)
        if scope.ending.outcome is None:
            scope.ending.outcome = outcome
        if scope.ending.closed:
            self.conclude(scope)

    def conclude(self, scope: CallScope) -> None:
        """Settle a call whose connection is over, from what is known of how it ended."""
        ending, failed = scope.ending, scope.sending.provider_failed
        outcome = ending.outcome or _as_seen_from_outside(scope)
        if ending.client_gone and outcome.status is Status.SUCCESS:
            outcome = replace(outcome, status=Status.PARTIAL)
        if ending.client_gone:
            outcome = replace(outcome, client_gone=True)
        if ending.blocked is not None:
            outcome = replace(outcome, status=Status.BLOCKED, error=ending.blocked.code, answer=None)
        elif failed is not None:  # whatever LiteLLM made of it
            outcome = replace(outcome, status=Status.FAILURE, error=failed.code)
        outcome = _with_uncounted(scope, outcome)
        if ending.inner_usd:
            outcome = replace(outcome, cost_usd=(outcome.cost_usd or 0.0) + ending.inner_usd)
        if outcome.http_status is None or ending.http_status is not None:
            outcome = replace(outcome, http_status=ending.http_status)
        self.settle(scope, outcome)

    def note_delivered(self, scope: CallScope) -> None:
        """Note that a client is about to have the whole answer."""
        status = scope.ending.http_status
        if scope.intent and not scope.ending.settled and status is not None and status < 400:
            usd = delivered_usd(scope.ending.delivered, scope.let_through) if scope.sending.attempts else None
            self._recorder.note_delivered(scope.call_id, Delivery(status, usd))

    def settle(self, scope: CallScope, outcome: Outcome) -> None:
        """Write down how a call ended. The first ending counts; later ones are ignored."""
        if scope.ending.settled:
            return
        scope.ending.settled = True
        if scope.ending.on_settled is not None:
            scope.ending.on_settled()
        seconds = monotonic() - scope.started
        ending = settlement(
            call_id=scope.call_id,
            started_at=scope.started_at,
            request=request_facts(scope),
            decision=scope.considered.decision,
            facts=recorded_facts(scope),
            approvals=approved_by(scope.approval),
            outcome=outcome,
            ended_at=now(),
            duration_ms=seconds * 1000,
            by_team=self._by_team,
            content=self._retention.of(scope, outcome),
            salt=scope.salt,
            tool_calls=outcome.tool_calls,
            payers=payer_rows(scope.payers),
        )
        call_type = scope.call.call_type if scope.call else "none"
        metrics.calls_total.labels(outcome=outcome.status.value, call_type=call_type).inc()
        metrics.call_seconds.observe(seconds)
        if outcome.cost_source is CostSource.NO_PRICE:
            metrics.unpriced.inc()
        elif outcome.cost_source is CostSource.ESTIMATED:
            metrics.estimated_costs.inc()
        if scope.intent_tried or self._recorder.accepting:
            self._recorder.settle(ending)
        else:
            self._recorder.log_only(ending.record)


def _as_seen_from_outside(scope: CallScope) -> Outcome:
    status, failure, refusal = scope.ending.http_status, scope.ending.failure, scope.refusal
    if refusal is not None:
        return Outcome(Status.BLOCKED, http_status=refusal.status_on(scope.route), error=refusal.code)
    if not scope.intent:
        return Outcome(Status.BLOCKED, http_status=status, error=failure or Reason.REFUSED_BY_PROXY)
    if scope.ending.client_gone or status is None or failure == Reason.GATEWAY_STOPPED:
        return Outcome(Status.PARTIAL, http_status=status, error=failure or Reason.CLIENT_GONE)
    if status < 400:
        return Outcome(Status.SUCCESS, http_status=status)
    return Outcome(Status.FAILURE, http_status=status, error=failure)


def _with_uncounted(scope: CallScope, outcome: Outcome) -> Outcome:
    """Add what the engine did not count: an answer that came, and attempts without one, which a provider may charge."""
    passed = scope.let_through
    if scope.ending.settled or passed is None or not scope.intent:
        return outcome
    attempts = sum(each.unanswered for each in scope.sending.attempts)
    counted = outcome.cost_usd is not None or outcome.cost_source is not None
    answered = None if counted or not _was_answered(scope) else delivered_usd(scope.ending.delivered, passed)
    if counted or answered is not None:
        attempts -= 1  # the one that was answered
    usd = (answered or 0.0) + max(attempts, 0) * (passed.input_usd or 0.0)
    if not usd:
        return outcome
    if scope.engine.charge is not None:
        scope.engine.charge(usd)
    return replace(outcome, cost_usd=(outcome.cost_usd or 0.0) + usd, cost_source=CostSource.ESTIMATED)


def _was_answered(scope: CallScope) -> bool:
    """Tell whether what was delivered came from a provider."""
    status = scope.ending.http_status
    return bool(scope.sending.attempts) and status is not None and status < 400


def approved_by(approval: UsedApproval | None) -> tuple[SealedApproval, ...]:
    """Each person's yes to a call, as its capsule names them."""
    if approval is None:
        return ()
    return tuple(SealedApproval(approval.id, vote.user_id, vote.at) for vote in approval.votes if vote.approve)


def recorded_facts(scope: CallScope) -> Facts | None:
    """Return the facts that the decision was made on, as they are recorded."""
    return scope.considered.facts and scope.considered.facts.renamed(scope.hidden)


def request_facts(scope: CallScope) -> RequestRow:
    """Who asked for what, as kept with the intent."""
    call = scope.call
    if call is None:
        return {"route": scope.route}
    return {
        "route": call.route,
        "call_type": call.call_type,
        "model": call.model,
        "stream": call.stream,
        **({"library": True} if call.library else {}),
        "caller": caller_facts(call),
        **({"agent": agent} if (agent := {name: value for name, value in asdict(call.agent).items() if value}) else {}),
    }
