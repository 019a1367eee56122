"""The stages up to a decision, in order, and those that come again when people or the router change the call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gatehouse.approvals.caller_options import BY_CALLER, CallerOptions, caller_options
from gatehouse.approvals.gate import Asked, Gate
from gatehouse.approvals.model import Edit
from gatehouse.capsule.document import ContentMode
from gatehouse.core import metrics
from gatehouse.core.call import GovernedCall
from gatehouse.core.decision import Decision, Verdict
from gatehouse.core.errors import ContentBlocked, GovernanceError, LimitExceeded, PolicyDenied
from gatehouse.core.keys import InstallationKeys, Purpose
from gatehouse.core.text import clean
from gatehouse.dialects import UnknownShape
from gatehouse.dialects.canonical import CallerNames, CanonicalRequest, canonical_request
from gatehouse.dialects.prompt import prompt_of
from gatehouse.dialects.reaches import PROVIDER_DATA, check_kept, check_servers
from gatehouse.guards.offload import OFFLOAD
from gatehouse.guards.scan import Scan
from gatehouse.ledger import audit_line
from gatehouse.pipeline import call_facts, obligations, screening
from gatehouse.pipeline.in_force import PolicyInForce
from gatehouse.pipeline.obligations import apply_obligations, changed_by
from gatehouse.pipeline.redaction import kept_by_provider, mask
from gatehouse.pipeline.retention import Retention
from gatehouse.pipeline.scope import CallScope
from gatehouse.pipeline.screening import enforce_screens, personal_data
from gatehouse.policy import limits
from gatehouse.policy.facts import Facts
from gatehouse.policy.limits import Ceiling, Estimate
from gatehouse.policy.model import Policy
from gatehouse.policy.rules import Ruling

if TYPE_CHECKING:  # it brings LiteLLM
    from gatehouse.pricing.estimate import Prices

SHAPE: Final = ("shape",)
_DENIED = "The policy does not allow this call."
_WITHOUT_PLACE: Final[Mapping[tuple[str, ...], str]] = {
    SHAPE: "The request is not understood.",
    PROVIDER_DATA: "The request names what the provider keeps, and policy.yaml does not list it.",
}
_WANTS_ANOTHER = "What an approver made of this request needs the approval of others. Ask them for that."


class Admission:
    """Decides on calls.

    Args:
        gate: holds what people must approve.
        prices: estimates what a request may use.
        kept: what is written down of what was asked.
        keys: what placeholders and keyed hashes are made with.
        is_note: says of a name that no API has whether the proxy keeps something under it beside a request.
    """

    def __init__(
        self, gate: Gate, prices: Prices, kept: Retention, keys: InstallationKeys, is_note: Callable[[str], bool]
    ) -> None:
        self._gate = gate
        self._prices = prices
        self._kept = kept
        self._keys = keys
        self._is_note = is_note

    async def decide(
        self, scope: CallScope, call: GovernedCall, body: MutableMapping[str, Any], governance: PolicyInForce
    ) -> Decision:
        """The stages up to the decision; what they ask for is done to `body`.

        Raises:
            GovernanceError: the call is refused.
        """
        policy, turns = governance.policy, call.caller.turns
        try:
            wanted = caller_options(call.terms.headers)
            with metrics.stage_seconds.labels("read").time():
                reading = partial(read, call.call_type, body, scope.names, self._is_note)
                request = scope.request = await OFFLOAD.run(scope.effort, turns, reading)
                check_servers(request.fields, policy.hosted_mcp.allow)
                check = partial(check_kept, request, policy.provider_data.allowed_to(call.caller.team))
                await OFFLOAD.run(scope.effort, turns, check)
            with metrics.stage_seconds.labels("limits").time():
                estimate = await self._estimate(scope, call, request)
                _note_costs(scope, estimate)
                try:
                    limits.check(estimate, ceiling(call, policy), policy.limits)
                except LimitExceeded as error:
                    error.policies = ("limits",)
                    scope.facts = call_facts.facts_of(call, request, estimate, None, scope.started_at)
                    raise
            with metrics.stage_seconds.labels("scan").time():
                scans = await screening.scan(governance, request.scanned, turns, scope.effort)
                facts = partial(call_facts.facts_of, call, request, estimate, scans, scope.started_at)
                scope.facts = await OFFLOAD.run(scope.effort, turns, facts)
                records = self._keys.key(Purpose.RECORDS)
                hide = partial(call_facts.hidden_ids, request, scans, governance.pii, records)
                scope.hidden.update(await OFFLOAD.run(scope.effort, turns, hide))
            if policy.screens is not None:
                hits = [hit for scan in scans for hit in scan.hits]
                screening.count_hits(hits, "request")
                screening.sealed(policy.screens, request.scanned, scans)
                enforce_screens(policy.screens, hits)
            if governance.pii is not None:
                for scan in scans:
                    for found in scan.findings:
                        metrics.findings.labels(found.entity).inc()
                personal_data(governance.pii, scans)
            with metrics.stage_seconds.labels("policy").time():
                ruling = ruled(scope.facts, governance)
                decision = scope.decision = ruling.decision(governance.version)
                if decision.verdict is Verdict.DENY:
                    raise PolicyDenied(decision.reason or _DENIED, policies=decision.policies)
                decision = scope.decision = wanted.stricter(decision, estimate.estimated_usd)
            with metrics.stage_seconds.labels("mask").time():
                full = self._kept.mode is ContentMode.FULL
                kept = prompt_of(request.fields, keep_text=True, salt=scope.salt) if full else None
                placeholders = self._kept.placeholders(governance, call)
                masking = partial(mask, governance, decision, request, scans, placeholders)
                masked = await OFFLOAD.run(scope.effort, turns, masking)
                if masked is not None:
                    kept_by_provider(request.fields)
                    request, scope.mask, scope.replaced = masked
                request = request.limited(
                    partial(apply_obligations, obligation=decision.obligation, call_type=call.call_type)
                )
                scope.request = request
            if self._kept.mode is ContentMode.REDACTED:
                kept = prompt_of(request.fields, keep_text=True, salt=scope.salt)
                kept = replace(kept, text=await self._kept.redacted(governance, call, kept.text))
            if kept is not None:
                scope.call = replace(call, prompt=kept)
            if decision.verdict is Verdict.REQUIRE_APPROVAL:
                with metrics.stage_seconds.labels("approval").time():
                    call_facts.check_shown(request.stored, decision.policies)
                    edit = partial(self._edit, scope, call, request, scans)
                    scope.approval = await self._gate.admit(self._asked(scope, call, request, ruling, wanted, edit))
        except GovernanceError as error:
            if error.policies and (scope.decision is None or scope.decision.verdict is Verdict.ALLOW):
                # The name of a field that is not known is the caller's word, and no word of theirs is kept.
                reason = _WITHOUT_PLACE.get(error.policies, error.message)
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
        request: CanonicalRequest,
        scans: Sequence[Scan],
        edit: Edit,
        approved: tuple[str, ...],
    ) -> None:
        """Do to the request what an approver made of it, and ask the policy again: it must allow exactly that.

        Args:
            approved: ids of the rules that were approved.

        Raises:
            PolicyDenied, LimitExceeded: it is not.
        """
        governance = scope.governance
        assert governance is not None
        if edit.model is not None and not await call.terms.may_use(edit.model):
            raise PolicyDenied("An approver chose a model that your key may not use. Ask for another approval.")
        # What it would cost as it is now: a placeholder is longer than what it stands for.
        before = (await self._estimate(scope, call, request)).estimated_usd
        request = scope.request = obligations.edit(request, edit)
        edited = replace(call, model=edit.model or call.model)
        estimate = await self._estimate(scope, edited, request)
        limits.check(estimate, ceiling(call, governance.policy), governance.policy.limits)
        _note_costs(scope, estimate)
        scope.facts = call_facts.facts_of(edited, request, estimate, scans, scope.started_at)
        if before and scope.facts.cost.estimated_usd > before:
            raise PolicyDenied("What an approver made of this request would cost more. Ask for another approval.")
        ruling = ruled(scope.facts, governance)
        wanting = {rule.id for rule in ruling.matched if rule.policy.verdict is Verdict.REQUIRE_APPROVAL}
        if ruling.verdict is Verdict.DENY or not wanting <= set(approved):
            scope.decision = ruling.decision(governance.version)
            denied = ruling.reason or _DENIED if ruling.verdict is Verdict.DENY else _WANTS_ANOTHER
            raise PolicyDenied(denied, policies=scope.decision.policies)
        if changed_by(request, ruling.obligation) or (
            ruling.obligation.mask and scope.decision is not None and not scope.decision.obligation.mask
        ):
            raise PolicyDenied(
                "The policy would change what an approver made of this request. Ask for another approval."
            )

    async def _estimate(self, scope: CallScope, call: GovernedCall, request: CanonicalRequest) -> Estimate:
        model = call.model or ""
        await self._prices.prepare(model, [part.text for part in request.texts])
        return await OFFLOAD.run(scope.effort, call.caller.turns, partial(self._prices.estimate, request, model))

    def _asked(
        self,
        scope: CallScope,
        call: GovernedCall,
        request: CanonicalRequest,
        ruling: Ruling,
        wanted: CallerOptions,
        edit: Callable[[Edit, tuple[str, ...]], Awaitable[None]],
    ) -> Asked:
        """What people are asked about: the call as it would go upstream now."""
        assert scope.governance is not None and scope.facts is not None and scope.decision is not None  # noqa: PT018
        wanting = [rule.policy for rule in ruling.matched if rule.policy.verdict is Verdict.REQUIRE_APPROVAL]
        return Asked(
            caller=audit_line.caller_facts(call),
            # So that who approved a call through the gateway did not approve one that it does not see.
            route=f"{call.route} (library mode)" if call.library else call.route,
            model=clean(request.model),
            policy_version=scope.governance.version,
            rules=tuple(rule.id for rule in wanting) if wanting else (BY_CALLER,),
            reason=scope.decision.reason,
            approvers=[rule.approvers for rule in wanting],
            body=self._kept.repeatable(call, scope.mask, request.fields),
            summary=call_facts.summary(call, request, scope.facts),
            keys=self._keys,
            most_open=scope.governance.policy.approvals.max_open_per_key,
            values=scope.mask.originals if scope.mask is not None else {},
            approval_id=call.terms.approval_id,
            wishes=wanted,
            left=scope.left,
            edit=edit,
        )

    def reconsider(self, scope: CallScope, model: str) -> None:
        """Decide again on a call that the proxy is about to send to another model than it was admitted for.

        Raises:
            GovernanceError: that model may not have it, or another attempt might cost more than the call may.
        """
        _check_attempts(scope)
        if model in scope.models or scope.governance is None or scope.facts is None or scope.call is None:
            return
        facts = replace(scope.facts, request=replace(scope.facts.request, model=model))
        decision = ruled(facts, scope.governance).decision(scope.governance.version)
        approval = scope.approval
        # Who approved another model did not approve this one.
        chosen = approval is not None and approval.edit is not None and approval.edit.model is not None
        approved = approval is not None and not chosen and set(approval.rule_ids) >= set(decision.policies)
        if decision.verdict is Verdict.DENY or (decision.verdict is Verdict.REQUIRE_APPROVAL and not approved):
            metrics.blocks.labels(PolicyDenied.code).inc()
            scope.decision = decision
            raise PolicyDenied(decision.reason or _DENIED, policies=decision.policies)
        scope.models.add(model)


def _note_costs(scope: CallScope, estimate: Estimate) -> None:
    """Note what one attempt may cost, and what of that is for what it says."""
    usd, outside = estimate.estimated_usd, estimate.output_usd_per_token
    scope.attempt_usd = usd
    # Where an answer is not paid by token, there is no telling what of the price is for it.
    scope.input_usd = usd if usd is None or outside is None else max(usd - outside * estimate.max_output_tokens, 0.0)


_MAY_BE_BILLED = (
    "The provider did not answer in time, and may charge for that. Another attempt might cost more, together with it, "
    "than one request may. Try again, or have an administrator raise the limit."
)


def _check_attempts(scope: CallScope) -> None:
    """See to it that a call's limit holds for all of its attempts that may be billed.

    Raises:
        LimitExceeded: with another one, it might not.
    """
    unanswered = sum(each.unanswered for each in scope.attempts)
    if not unanswered or scope.attempt_usd is None or scope.call is None or scope.governance is None:
        return
    most = ceiling(scope.call, scope.governance.policy).max_cost_usd
    if most is not None and scope.attempt_usd * (unanswered + 1) > most:
        metrics.blocks.labels(LimitExceeded.code).inc()
        raise LimitExceeded(_MAY_BE_BILLED, policies=("limits",))


def read(
    call_type: str, body: MutableMapping[str, Any], names: CallerNames, is_note: Callable[[str], bool]
) -> CanonicalRequest:
    """Read a call's body; see `canonical_request`.

    Raises:
        ContentBlocked: its shape is not understood.
        InvalidRequest: a field has a wrong type.
    """
    try:
        return canonical_request(call_type, body, names, is_note)
    except UnknownShape as error:
        metrics.stage_errors.labels("read", "unknown_shape").inc()
        raise ContentBlocked(
            f"The request is not understood, so text could hide in it: {error}. Leave that out, or update Gatehouse.",
            policies=SHAPE,
        ) from None


def ruled(facts: Facts, governance: PolicyInForce) -> Ruling:
    """What the rules say, which is counted."""
    ruling = governance.loaded.rules.evaluate(facts)
    for rule in ruling.matched:
        metrics.rules_matched.labels(rule.id, "enforce").inc()
    for rule_id in ruling.observed:
        metrics.rules_matched.labels(rule_id, "observe").inc()
    for _ in ruling.errors:
        metrics.stage_errors.labels("policy", "rule").inc()
    return ruling


def ceiling(call: GovernedCall, policy: Policy) -> Ceiling:
    """The strictest of what policy, key, team and caller allow one request."""
    terms = call.terms
    return limits.ceiling(
        policy.limits, terms.key_metadata, terms.team_metadata, terms.headers, key_name=call.caller.key_alias
    )
