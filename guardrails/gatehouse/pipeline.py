"""The stages of a call, in order: `admit` before anything goes upstream, `settle` exactly once after.

Transport stays outside: the plugin and the middleware turn LiteLLM's and ASGI's events into calls of these functions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from gatehouse import metrics, stages
from gatehouse.answers import Answers
from gatehouse.approvals.gate import Asked
from gatehouse.approvals.values import Approval, Edit
from gatehouse.approvals.wishes import BY_CALLER, Wishes, wishes
from gatehouse.audit import record
from gatehouse.audit.capsule import Content, ContentMode
from gatehouse.audit.record import clean
from gatehouse.audit.recorder import Recorder
from gatehouse.audit.settlement import approved_by, decision_row, settlement
from gatehouse.call import CallScope, GovernedCall, Outcome, Prompt, Status, ToolCall
from gatehouse.clock import monotonic, now
from gatehouse.content import prompt_of
from gatehouse.decision import Decision, Verdict
from gatehouse.errors import ContentBlocked, GovernanceError, GovernanceUnavailable, LimitExceeded, PolicyDenied
from gatehouse.governance import Governance
from gatehouse.pii.findings import ScanFailed
from gatehouse.pii.masking import Mask
from gatehouse.policy import limits
from gatehouse.policy.facts import Facts
from gatehouse.policy.limits import Ceiling, Estimate
from gatehouse.policy.model import Policy
from gatehouse.policy.rules import Ruling
from gatehouse.scanning.config import NOTHING, Scan
from gatehouse.screens.hits import Hit
from gatehouse.shapes import FilePart, TextPart, UnknownShape, View, request_view, write_back


class Prices(Protocol):
    """What a request may use and cost."""

    async def prepare(self, model: str, texts: Sequence[str]) -> None: ...

    def estimate(
        self,
        call_type: str,
        model: str,
        body: Mapping[str, Any],
        texts: Sequence[str],
        files: Sequence[FilePart] | None = None,
    ) -> Estimate: ...


class Approvals(Protocol):
    """Where a call waits for people."""

    async def admit(self, asked: Asked) -> Approval: ...

    async def give_back(self, used: Approval) -> bool: ...


class Pipeline:
    """Decides on calls and writes them down.

    Args:
        governance: says what is in force now.
        gate: holds what people must approve.
        prices: estimates what a request may use.
        report_within_s: how long a caller who calls the model themselves has to say how it ended.
    """

    def __init__(
        self,
        recorder: Recorder,
        governance: Callable[[], Governance],
        gate: Approvals,
        prices: Prices,
        report_within_s: float = 900.0,
    ) -> None:
        self.report_within_s = report_within_s
        self._recorder = recorder
        self._governance = governance
        self._gate = gate
        self._prices = prices
        audit = governance().policy.audit
        self._mode = ContentMode(audit.content)
        self._by_team = audit.chain == "team"

    async def admit(self, scope: CallScope, call: GovernedCall, body: MutableMapping[str, Any]) -> Decision:
        """Let a call through, with `body` as it may go upstream, or raise. Its intent is committed when this returns.

        Raises:
            GovernanceError: the call is refused; nothing was sent.
        """
        scope.call = call
        if scope.governance is None:
            scope.governance = self._governance()
        if not scope.governance.ready:
            raise GovernanceUnavailable("The gateway is still starting. Try again soon.")
        decision = await self._decide(scope, call, body, scope.governance)
        if not scope.intent:
            # Where nothing can be taken down the call is refused at once, and its line is all that is kept of it.
            scope.intent_tried = self._recorder.accepting
            intent = {
                "call_id": str(scope.call_id),
                "started_at": scope.started_at.isoformat(),
                "request": record.request_facts(scope),
                "decision": decision_row(decision, scope.facts, approved_by(scope.approval)),
                **(self._to_report(scope.call) if scope.call.library else {}),
            }
            try:
                with metrics.intent_seconds.time():
                    await self._recorder.open(intent)
            except GovernanceUnavailable:
                # People need not decide again on what was not sent.
                if scope.approval is not None and await self._gate.give_back(scope.approval):
                    scope.approval = None
                raise
            scope.intent = True
        return decision

    def _to_report(self, call: GovernedCall) -> dict[str, Any]:
        """What is kept of a call that its caller makes, for whichever gateway hears how it ended."""
        prompt = {"hash": call.prompt.hash, "text": call.prompt.text, "mode": self._mode.value}
        return {"report_within_s": self.report_within_s, "prompt": prompt}

    async def heard(self, answer: str | None) -> tuple[str | None, GovernanceError | None]:
        """Look at an answer that a caller had from the model themselves.

        Returns:
            what is kept of it, and why it would not have been passed on.
        """
        governance = self._governance()
        if answer is None:
            return None, None
        try:
            self._screen(governance, answer)
        except GovernanceError as blocked:
            metrics.blocks.labels(blocked.code).inc()
            return None, blocked
        if self._mode is ContentMode.REDACTED:
            return await self._redacted(governance, answer), None
        return (answer if self.keeps_text else None), None

    async def _decide(
        self, scope: CallScope, call: GovernedCall, body: MutableMapping[str, Any], governance: Governance
    ) -> Decision:
        """The stages up to the decision; what they ask for is done to `body`."""
        policy = governance.policy
        try:
            wanted = wishes(call.terms.headers)
            with metrics.stage_seconds.labels("read").time():
                view = _read(call, body)
                texts = view.texts
            with metrics.stage_seconds.labels("limits").time():
                estimate = await self._estimate(call, body, view)
                try:
                    limits.check(estimate, _ceiling(call, policy), policy.limits)
                except LimitExceeded as error:
                    error.policies = ("limits",)
                    scope.facts = stages.facts_of(call, body, texts, estimate, (), scope.started_at)
                    raise
            with metrics.stage_seconds.labels("scan").time():
                scans = await _scan(governance, texts)
                scope.facts = stages.facts_of(call, body, texts, estimate, scans, scope.started_at)
            if policy.screens is not None:
                hits = [hit for scan in scans for hit in scan.hits]
                _count_hits(hits, "request")
                stages.screened(policy.screens, hits)
            if governance.pii is not None:
                for scan in scans:
                    for found in scan.findings:
                        metrics.findings.labels(found.entity).inc()
                stages.personal_data(governance.pii, scans)
            with metrics.stage_seconds.labels("policy").time():
                ruling = _ruled(scope.facts, governance)
                decision = scope.decision = ruling.decision(governance.version)
                if decision.verdict is Verdict.DENY:
                    raise PolicyDenied(decision.reason or _DENIED, policies=decision.policies)
                decision = scope.decision = wanted.stricter(decision, estimate.estimated_usd)
            with metrics.stage_seconds.labels("mask").time():
                kept = prompt_of(body, keep_text=True) if self._mode is ContentMode.FULL else None
                mask = _mask(governance, decision, texts, scans, body)
                if mask is not None:
                    scope.mask = mask
                stages.oblige(body, decision.obligation, call.call_type)
                if kept is not None:
                    scope.call = replace(call, prompt=kept)
                elif mask is not None or self.keeps_text:  # else what the caller sent is what goes out
                    scope.call = replace(call, prompt=prompt_of(body, keep_text=self.keeps_text))
            if self._mode is ContentMode.REDACTED:
                prompt = (scope.call or call).prompt
                prompt = replace(prompt, text=await self._redacted(governance, prompt.text))
                scope.call = replace(call, prompt=prompt)
            if decision.verdict is Verdict.REQUIRE_APPROVAL:
                with metrics.stage_seconds.labels("approval").time():
                    edit = partial(self._edit, scope, call, body, view, scans)
                    scope.approval = await self._gate.admit(self._asked(scope, call, body, ruling, wanted, edit))
        except GovernanceError as error:
            if error.policies and (scope.decision is None or scope.decision.verdict is Verdict.ALLOW):
                # The name of a field that is not known is the caller's word, and no word of theirs is kept.
                reason = error.message if error.policies != _SHAPE else "The request is not understood."
                scope.decision = Decision(Verdict.DENY, error.policies, governance.version, reason)
            metrics.blocks.labels(error.code).inc()
            raise
        finally:
            if scope.decision is not None:
                metrics.decisions.labels(scope.decision.verdict.value).inc()
        chosen = scope.approval.edit.model if scope.approval is not None and scope.approval.edit is not None else None
        models = (chosen,) if chosen else (call.model, decision.obligation.downgrade_to)
        scope.models.update(name for name in models if name)
        return decision

    async def _edit(
        self,
        scope: CallScope,
        call: GovernedCall,
        body: MutableMapping[str, Any],
        view: View,
        scans: Sequence[Scan],
        edit: Edit,
        approved: tuple[str, ...],
    ) -> None:
        """Do to `body` what an approver made of it, and ask the policy again: it must be content with exactly that.

        Args:
            approved: ids of the rules that were approved.

        Raises:
            PolicyDenied, LimitExceeded: it is not.
        """
        governance, before = scope.governance, scope.facts
        assert governance is not None and before is not None  # noqa: PT018
        if edit.model is not None and not await call.terms.may_use(edit.model):
            raise PolicyDenied("An approver chose a model that your key may not use. Ask for another approval.")
        stages.edit(body, edit, call.call_type)
        edited = replace(call, model=edit.model or call.model)
        estimate = await self._estimate(edited, body, view)
        limits.check(estimate, _ceiling(call, governance.policy), governance.policy.limits)
        scope.facts = stages.facts_of(edited, body, view.texts, estimate, scans, scope.started_at)
        if before.cost.estimated_usd and scope.facts.cost.estimated_usd > before.cost.estimated_usd:
            raise PolicyDenied("What an approver made of this request would cost more. Ask for another approval.")
        ruling = _ruled(scope.facts, governance)
        wanting = {rule.id for rule in ruling.matched if rule.policy.verdict is Verdict.REQUIRE_APPROVAL}
        if ruling.verdict is Verdict.DENY or not wanting <= set(approved):
            scope.decision = ruling.decision(governance.version)
            denied = ruling.reason or _DENIED if ruling.verdict is Verdict.DENY else _WANTS_ANOTHER
            raise PolicyDenied(denied, policies=scope.decision.policies)
        if stages.changed_by(body, ruling.obligation, call.call_type) or (
            ruling.obligation.mask and scope.decision is not None and not scope.decision.obligation.mask
        ):
            raise PolicyDenied(
                "The policy would change what an approver made of this request. Ask for another approval."
            )

    async def _estimate(self, call: GovernedCall, body: Mapping[str, Any], view: View) -> Estimate:
        model, texts = call.model or "", [part.text for part in view.texts]
        await self._prices.prepare(model, texts)
        return self._prices.estimate(call.call_type, model, body, texts, view.files)

    @staticmethod
    def _asked(
        scope: CallScope,
        call: GovernedCall,
        body: Mapping[str, Any],
        ruling: Ruling,
        wanted: Wishes,
        edit: Callable[[Edit, tuple[str, ...]], Awaitable[None]],
    ) -> Asked:
        """What people are asked about: the call as it would go upstream now."""
        assert scope.governance is not None and scope.facts is not None and scope.decision is not None  # noqa: PT018
        wanting = [rule.policy for rule in ruling.matched if rule.policy.verdict is Verdict.REQUIRE_APPROVAL]
        return Asked(
            caller=record.caller_facts(call),
            # So that who approved a call through the gateway did not approve one that it does not see.
            route=f"{call.route} (library mode)" if call.library else call.route,
            model=clean(body.get("model")),
            policy_version=scope.governance.version,
            rules=tuple(rule.id for rule in wanting) if wanting else (BY_CALLER,),
            reason=scope.decision.reason,
            approvers=[rule.approvers for rule in wanting],
            body=body,
            summary=stages.summary(call, body, scope.facts),
            approval_id=call.terms.approval_id,
            wishes=wanted,
            left=scope.left,
            edit=edit,
        )

    def reconsider(self, scope: CallScope, model: str) -> None:
        """Decide again on a call that the proxy is about to send to another model than it was admitted for.

        Raises:
            GovernanceError: that model may not have it.
        """
        if model in scope.models or scope.governance is None or scope.facts is None or scope.call is None:
            return
        facts = replace(scope.facts, request=replace(scope.facts.request, model=model))
        decision = _ruled(facts, scope.governance).decision(scope.governance.version)
        approval = scope.approval
        # Who approved another model did not approve this one.
        chosen = approval is not None and approval.edit is not None and approval.edit.model is not None
        approved = approval is not None and not chosen and set(approval.rule_ids) >= set(decision.policies)
        if decision.verdict is Verdict.DENY or (decision.verdict is Verdict.REQUIRE_APPROVAL and not approved):
            metrics.blocks.labels(PolicyDenied.code).inc()
            scope.decision = decision
            raise PolicyDenied(decision.reason or _DENIED, policies=decision.policies)
        scope.models.add(model)

    def answers(self, scope: CallScope) -> Answers | None:
        """What the answer to this call must pass; None where it may pass as it is."""
        governance, mask = scope.governance, scope.mask
        if scope.call is None or governance is None or (mask is None and governance.answers is None):
            return None
        screens = governance.answers is not None and governance.policy.screens is not None
        return Answers(scope.call.call_type, mask, partial(self._screen, governance) if screens else None)

    @staticmethod
    def _screen(governance: Governance, text: str) -> None:
        """Look at what a model said.

        Raises:
            ContentBlocked: it may not be passed on.
        """
        engine, policy = governance.answers, governance.policy.screens
        if engine is None or policy is None:
            return
        try:
            hits = engine.scan(text)
        except ScanFailed as failed:
            metrics.stage_errors.labels("answer", failed.reason).inc()
            if policy.on_error == "allow":
                return
            raise ContentBlocked("The answer could not be screened in time. Ask for a shorter one.") from None
        if hits:
            _count_hits(hits, "answer")
            try:
                stages.screened(policy, hits)
            except ContentBlocked as blocked:
                raise ContentBlocked(
                    f"The model's answer was withheld: {blocked.message.split('.')[0].lower()}.",
                    policies=blocked.policies,
                ) from None

    def block_answer(self, scope: CallScope, error: GovernanceError) -> None:
        """Note that the answer was not passed on, or not to its end."""
        scope.answer_blocked = error
        metrics.blocks.labels(error.code).inc()

    async def ended(self, scope: CallScope, outcome: Outcome) -> None:
        """Note how the model's part ended; the call is settled once its connection is over too."""
        if self._mode is ContentMode.REDACTED and scope.governance is not None:
            # Placeholders are still in it; what the model brought of its own is masked here.
            answer = await self._redacted(scope.governance, outcome.answer)
            outcome = replace(
                outcome, answer=answer, tool_calls=tuple(ToolCall(each.tool) for each in outcome.tool_calls)
            )
        if scope.outcome is None:
            scope.outcome = outcome
        if scope.closed:
            self.conclude(scope)

    def conclude(self, scope: CallScope) -> None:
        """Settle a call whose connection is over, from what is known of how it ended."""
        outcome = scope.outcome or _as_seen_from_outside(scope)
        if scope.client_gone and outcome.status is Status.SUCCESS:
            outcome = replace(outcome, status=Status.PARTIAL)
        if scope.client_gone:
            outcome = replace(outcome, client_gone=True)
        if scope.answer_blocked is not None:
            outcome = replace(outcome, status=Status.BLOCKED, error=scope.answer_blocked.code, answer=None)
        if outcome.http_status is None or scope.http_status is not None:
            outcome = replace(outcome, http_status=scope.http_status)
        self.settle(scope, outcome)

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
            facts=scope.facts,
            approvals=approved_by(scope.approval),
            outcome=outcome,
            ended_at=now(),
            duration_ms=seconds * 1000,
            by_team=self._by_team,
            content=self._content_of(scope, outcome),
            tool_calls=outcome.tool_calls,
        )
        call_type = scope.call.call_type if scope.call else "none"
        metrics.calls_total.labels(outcome=outcome.status.value, call_type=call_type).inc()
        metrics.call_seconds.observe(seconds)
        if scope.intent_tried or self._recorder.accepting:
            self._recorder.settle(ending)
        else:
            self._recorder.log_only(ending.record)

    async def _redacted(self, governance: Governance, text: str | None) -> str | None:
        """The text with all personal data masked; None where it could not be scanned."""
        if text is None or governance.scanner is None or governance.redaction is None:
            return None
        try:
            (scan,) = await governance.scanner.scan([text])
        except ScanFailed as failed:
            metrics.stage_errors.labels("redact", failed.reason).inc()
            return None
        return Mask([text]).mask(text, scan.findings, governance.redaction)

    @property
    def keeps_text(self) -> bool:
        """Whether prompts and answers are written down, not only their hashes."""
        return self._mode is not ContentMode.HASH

    def _content_of(self, scope: CallScope, outcome: Outcome) -> Content:
        prompt = scope.call.prompt if scope.call else Prompt()
        if not self.keeps_text:
            return Content(prompt_hash=prompt.hash)
        answer = outcome.answer
        if answer is not None and scope.mask is not None and self._mode is ContentMode.FULL:  # as the caller got it
            answer = scope.mask.unmask_json(answer)
        return Content(self._mode, prompt.text, answer, prompt.hash)


