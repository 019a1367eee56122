"""What is written down of prompts and answers: as policy.yaml's `audit.content` says."""

from __future__ import annotations

from dataclasses import replace

from gatehouse import metrics
from gatehouse.audit.capsule import Content, ContentMode
from gatehouse.call import CallScope, GovernedCall, Outcome, Prompt
from gatehouse.content import prompt_of
from gatehouse.governance import Governance
from gatehouse.pii.findings import ScanFailed
from gatehouse.pii.masking import Mask


class Kept:
    """One way of keeping content.

    Attributes:
        mode: hashes alone, texts with personal data masked, or all of them.
    """

    def __init__(self, mode: ContentMode) -> None:
        self.mode = mode

    @property
    def keeps_text(self) -> bool:
        """Whether prompts and answers are written down, not only their hashes."""
        return self.mode is not ContentMode.HASH

    async def redacted(self, governance: Governance, text: str | None) -> str | None:
        """The text with all personal data masked; None where it could not be scanned."""
        if text is None or governance.scanner is None or governance.redaction is None:
            return None
        try:
            (scan,) = await governance.scanner.scan([text])
        except ScanFailed as failed:
            metrics.stage_errors.labels("redact", failed.reason).inc()
            return None
        return Mask([text]).mask(text, scan.findings, governance.redaction)

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
    if scope.call.prompt.hash is None and scope.request is not None:
        scope.call = replace(scope.call, prompt=prompt_of(scope.request.fields, keep_text=False))
    return scope.call
