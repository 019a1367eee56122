"""The stages of a call, in order: `admit` before anything goes upstream, `settle` exactly once after.

Transport stays outside: the plugin and the middleware turn LiteLLM's and ASGI's events into calls of these two
functions.
"""

from __future__ import annotations

from gatehouse import metrics
from gatehouse.audit import record
from gatehouse.audit.recorder import Recorder
from gatehouse.call import CallScope, GovernedCall, Outcome, Status
from gatehouse.clock import monotonic, now
from gatehouse.decision import Decision, Verdict


class Pipeline:
    """Decides on calls and writes them down."""

    def __init__(self, recorder: Recorder, policy_version: str) -> None:
        self._recorder = recorder
        self._policy_version = policy_version

    async def admit(self, scope: CallScope, call: GovernedCall) -> Decision:
        """Let a call through, or raise. When this returns, the call's intent is committed.

        LiteLLM runs its hooks again when it falls back to another model; the call keeps its one intent.

        Raises:
            GovernanceError: the call is refused; nothing was sent.
        """
        scope.call = call
        if not scope.intent:
            scope.intent_tried = True
            with metrics.intent_seconds.time():
                await self._recorder.open(
                    {
                        "call_id": str(scope.call_id),
                        "started_at": scope.started_at.isoformat(),
                        "request": record.request_facts(scope),
                    }
                )
            scope.intent = True
        return Decision(Verdict.ALLOW, (), self._policy_version)

    def settle(self, scope: CallScope, outcome: Outcome) -> None:
        """Write down how a call ended. The first ending counts; later ones are ignored."""
        if scope.settled:
            return
        scope.settled = True
        if scope.on_settled is not None:
            scope.on_settled()
        seconds = monotonic() - scope.started
        request = record.request_facts(scope)
        line = record.line(scope.call_id, request, outcome, now(), seconds * 1000)
        call_type = scope.call.call_type if scope.call else "none"
        metrics.calls_total.labels(outcome=outcome.status.value, call_type=call_type).inc()
        metrics.call_seconds.observe(seconds)
        if scope.intent_tried or self._recorder.writable:
            self._recorder.settle(
                {
                    "call_id": str(scope.call_id),
                    "started_at": scope.started_at.isoformat(),
                    "request": request,
                    "record": line,
                }
            )
        else:
            self._recorder.log_only(line)

    def conclude(self, scope: CallScope) -> None:
        """Settle a call of which no hook said how it ended, from what the connection showed."""
        self.settle(scope, scope.outcome or _as_seen_from_outside(scope))


def _as_seen_from_outside(scope: CallScope) -> Outcome:
    status, refusal = scope.http_status, scope.refusal
    if refusal is not None:
        return Outcome(Status.BLOCKED, http_status=refusal.status, error=refusal.code, client_gone=scope.client_gone)
    if not scope.intent:
        return Outcome(
            Status.BLOCKED, http_status=status, error=scope.failure or "refused_by_proxy", client_gone=scope.client_gone
        )
    if scope.client_gone or status is None:
        return Outcome(
            Status.PARTIAL, http_status=status, error=scope.failure or "client_gone", client_gone=scope.client_gone
        )
    if status < 400:
        return Outcome(Status.SUCCESS, http_status=status)
    return Outcome(Status.FAILURE, http_status=status, error=scope.failure)