def _ceiling(call: GovernedCall, policy: Policy) -> Ceiling:
    terms = call.terms
    return limits.ceiling(
        policy.limits, terms.key_metadata, terms.team_metadata, terms.headers, key_name=call.caller.key_alias
    )


_SHAPE = ("shape",)
_DENIED = "The policy does not allow this call."
_WANTS_ANOTHER = "What an approver made of this request needs the approval of others. Ask them for that."


def _read(call: GovernedCall, body: Mapping[str, Any]) -> View:
    try:
        return request_view(call.call_type, body)
    except UnknownShape as error:
        metrics.stage_errors.labels("read", "unknown_shape").inc()
        raise ContentBlocked(
            f"The request is not understood, so text could hide in it: {error}. Leave that out, or update Gatehouse.",
            policies=_SHAPE,
        ) from None


async def _scan(governance: Governance, texts: Sequence[TextPart]) -> list[Scan]:
    """What is in each text, or the refusal of the call."""
    scanner = governance.scanner
    if scanner is None:
        return [NOTHING] * len(texts)
    try:
        return await scanner.scan([part.text for part in texts])
    except ScanFailed as failed:
        metrics.stage_errors.labels("scan", failed.reason).inc()
        refusal = stages.not_scanned(governance.policy, failed)
        if refusal is not None:
            raise refusal from None
    # Let through by name: what can be scanned still is.
    each = await asyncio.gather(*(scanner.scan([part.text]) for part in texts), return_exceptions=True)
    return [found[0] if isinstance(found, list) else NOTHING for found in each]


