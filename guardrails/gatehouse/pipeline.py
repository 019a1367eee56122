"""The stages of a call, in order: `admit` before anything goes upstream, `settle` exactly once after.

Transport stays outside: the plugin and the middleware turn LiteLLM's and ASGI's events into calls of these two
functions.
"""

from __future__ import annotations

from gatehouse import metrics
from gatehouse.audit import record
from gatehouse.audit.capsule import Content, ContentMode
from gatehouse.audit.recorder import Recorder
from gatehouse.audit.settlement import decision_row, settlement
from gatehouse.call import CallScope, GovernedCall, Outcome, Prompt, Status
from gatehouse.clock import monotonic, now
from gatehouse.decision import Decision, Verdict
from gatehouse.settings import LoadedPolicy


class Pipeline:
    """Decides on calls and writes them down."""

    def __init__(self, recorder: Recorder, policy: LoadedPolicy) -> None:
        self._recorder = recorder
        self._policy_version = policy.version
        self._mode = ContentMode(policy.policy.audit.content)
        self._by_team = policy.policy.audit.chain == "team"

    async def admit(self, scope: CallScope, call: GovernedCall) -> Decision:
        """Let a call through, or raise. When this returns, the call's intent is committed.

        LiteLLM runs its hooks again when it falls back to another model; the call keeps its one intent.

        Raises:
            GovernanceError: the call is refused; nothing was sent.
        """
        scope.call = call
        if scope.decision is None:
            scope.decision = Decision(Verdict.ALLOW, (), self._policy_version)
        if not scope.intent:
            # Where nothing can be taken down the call is refused at once, and its line is all that is kept of it.
            scope.intent_tried = self._recorder.accepting
            with metrics.intent_seconds.time():
                await self._recorder.open(
                    {
                        "call_id": str(scope.call_id),
                        "started_at": scope.started_at.isoformat(),
                        "request": record.request_facts(scope),
                        "decision": decision_row(scope.decision),
                    }
                )
            scope.intent = True
        return scope.decision

    def settle(self, scope: CallScope, outcome: Outcome) -> None:
        """Write down how a call ended. The first ending counts; later ones are ignored."""
        if scope.settled:
            return
        scope.settled = True
        if scope.on_settled is not None:
            scope.on_settled()
        seconds = monotonic() - scope.started
        ending = settlement(
            call_id=scope.call_id,
            started_at=scope.started_at,
            request=record.request_facts(scope),
            decision=scope.decision,
            outcome=outcome,
            ended_at=now(),
            duration_ms=seconds * 1000,
            by_team=self._by_team,
            content=self._content_of(scope.call, outcome),
            tool_calls=outcome.tool_calls,
        )
        call_type = scope.call.call_type if scope.call else "none"
        metrics.calls_total.labels(outcome=outcome.status.value, call_type=call_type).inc()
        metrics.call_seconds.observe(seconds)
        if scope.intent_tried or self._recorder.accepting:
            self._recorder.settle(ending)
        else:
            self._recorder.log_only(ending.record)

    @property
    def keeps_text(self) -> bool:
        """Whether prompts and answers are written down, not only their hashes."""
        return self._mode is not ContentMode.HASH

    def _content_of(self, call: GovernedCall | None, outcome: Outcome) -> Content:
        prompt = call.prompt if call else Prompt()
        if not self.keeps_text:
            return Content(prompt_hash=prompt.hash)
        return Content(self._mode, prompt.text, outcome.answer, prompt.hash)

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
