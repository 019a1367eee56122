"""What is written down of prompts and answers: as policy.yaml's `audit.content` says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gatehouse.capsule.document import Content, ContentMode
from gatehouse.core import metrics
from gatehouse.core.call import GovernedCall, Outcome, Prompt
from gatehouse.core.keys import InstallationKeys, Purpose
from gatehouse.dialects.prompt import prompt_of
from gatehouse.guards.findings import ScanFailed
from gatehouse.guards.pii.masking import Mask, Placeholders, scope_of
from gatehouse.pipeline.in_force import PolicyInForce
from gatehouse.pipeline.scope import CallScope


class Retention:
    """One way of keeping content.

    Args:
        keys: what placeholders are made with.

    Attributes:
        mode: hashes alone, texts with personal data masked, or all of them.
    """

    def __init__(self, mode: ContentMode, keys: InstallationKeys) -> None:
        self.mode = mode
        self._masking = keys.key(Purpose.MASKING)

    @property
    def keeps_text(self) -> bool:
        """Whether prompts and answers are written down, not only their hashes."""
        return self.mode is not ContentMode.HASH

    def scope(self, governance: PolicyInForce, call: GovernedCall) -> str:
        """Where the same value has the same placeholder as in this call."""
        pii, caller = governance.policy.pii, call.caller
        kind = "team" if pii is None else pii.scope
        return scope_of(kind, team_id=caller.team_id, key_hash=caller.key_hash, call_id=call.call_id)

    def placeholders(self, governance: PolicyInForce, call: GovernedCall) -> Placeholders:
        """What a call's placeholders are made with, in the model's view of it and in the records."""
        return Placeholders(self._masking, self.scope(governance, call))

    def repeatable(self, call: GovernedCall, mask: Mask | None, fields: dict[str, Any]) -> dict[str, Any]:
        """A masked request as it would be in every later call of its key, where placeholders are of one call alone.

        For what an approval is bound to; nothing of it is sent or shown.
        """
        if mask is None or mask.scope != scope_of("call", team_id=None, key_hash=None, call_id=call.call_id):
            return fields
        same = Placeholders(self._masking, f"approvals of {call.caller.key_hash}")
        return {name: mask.restated(value, same) for name, value in fields.items()}

    async def redacted(self, governance: PolicyInForce, call: GovernedCall, text: str | None) -> str | None:
        """The text with all personal data masked; None where it could not be scanned."""
        return await self.redacted_in(governance, self.scope(governance, call), text, call.caller.turns)

    async def redacted_in(self, governance: PolicyInForce, scope: str, text: str | None, caller: str) -> str | None:
        """As `redacted`, by the scope of a call that another gateway may have decided on.

        Args:
            caller: whose turns at the scanner it takes.
        """
        if text is None or governance.scanner is None or governance.redaction is None:
            return None
        try:
            (scan,) = await governance.scanner.scan([text], caller)
        except ScanFailed as failed:
            metrics.stage_errors.labels("redact", failed.reason).inc()
            return None
        return Placeholders(self._masking, scope).redact(text, scan.findings, governance.redaction)

    def of(self, scope: CallScope, outcome: Outcome) -> Content:
        """What is kept of a call that has ended."""
        prompt = scope.call.prompt if scope.call else Prompt()
        if not self.keeps_text:
            return Content(prompt_hash=prompt.hash)
        answer = outcome.answer
        if answer is not None and scope.mask is not None and self.mode is ContentMode.FULL:  # as the caller got it
            answer = scope.mask.unmask_json(answer)
        return Content(self.mode, prompt.text, answer, prompt.hash)


def note_prompt(scope: CallScope) -> GovernedCall:
    """Note what is asked, as it goes out, where that is not done yet."""
    assert scope.call is not None
    request = scope.considered.request
    if scope.call.prompt.hash is None and request is not None:
        prompt = prompt_of(request.fields, keep_text=False, salt=scope.salt)
        scope.call = replace(scope.call, prompt=prompt)
    return scope.call