def _ruled(facts: Facts, governance: Governance) -> Ruling:
    """What the rules say, which is counted."""
    ruling = governance.loaded.rules.evaluate(facts)
    for rule in ruling.matched:
        metrics.rules_matched.labels(rule.id, "enforce").inc()
    for rule_id in ruling.observed:
        metrics.rules_matched.labels(rule_id, "observe").inc()
    for _ in ruling.errors:
        metrics.stage_errors.labels("policy", "rule").inc()
    return ruling


def _mask(
    governance: Governance,
    decision: Decision,
    texts: Sequence[TextPart],
    scans: Sequence[Scan],
    body: MutableMapping[str, Any],
) -> Mask | None:
    """Mask what is found in the body; None where there was nothing."""
    config = governance.masking if decision.obligation.mask else governance.pii
    if config is None or not any(scan.findings for scan in scans):
        return None
    changes, mask = stages.masked(texts, scans, config)
    if not changes:
        return None
    try:
        write_back(body, changes)
    except UnknownShape as error:
        raise ContentBlocked(f"The request cannot be masked: {error}. Take the personal data out.") from None
    return mask


def _count_hits(hits: Iterable[Hit], side: str) -> None:
    for hit in hits:
        metrics.screen_hits.labels(hit.screen, side).inc()


def _as_seen_from_outside(scope: CallScope) -> Outcome:
    status, refusal = scope.http_status, scope.refusal
    if refusal is not None:
        return Outcome(Status.BLOCKED, http_status=refusal.status, error=refusal.code)
    if not scope.intent:
        return Outcome(Status.BLOCKED, http_status=status, error=scope.failure or "refused_by_proxy")
    if scope.client_gone or status is None:
        return Outcome(Status.PARTIAL, http_status=status, error=scope.failure or "client_gone")
    if status < 400:
        return Outcome(Status.SUCCESS, http_status=status)
    return Outcome(Status.FAILURE, http_status=status, error=scope.failure)
