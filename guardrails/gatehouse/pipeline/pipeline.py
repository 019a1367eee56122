"""The stages of a call, in order: `admit` before anything goes upstream, `settle` exactly once after.

Transport stays outside: the plugin and the middleware turn LiteLLM's and ASGI's events into calls of these functions.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import psycopg

from gatehouse.approvals.gate import Gate
from gatehouse.capsule.document import ContentMode
from gatehouse.core import metrics
from gatehouse.core.call import GovernedCall, Usage
from gatehouse.core.decision import Decision, Verdict
from gatehouse.core.errors import BudgetExceeded, GovernanceError, GovernanceUnavailable
from gatehouse.core.keys import InstallationKeys
from gatehouse.dialects.call_types import TRANSCRIPTION, call_type_of
from gatehouse.dialects.canonical import canonical_request
from gatehouse.dialects.parts import UnknownShape
from gatehouse.dialects.stored_responses import Action, StoredResponse
from gatehouse.dialects.tags import Tags
from gatehouse.guards.offload import OFFLOAD
from gatehouse.guards.pii.masking import Mask
from gatehouse.ledger.intent_writer import exceeded
from gatehouse.ledger.recorder import Recorder
from gatehouse.ledger.rows import IntentRow, PromptRow
from gatehouse.ledger.settlement import decision_row
from gatehouse.ledger.store.budgets import Full
from gatehouse.pipeline.admission import Admission
from gatehouse.pipeline.conversations import Conversations, Remembered
from gatehouse.pipeline.in_force import PolicyInForce
from gatehouse.pipeline.money import attempts_to_reserve, reserve
from gatehouse.pipeline.response import Answers
from gatehouse.pipeline.retention import Retention, note_prompt
from gatehouse.pipeline.scope import CallScope, Considered
from gatehouse.pipeline.screening import screen
from gatehouse.pipeline.sessions import StoppedSessions
from gatehouse.pipeline.settlement import CallSettlement, approved_by, recorded_facts, request_facts

if TYPE_CHECKING:
    from gatehouse.pricing.estimate import Prices


ReserveMore = Callable[[UUID, float], Awaitable[Full | None]]

# The call types whose answers a provider may sign.
_SIGNED: Final = frozenset(
    ("completion", "acompletion", "anthropic_messages", "responses", "aresponses", "aget_responses")
)


class Pipeline:
    """Decides on calls and writes them down.

    Args:
        governance: says what is in force now.
        gate: holds what people must approve.
        prices: estimates what a request may use.
        keys: what placeholders and keyed hashes are made with.
        conversations: keeps what providers' stored answers need.
        is_note: says of a name that no API has whether the proxy keeps something under it beside a request.
        sessions: knows which sessions are stopped.
        reserve_more: reserves dollars for a call under way, or returns the budget that has no room for them.
        report_within_s: how long a caller who calls the model themselves has to say how it ended.
    """

    def __init__(
        self,
        recorder: Recorder,
        governance: Callable[[], PolicyInForce],
        gate: Gate,
        prices: Prices,
        keys: InstallationKeys,
        conversations: Conversations,
        is_note: Callable[[str], bool],
        sessions: StoppedSessions,
        report_within_s: float = 900.0,
        reserve_more: ReserveMore | None = None,
    ) -> None:
        self.report_within_s = report_within_s
        self._recorder = recorder
        self._reserve_more = reserve_more
        self._governance = governance
        self._gate = gate
        audit = governance().policy.audit
        self._retention = Retention(ContentMode(audit.content), keys)
        self.keeps_text = self._retention.keeps_text
        self._tags = Tags(keys)
        self._conversations = conversations
        self._deciding = Admission(gate, prices, self._retention, keys, conversations, is_note, sessions)
        endings = CallSettlement(recorder, self._retention, by_team=audit.chain == "team")
        self._prices = prices
        self.reconsider = self._deciding.reconsider
        self.ended, self.conclude, self.note_delivered = endings.ended, endings.conclude, endings.note_delivered

    async def admit(self, scope: CallScope, call: GovernedCall, body: MutableMapping[str, Any]) -> Mapping[str, str]:
        """Let a call through, with `body` as it may go upstream, or raise. Its intent is committed when this returns.

        Returns:
            what each text that was masked is now.

        Raises:
            GovernanceError: the call is refused; nothing was sent.
        """
        scope.call = call
        try:
            return await self._admit(scope, call, body)
        finally:
            note_prompt(scope)  # of what is refused too

    async def _admit(self, scope: CallScope, call: GovernedCall, body: MutableMapping[str, Any]) -> Mapping[str, str]:
        if scope.governance is None:
            scope.governance = self._governance()
        if not scope.governance.ready:
            raise GovernanceUnavailable("The gateway is still starting. Try again soon.")
        replaced = await self._deciding.decide(scope, call, body, scope.governance)
        if not scope.intent:
            await self._commit_intent(scope, call, scope.governance)
        return replaced

    async def _commit_intent(self, scope: CallScope, call: GovernedCall, governance: PolicyInForce) -> None:
        # Where nothing can be taken down the call is refused at once, and its line is all that is kept of it.
        scope.intent_tried = self._recorder.accepting
        intent: IntentRow = {
            "call_id": str(scope.call_id),
            "started_at": scope.started_at.isoformat(),
            "request": request_facts(scope),
            "decision": decision_row(scope.considered.decision, recorded_facts(scope), approved_by(scope.approval)),
        }
        reserve(intent, scope, governance.policy.limits)
        if call.library:
            intent["report_within_s"] = self.report_within_s
            intent["prompt"] = self._reported_prompt(note_prompt(scope), governance, scope.salt)
        try:
            with metrics.intent_seconds.time():
                await asyncio.gather(self._recorder.open(intent), _note_prompt_meanwhile(scope))
        except GovernanceError as error:
            if error.policies:  # a budget has no room for it
                metrics.blocks.labels(error.code).inc()
                denied = Decision(Verdict.DENY, error.policies, governance.version, error.message)
                scope.considered = replace(scope.considered, decision=denied)
            # People need not decide again on what was not sent.
            passed = scope.let_through
            if passed and passed.approval is not None and await self._gate.give_back(passed.approval):
                scope.let_through = replace(passed, approval=None)
            raise
        scope.intent = True

    def cost(self, call_type: str, model: str, deployment: str | None, usage: Usage) -> float | None:
        """Return what an answer costs that used these tokens; None where its price is not known, or is not by token."""
        return self._prices.cost(call_type, model, deployment, usage)

    async def reserve_again(self, scope: CallScope) -> None:
        """See to it that budgets have room for one more attempt beside those that may be billed without an answer.

        Raises:
            GovernanceError: they have none, or the database cannot be asked.
        """
        more, passed = attempts_to_reserve(scope.sending), scope.let_through
        usd = more * ((passed and passed.attempt_usd) or 0.0)
        if not usd or self._reserve_more is None:
            return
        try:
            full = await self._reserve_more(scope.call_id, usd)
        except (TimeoutError, psycopg.Error, OSError):
            raise GovernanceUnavailable("The budget cannot be asked for another attempt. Try again soon.") from None
        if full is not None:
            metrics.blocks.labels(BudgetExceeded.code).inc()
            raise exceeded(full, usd)
        scope.sending.reserved += more

    async def admit_about(self, scope: CallScope, call: GovernedCall, about: StoredResponse) -> str:
        """Let a request about a stored response through, for the key that made it. Its intent is committed then.

        Returns:
            the id by which LiteLLM finds the response.

        Raises:
            GovernanceError: the request is refused; nothing was sent.
        """
        scope.call = call
        if scope.governance is None:
            scope.governance = self._governance()
        if not scope.governance.ready:
            raise GovernanceUnavailable("The gateway is still starting. Try again soon.")
        try:
            kept = await self._deciding.decide_about(scope, call, about, scope.governance)
        except GovernanceError as error:
            metrics.blocks.labels(error.code).inc()
            raise
        await self._commit_intent(scope, scope.call, scope.governance)
        return kept.routed

    async def _forget_deleted(self, scope: CallScope, about: StoredResponse) -> None:
        owner = scope.call and scope.call.caller.key_hash
        if about.action is Action.DELETE and scope.ending.http_status == 200 and owner:
            await self._conversations.forget(owner, about.id)

    def note_refused(self, scope: CallScope, body: MutableMapping[str, Any]) -> None:
        """Note what was asked in a call that the proxy refused before a stage saw it; leave out what cannot be read."""
        call_type = call_type_of(scope.route) or TRANSCRIPTION
        with contextlib.suppress(GovernanceError, UnknownShape):
            # None of it is sent, so what LiteLLM noted of the refusal beside it need not be known.
            request = canonical_request(call_type, body, scope.incoming.names, lambda _: True)
            scope.considered = Considered(request)
        note_prompt(scope)

    def _reported_prompt(self, call: GovernedCall, governance: PolicyInForce, salt: bytes) -> PromptRow:
        """What is kept of a call that its caller makes, for whichever gateway hears how it ended."""
        prompt, mode = call.prompt, self._retention.mode
        kept: PromptRow = {"hash": prompt.hash, "text": prompt.text, "mode": mode.value, "salt": salt.hex()}
        if mode is ContentMode.REDACTED:
            kept["scope"] = self._retention.scope(governance, call)
        return kept

    def answers(self, scope: CallScope) -> Answers | None:
        """What the answer to this call must pass; None where it may pass as it is."""
        governance, mask, asked = scope.governance, scope.mask, scope.asked_screens
        if scope.call is None or governance is None:
            return None
        screens = asked is not None or (governance.answers is not None and governance.policy.screens is not None)
        # Where nothing is scanned, nothing has to be known again.
        tagging = (screens or governance.scanner is not None) and scope.call.call_type in _SIGNED
        if mask is None and not screens and not tagging:
            return None
        look = partial(screen, governance, asked=asked) if screens else None
        tags = self._tags if tagging else None
        if (about := scope.about) is None:
            return Answers(scope.call.call_type, mask, look, tags)
        after = about.parameters.get("starting_after", -1)
        return Answers(scope.call.call_type, mask, look, tags, shown_id=about.id.id, after=after)

    async def keep(self, scope: CallScope, answers: Answers) -> None:
        """Keep the way back of what the provider stores, before the caller reads the answer's id."""
        if scope.about is not None:
            await self._forget_deleted(scope, scope.about)
            return
        stored = scope.stored
        if stored is None or not (ids := answers.ids_due(first=stored.row is None)):
            return
        model = (scope.call and scope.call.model) or ""
        known = await OFFLOAD.run(scope.incoming.effort, scope.turns, partial(_known, scope.mask, model))
        if not await self._conversations.keep(stored, ids, known):
            scope.stored = None

    def block_answer(self, scope: CallScope, error: GovernanceError) -> None:
        """Note that the answer was not passed on, or not to its end."""
        scope.ending.blocked = error
        metrics.blocks.labels(error.code).inc()

    async def heard(self, answer: str | None, scope: str, caller: str) -> tuple[str | None, GovernanceError | None]:
        """Look at an answer that a caller had from the model themselves.

        Args:
            scope: where the same value has the same placeholder as in their call.
            caller: whose turns at the scanner it takes.

        Returns:
            what is kept of it, and why it would not have been passed on.
        """
        governance = self._governance()
        if answer is None:
            return None, None
        try:
            screen(governance, answer)
        except GovernanceError as blocked:
            metrics.blocks.labels(blocked.code).inc()
            return None, blocked
        if self._retention.mode is ContentMode.REDACTED:
            return await self._retention.redacted_in(governance, scope, answer, caller), None
        return (answer if self._retention.keeps_text else None), None


def _known(mask: Mask | None, model: str) -> Remembered:
    if mask is None:
        return Remembered(model=model)
    return Remembered(mask.values, mask.links.hosts if mask.links is not None else frozenset(), model)


async def _note_prompt_meanwhile(scope: CallScope) -> None:
    for _ in range(2):  # turns of the loop: then the intent is on its way, and Postgres works on it during this
        await asyncio.sleep(0)
    note_prompt(scope)
