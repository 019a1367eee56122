"""The stages up to a decision, in order, and those that come again when people or the router change the call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gatehouse.approvals.caller_options import BY_CALLER, CallerOptions, caller_options
from gatehouse.approvals.gate import ApprovalRequest, Gate
from gatehouse.approvals.model import Approval, Edit
from gatehouse.capsule.document import ContentMode
from gatehouse.core import metrics
from gatehouse.core.call import Attempt, GovernedCall
from gatehouse.core.decision import Decision, Verdict
from gatehouse.core.errors import GovernanceError, InvalidRequest, LimitExceeded, NotFound, PolicyDenied
from gatehouse.core.keys import InstallationKeys, Purpose
from gatehouse.core.reasons import Reason
from gatehouse.core.text import clean
from gatehouse.dialects.call_types import RESPONSES
from gatehouse.dialects.canonical import CallerNames, CanonicalRequest, canonical_request
from gatehouse.dialects.conversations import continued, conversation_of, is_stored
from gatehouse.dialects.parts import UnknownShape
from gatehouse.dialects.prompt import prompt_of
from gatehouse.dialects.reaches import PROVIDER_DATA, check_servers, check_stored_data
from gatehouse.dialects.stored_responses import StoredResponse
from gatehouse.dialects.tags import Tags
from gatehouse.guards.offload import OFFLOAD
from gatehouse.guards.pii.masking import Mask
from gatehouse.guards.scan import Scan
from gatehouse.ledger import audit_line
from gatehouse.pipeline import call_facts, obligations, screening
from gatehouse.pipeline.caller_screens import caller_screens
from gatehouse.pipeline.conversations import NOTHING, Conversations, Remembered, StoredCall
from gatehouse.pipeline.in_force import PolicyInForce
from gatehouse.pipeline.obligations import apply_obligations, changed_by
from gatehouse.pipeline.redaction import links_of, mask
from gatehouse.pipeline.retention import Retention
from gatehouse.pipeline.scope import CallScope, LetThrough
from gatehouse.pipeline.sessions import StoppedSessions
from gatehouse.policy import limits
from gatehouse.policy.facts import Facts
from gatehouse.policy.limits import Ceiling, Estimate
from gatehouse.policy.model import PiiPolicy, Policy
from gatehouse.policy.rules import Ruling

if TYPE_CHECKING:  # it brings LiteLLM
    from gatehouse.pricing.estimate import Prices

_T = TypeVar("_T")

SHAPE: Final = ("shape",)
_DENIED = "The policy does not allow this call."
_WITHOUT_PLACE: Final[Mapping[tuple[str, ...], str]] = {
    SHAPE: "The request is not understood.",
    PROVIDER_DATA: "The request names what the provider keeps, and policy.yaml does not list it.",
}
_NO_RESPONSE = (
    "Response not found: this key made none of that id, or it was deleted, or the gateway no longer remembers it. Ask "
    "with the key that made it."
)
_WANTS_ANOTHER = "What an approver made of this request needs the approval of others. Ask them for that."


@dataclass(frozen=True, slots=True)
class Admission:
    """Decides on calls, with what the pipeline was made of."""

    gate: Gate
    prices: Prices
    retention: Retention
    keys: InstallationKeys
    conversations: Conversations
    is_note: Callable[[str], bool]
    sessions: StoppedSessions

    async def decide(
        self, scope: CallScope, call: GovernedCall, body: MutableMapping[str, Any], governance: PolicyInForce
    ) -> Mapping[str, str]:
        """Run the stages up to the decision; what they ask for is done to `body`.

        Returns:
            what each text that was masked is now.

        Raises:
            GovernanceError: the call is refused.
        """
        stages = _Stages(self, scope, call, governance)
        try:
            await stages.run(body)
        except GovernanceError as error:
            stages.note_refusal(error)
            raise
        finally:
            if scope.considered.decision is not None:
                metrics.decisions.labels(scope.considered.decision.verdict.value).inc()
        scope.let_through = stages.let_through()
        return stages.replaced

    async def decide_about(
        self, scope: CallScope, call: GovernedCall, about: StoredResponse, governance: PolicyInForce
    ) -> Remembered:
        """Decide on a request about a stored response. It sends no content, so only a rule that denies refuses it.

        Returns:
            what is kept of the response.

        Raises:
            GovernanceError: the request is refused.
        """
        self.sessions.check(call)
        scope.asked_screens = caller_screens(call.grants.headers, governance.policy.screens)
        kept = await self.conversations.find(call.caller.key_hash, about.id)
        if kept is None:
            raise NotFound(_NO_RESPONSE, param="response_id")
        scope.call = call = replace(call, model=kept.model)
        request = canonical_request(RESPONSES, {}, CallerNames())
        facts = call_facts.facts_of(call, request, _free(kept.model), (), scope.started_at)
        decision = ruled(facts, governance).decision(governance.version)
        if decision.verdict is Verdict.REQUIRE_APPROVAL:  # people decided when the response was made
            decision = Decision(Verdict.ALLOW, (), governance.version)
        scope.considered = replace(scope.considered, facts=facts, decision=decision)
        metrics.decisions.labels(decision.verdict.value).inc()
        if decision.verdict is Verdict.DENY:
            raise PolicyDenied(decision.reason or _DENIED, policies=decision.policies)
        placeholders = self.retention.placeholders(governance, call)
        scope.mask = Mask(placeholders, links_of(governance, (), kept.hosts), kept.values)
        scope.let_through = LetThrough(frozenset((kept.model,)), attempt_usd=0.0)
        return kept

    def reconsider(self, scope: CallScope, model: str) -> None:
        """Decide again on a call that the proxy is about to send to another model than it was admitted for.

        Raises:
            GovernanceError: that model may not have it, or another attempt might cost more than the call may.
        """
        passed, governance, facts = scope.let_through, scope.governance, scope.considered.facts
        if passed is None or governance is None or facts is None or scope.call is None:
            return
        _check_attempts(scope.sending.attempts, passed.attempt_usd, ceiling(scope.call, governance.policy))
        if model in passed.models:
            return
        facts = replace(facts, request=replace(facts.request, model=model))
        decision = ruled(facts, governance).decision(governance.version)
        if not _allows(decision, passed.approval):
            metrics.blocks.labels(PolicyDenied.code).inc()
            scope.considered = replace(scope.considered, decision=decision)
            raise PolicyDenied(decision.reason or _DENIED, policies=decision.policies)
        scope.let_through = replace(passed, models=passed.models | {model})


def _allows(decision: Decision, approval: Approval | None) -> bool:
    """Say whether a call may go to another model than it was admitted for, under the approval that it used up."""
    if decision.verdict is not Verdict.REQUIRE_APPROVAL:
        return decision.verdict is Verdict.ALLOW
    # Who approved another model did not approve this one.
    chosen = approval is not None and approval.edit is not None and approval.edit.model is not None
    return approval is not None and not chosen and set(approval.rule_ids) >= set(decision.policies)


class _Stages:
    """The stages of one call, in order. What each finds out is in the scope at once, for a call may end in any."""

    def __init__(self, parts: Admission, scope: CallScope, call: GovernedCall, governance: PolicyInForce) -> None:
        self.replaced: dict[str, str] = {}
        self._parts = parts
        self._scope = scope
        self._call = call
        self._governance = governance
        self._estimate: Estimate | None = None
        self._approval: Approval | None = None

    async def run(self, body: MutableMapping[str, Any]) -> None:
        """Decide on the call; `body` is what may leave when this returns.

        Raises:
            GovernanceError: it is refused.
        """
        wanted = caller_options(self._call.grants.headers)
        asked = caller_screens(self._call.grants.headers, self._governance.policy.screens)
        self._scope.asked_screens = asked
        with metrics.stage_seconds.labels("read").time():
            request = await self._read(body)
        self._parts.sessions.check(self._call)
        with metrics.stage_seconds.labels("limits").time():
            estimate = await self._limit(request)
        with metrics.stage_seconds.labels("scan").time():
            scans = await self._scan(request, estimate)
        screening.enforce(self._governance, request.scanned, scans)
        if asked is not None:
            await self._work(partial(asked.enforce, request.scanned, scans))
        with metrics.stage_seconds.labels("policy").time():
            ruling, decision = self._rule(wanted, estimate)
        with metrics.stage_seconds.labels("mask").time():
            full = self._parts.retention.mode is ContentMode.FULL
            prompt = prompt_of(request.fields, keep_text=True, salt=self._scope.salt) if full else None
            request = await self._redact(request, decision, scans)
            self._note(request=request)
        if self._parts.retention.mode is ContentMode.REDACTED:
            prompt = prompt_of(request.fields, keep_text=True, salt=self._scope.salt)
            text = await self._parts.retention.redacted(self._governance, self._call, prompt.text)
            prompt = replace(prompt, text=text)
        if prompt is not None:
            self._scope.call = replace(self._call, prompt=prompt)
        if decision.verdict is Verdict.REQUIRE_APPROVAL:
            with metrics.stage_seconds.labels("approval").time():
                call_facts.check_shown(request.stored, decision.policies)
                self._approval = await self._parts.gate.admit(self._asked(request, ruling, decision, scans, wanted))
        self._parts.sessions.check(self._call)  # again: people may have held the call for long

    def let_through(self) -> LetThrough:
        """Return what holds for the call once it is let through."""
        decision = self._scope.considered.decision
        assert decision is not None and self._estimate is not None  # noqa: PT018
        edit = self._approval.edit if self._approval is not None else None
        chosen = edit.model if edit is not None else None
        models = (chosen,) if chosen else (self._call.model, decision.obligation.downgrade_to)
        return LetThrough(
            frozenset(name for name in models if name),
            self._approval,
            self._estimate.estimated_usd,
            input_usd(self._estimate),
            self._estimate.output_usd_per_token,
        )

    def note_refusal(self, error: GovernanceError) -> None:
        """Record what refused the call, where no rule did."""
        decision = self._scope.considered.decision
        if error.policies and (decision is None or decision.verdict is Verdict.ALLOW):
            # The name of a field that is not known is the caller's word, and no word of theirs is kept.
            reason = _WITHOUT_PLACE.get(error.policies, error.message)
            self._note(decision=Decision(Verdict.DENY, error.policies, self._governance.version, reason))
        metrics.blocks.labels(error.code).inc()

    async def _read(self, body: MutableMapping[str, Any]) -> CanonicalRequest:
        call, policy = self._call, self._governance.policy
        parts = self._parts
        reading = partial(read, call.call_type, body, self._scope.incoming.names, parts.is_note, Tags(parts.keys))
        request = await self._work(reading)
        self._note(request=request)
        check_servers(request.fields, policy.hosted_mcp.allow)
        await self._work(partial(check_stored_data, request, policy.provider_data.allowed_to(call.caller.team)))
        return request

    async def _limit(self, request: CanonicalRequest) -> Estimate:
        policy = self._governance.policy
        estimate = self._estimate = await self._estimated(self._call, request)
        try:
            limits.check(estimate, ceiling(self._call, policy), policy.limits)
        except LimitExceeded as error:
            error.policies = ("limits",)
            self._note(facts=self._facts(self._call, request, estimate, None))
            raise
        return estimate

    async def _scan(self, request: CanonicalRequest, estimate: Estimate) -> Sequence[Scan]:
        turns, governance = self._call.caller.turns, self._governance
        scans = await screening.scan(governance, request.scanned, turns, self._scope.incoming.effort)
        self._note(facts=await self._work(partial(self._facts, self._call, request, estimate, scans)))
        records = self._parts.keys.key(Purpose.RECORDS)
        hide = partial(call_facts.hidden_ids, request, scans, governance.pii, records)
        self._scope.hidden.update(await self._work(hide))
        return scans

    def _rule(self, wanted: CallerOptions, estimate: Estimate) -> tuple[Ruling, Decision]:
        facts = self._scope.considered.facts
        assert facts is not None
        ruling = ruled(facts, self._governance)
        decision = ruling.decision(self._governance.version)
        self._note(decision=decision)
        if decision.verdict is Verdict.DENY:
            raise PolicyDenied(decision.reason or _DENIED, policies=decision.policies)
        decision = wanted.stricter(decision, estimate.estimated_usd)
        self._note(decision=decision)
        return ruling, decision

    async def _redact(self, request: CanonicalRequest, decision: Decision, scans: Sequence[Scan]) -> CanonicalRequest:
        """Mask the request and do to it what the rules ask for."""
        call, governance = self._call, self._governance
        placeholders = self._parts.retention.placeholders(governance, call)
        fields = request.fields
        ids = continued(call.call_type, fields)
        earlier = await self._parts.conversations.recall(call.caller.key_hash, ids) or NOTHING
        stored = self._scope.stored = self._stored(fields, earlier)
        masking = partial(mask, governance, decision, request, scans, placeholders, earlier, kept=stored is not None)
        if (masked := await self._work(masking)) is not None:
            request, self._scope.mask, self.replaced = masked
        return request.limited(partial(apply_obligations, obligation=decision.obligation, call_type=call.call_type))

    def _stored(self, fields: Mapping[str, Any], earlier: Remembered) -> StoredCall | None:
        """Return what is to be kept of the call; None where its provider stores nothing, or nothing may be kept."""
        owner, lifetime_s = self._call.caller.key_hash, (self._governance.policy.pii or PiiPolicy()).remember
        if owner is None or not lifetime_s or self._call.library or not is_stored(self._call.call_type, fields):
            return None
        return StoredCall(owner, conversation_of(fields), earlier, lifetime_s)

    async def _edit(self, scans: Sequence[Scan], edit: Edit, approved: tuple[str, ...]) -> None:
        """Do to the request what an approver made of it, and ask the policy again: it must allow exactly that.

        Args:
            approved: ids of the rules that were approved.

        Raises:
            PolicyDenied, LimitExceeded: it is not.
        """
        call, policy = self._call, self._governance.policy
        request, decision = self._scope.considered.request, self._scope.considered.decision
        assert request is not None and decision is not None  # noqa: PT018
        if edit.model is not None and not await call.grants.may_use(edit.model):
            raise PolicyDenied("An approver chose a model that your key may not use. Ask for another approval.")
        # What it would cost as it is now: a placeholder is longer than what it stands for.
        before = (await self._estimated(call, request)).estimated_usd
        request = obligations.edit(request, edit)
        self._note(request=request)
        edited = replace(call, model=edit.model or call.model)
        estimate = await self._estimated(edited, request)
        limits.check(estimate, ceiling(call, policy), policy.limits)
        self._estimate = estimate
        facts = self._facts(edited, request, estimate, scans)
        self._note(facts=facts)
        if before and facts.cost.estimated_usd > before:
            raise PolicyDenied("What an approver made of this request would cost more. Ask for another approval.")
        self._rule_edited(request, facts, decision, approved)

    def _rule_edited(
        self, request: CanonicalRequest, facts: Facts, decision: Decision, approved: tuple[str, ...]
    ) -> None:
        ruling = ruled(facts, self._governance)
        wanting = {rule.id for rule in ruling.matched if rule.policy.verdict is Verdict.REQUIRE_APPROVAL}
        if ruling.verdict is Verdict.DENY or not wanting <= set(approved):
            self._note(decision=ruling.decision(self._governance.version))
            denied = ruling.reason or _DENIED if ruling.verdict is Verdict.DENY else _WANTS_ANOTHER
            raise PolicyDenied(denied, policies=tuple(rule.id for rule in ruling.matched))
        if changed_by(request, ruling.obligation) or (ruling.obligation.mask and not decision.obligation.mask):
            raise PolicyDenied(
                "The policy would change what an approver made of this request. Ask for another approval."
            )

    def _note(self, **found: Any) -> None:
        """Note what a stage has found out, as `Considered` has it."""
        self._scope.considered = replace(self._scope.considered, **found)

    def _facts(
        self, call: GovernedCall, request: CanonicalRequest, estimate: Estimate, scans: Sequence[Scan] | None
    ) -> Facts:
        return call_facts.facts_of(call, request, estimate, scans, self._scope.started_at)

    async def _estimated(self, call: GovernedCall, request: CanonicalRequest) -> Estimate:
        model, prices = call.model or "", self._parts.prices
        await prices.prepare(model, [part.text for part in request.texts])
        return await self._work(partial(prices.estimate, request, model))

    async def _work(self, work: Callable[[], _T]) -> _T:
        """Do work that waits for nothing, in the caller's turn where it is long."""
        return await OFFLOAD.run(self._scope.incoming.effort, self._call.caller.turns, work)

    def _asked(
        self,
        request: CanonicalRequest,
        ruling: Ruling,
        decision: Decision,
        scans: Sequence[Scan],
        wanted: CallerOptions,
    ) -> ApprovalRequest:
        """What people are asked about: the call as it would go upstream now."""
        call, facts, mask = self._call, self._scope.considered.facts, self._scope.mask
        assert facts is not None
        wanting = [rule.policy for rule in ruling.matched if rule.policy.verdict is Verdict.REQUIRE_APPROVAL]
        return ApprovalRequest(
            caller=audit_line.caller_facts(call),
            # So that who approved a call through the gateway did not approve one that it does not see.
            route=f"{call.route} (library mode)" if call.library else call.route,
            model=clean(request.model),
            policy_version=self._governance.version,
            rules=tuple(rule.id for rule in wanting) if wanting else (BY_CALLER,),
            reason=decision.reason,
            approvers=[rule.approvers for rule in wanting],
            body=self._parts.retention.repeatable(call, mask, request.fields),
            summary=call_facts.summary(call, request, facts),
            keys=self._parts.keys,
            most_open=self._governance.policy.approvals.max_open_per_key,
            values=mask.originals if mask is not None else {},
            approval_id=call.grants.approval_id,
            options=wanted,
            left=self._scope.left,
            edit=partial(self._edit, scans),
        )


