"""The stages of a call, in order: `admit` before anything goes upstream, `settle` exactly once after.

Transport stays outside: the plugin and the middleware turn LiteLLM's and ASGI's events into calls of these functions.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from gatehouse.approvals.gate import Gate
from gatehouse.capsule.document import ContentMode
from gatehouse.core import metrics
from gatehouse.core.call import GovernedCall, Outcome
from gatehouse.core.decision import Decision
from gatehouse.core.errors import GovernanceError, GovernanceUnavailable
from gatehouse.core.keys import InstallationKeys
from gatehouse.dialects import UnknownShape
from gatehouse.dialects.call_types import TRANSCRIPTION, call_type_of
from gatehouse.dialects.canonical import canonical_request
from gatehouse.ledger.recorder import Recorder
from gatehouse.ledger.settlement import decision_row
from gatehouse.pipeline.admission import Admission
from gatehouse.pipeline.in_force import PolicyInForce
from gatehouse.pipeline.response import Answers, answers_of
from gatehouse.pipeline.retention import Retention, note_prompt
from gatehouse.pipeline.scope import CallScope
from gatehouse.pipeline.screening import screen
from gatehouse.pipeline.settlement import CallSettlement, approved_by, request_facts

if TYPE_CHECKING:
    from gatehouse.pricing.estimate import Prices


class Pipeline:
    """Decides on calls and writes them down.

    Args:
        governance: says what is in force now.
        gate: holds what people must approve.
        prices: estimates what a request may use.
        keys: what placeholders and keyed hashes are made with.
        is_note: says of a name that no API has whether the proxy keeps something under it beside a request.
        report_within_s: how long a caller who calls the model themselves has to say how it ended.
    """

    def __init__(
        self,
        recorder: Recorder,
        governance: Callable[[], PolicyInForce],
        gate: Gate,
        prices: Prices,
        keys: InstallationKeys,
        is_note: Callable[[str], bool],
        report_within_s: float = 900.0,
    ) -> None:
        self.report_within_s = report_within_s
        self._recorder = recorder
        self._governance = governance
        self._gate = gate
        audit = governance().policy.audit
        self._kept = Retention(ContentMode(audit.content), keys)
        self._deciding = Admission(gate, prices, self._kept, keys, is_note)
        self._endings = CallSettlement(recorder, self._kept, by_team=audit.chain == "team")

    async def admit(self, scope: CallScope, call: GovernedCall, body: MutableMapping[str, Any]) -> Decision:
        """Let a call through, with `body` as it may go upstream, or raise. Its intent is committed when this returns.

        Raises:
            GovernanceError: the call is refused; nothing was sent.
        """
        scope.call = call
        try:
            return await self._admit(scope, call, body)
        finally:
            note_prompt(scope)  # of what is refused too

    async def _admit(self, scope: CallScope, call: GovernedCall, body: MutableMapping[str, Any]) -> Decision:
        if scope.governance is None:
            scope.governance = self._governance()
        if not scope.governance.ready:
            raise GovernanceUnavailable("The gateway is still starting. Try again soon.")
        decision = await self._deciding.decide(scope, call, body, scope.governance)
        if not scope.intent:
            # Where nothing can be taken down the call is refused at once, and its line is all that is kept of it.
            scope.intent_tried = self._recorder.accepting
            facts = scope.facts and scope.facts.renamed(scope.hidden)
            intent = {
                "call_id": str(scope.call_id),
                "started_at": scope.started_at.isoformat(),
                "request": request_facts(scope),
                "decision": decision_row(decision, facts, approved_by(scope.approval)),
                **(self._to_report(note_prompt(scope), scope.governance, scope.salt) if call.library else {}),
            }
            try:
                with metrics.intent_seconds.time():
                    await asyncio.gather(self._recorder.open(intent), _note_prompt_meanwhile(scope))
            except GovernanceUnavailable:
                # People need not decide again on what was not sent.
                if scope.approval is not None and await self._gate.give_back(scope.approval):
                    scope.approval = None
                raise
            scope.intent = True
        return decision

    def note_refused(self, scope: CallScope, body: MutableMapping[str, Any]) -> None:
        """Note what was asked in a call that the proxy refused before a stage saw it; leave out what cannot be read."""
        call_type = call_type_of(scope.route) or TRANSCRIPTION
        with contextlib.suppress(GovernanceError, UnknownShape):
            # None of it is sent, so what LiteLLM noted of the refusal beside it need not be known.
            scope.request = canonical_request(call_type, body, scope.names, lambda _: True)
        note_prompt(scope)

    def _to_report(self, call: GovernedCall, governance: PolicyInForce, salt: bytes) -> dict[str, Any]:
        """What is kept of a call that its caller makes, for whichever gateway hears how it ended."""
        prompt = {"hash": call.prompt.hash, "text": call.prompt.text, "mode": self._kept.mode.value, "salt": salt.hex()}
        if self._kept.mode is ContentMode.REDACTED:
            prompt["scope"] = self._kept.scope(governance, call)
        return {"report_within_s": self.report_within_s, "prompt": prompt}

    def reconsider(self, scope: CallScope, model: str) -> None:
        """Decide again on a call that the proxy is about to send to another model than it was admitted for.

        Raises:
            GovernanceError: that model may not have it.
        """
        self._deciding.reconsider(scope, model)

    def answers(self, scope: CallScope) -> Answers | None:
        """What the answer to this call must pass; None where it may pass as it is."""
        return answers_of(scope)

    def block_answer(self, scope: CallScope, error: GovernanceError) -> None:
        """Note that the answer was not passed on, or not to its end."""
        scope.answer_blocked = error
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
        if self._kept.mode is ContentMode.REDACTED:
            return await self._kept.redacted_in(governance, scope, answer, caller), None
        return (answer if self._kept.keeps_text else None), None

    @property
    def keeps_text(self) -> bool:
        """Whether prompts and answers are written down, not only their hashes."""
        return self._kept.keeps_text

    async def ended(self, scope: CallScope, outcome: Outcome) -> None:
        """Note how the model's part ended; the call is settled once its connection is over too."""
        await self._endings.ended(scope, outcome)

    def conclude(self, scope: CallScope) -> None:
        """Settle a call whose connection is over, from what is known of how it ended."""
        self._endings.conclude(scope)


async def _note_prompt_meanwhile(scope: CallScope) -> None:
    for _ in range(2):  # turns of the loop: then the intent is on its way, and Postgres works on it during this
        await asyncio.sleep(0)
    note_prompt(scope)