def _free(model: str) -> Estimate:
    return Estimate(model, 0, 0, 0.0, None, None, "none")


def input_usd(estimate: Estimate) -> float | None:
    """Return what of a price is for what a request says, and not for its answer; None where it has no price."""
    usd, outside = estimate.estimated_usd, estimate.output_usd_per_token
    # Where an answer is not paid by token, there is no telling what of the price is for it.
    return usd if usd is None or outside is None else max(usd - outside * estimate.max_output_tokens, 0.0)


_MAY_BE_BILLED = (
    "The provider did not answer in time, and may charge for that. Another attempt might cost more, together with it, "
    "than one request may. Try again, or have an administrator raise the limit."
)


def _check_attempts(attempts: Sequence[Attempt], usd: float | None, most: Ceiling) -> None:
    """See to it that a call's limit holds for all of its attempts that may be billed.

    Args:
        usd: what one of them may cost.

    Raises:
        LimitExceeded: with another one, it might not.
    """
    unanswered = sum(each.unanswered for each in attempts)
    if not unanswered or usd is None or most.max_cost_usd is None:
        return
    if usd * (unanswered + 1) > most.max_cost_usd:
        metrics.blocks.labels(LimitExceeded.code).inc()
        raise LimitExceeded(_MAY_BE_BILLED, policies=("limits",))


def read(
    call_type: str, body: MutableMapping[str, Any], names: CallerNames, is_note: Callable[[str], bool], tags: Tags
) -> CanonicalRequest:
    """Read a call's body; see `canonical_request`.

    Raises:
        InvalidRequest: it does not have the shape that the route's API describes.
    """
    try:
        return canonical_request(call_type, body, names, is_note, tags)
    except UnknownShape as error:
        metrics.stage_errors.labels("read", Reason.UNKNOWN_SHAPE).inc()
        raise InvalidRequest(
            f"The request is not understood: {error}. Correct or leave that out, or update Gatehouse.",
            policies=SHAPE,
            param=str(error).partition(":")[0],
        ) from None


def ruled(facts: Facts, governance: PolicyInForce) -> Ruling:
    """What the rules say, which is counted."""
    ruling = governance.loaded.rules.evaluate(facts)
    for rule in ruling.matched:
        metrics.rules_matched.labels(rule.id, "enforce").inc()
    for rule_id in ruling.observed:
        metrics.rules_matched.labels(rule_id, "observe").inc()
    for _ in ruling.errors:
        metrics.stage_errors.labels("policy", Reason.RULE).inc()
    return ruling


def ceiling(call: GovernedCall, policy: Policy) -> Ceiling:
    """The strictest of what policy, key, team and caller allow one request."""
    grants = call.grants
    return limits.ceiling(
        policy.limits, grants.key_metadata, grants.team_metadata, grants.headers, key_name=call.caller.key_alias
    )
