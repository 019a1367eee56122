"""Runs admission without a server: with a policy in force, and stand-ins for prices, scanner and approvers."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from gatehouse.approvals.gate import ApprovalRequest
from gatehouse.approvals.model import Approval, Edit, State
from gatehouse.capsule.document import ContentMode
from gatehouse.core.call import Caller, CallerGrants, GovernedCall
from gatehouse.core.clock import monotonic, new_call_id, now
from gatehouse.dialects.canonical import CallerNames, CanonicalRequest
from gatehouse.guards.findings import Finding, ScanFailed
from gatehouse.guards.pii.config import Mode
from gatehouse.guards.scan import Scan
from gatehouse.guards.screens.hits import Hit
from gatehouse.pipeline.admission import Admission
from gatehouse.pipeline.in_force import PolicyInForce
from gatehouse.pipeline.retention import Retention
from gatehouse.pipeline.scope import CallScope, Incoming
from gatehouse.pipeline.sessions import StoppedSessions
from gatehouse.policy.limits import Estimate
from gatehouse.policy.load import read_policy
from gatehouse.policy.pii_section import pii_config

from tests.support.conversations import Conversations
from tests.support.masking import KEYS

CHAT = "/v1/chat/completions"
MAIL = "ada@example.com"
_FOUND = re.compile(r"[\w.]+@[\w.]+\w|OVERRIDE")


@dataclass
class Prices:
    """Knows the prices of the models that a test names, and of no others."""

    usd: dict[str, float] = field(default_factory=lambda: {"m": 1.0, "small": 0.5, "dear": 2.0})

    async def prepare(self, model: str, texts: Sequence[str]) -> None:
        """Prepare nothing."""

    def estimate(self, request: CanonicalRequest, model: str) -> Estimate:
        return Estimate(model, 10, 100, self.usd.get(model), 0.001, 0.001, "config")


@dataclass
class Scanner:
    """Finds addresses and the word OVERRIDE, or fails when a test says so."""

    fails: ScanFailed | None = None
    seen: list[str] = field(default_factory=list)

    async def scan(self, texts: Sequence[str], caller: str) -> list[Scan]:
        if self.fails is not None:
            raise self.fails
        return await self.scan_if_possible(texts, caller)

    async def scan_if_possible(self, texts: Sequence[str], caller: str) -> list[Scan]:
        self.seen.extend(texts)
        return [Scan() if self.fails is not None else _scanned(text) for text in texts]


def _scanned(text: str) -> Scan:
    found = list(_FOUND.finditer(text))
    return Scan(
        tuple(Finding("EMAIL_ADDRESS", *each.span(), 1.0) for each in found if "@" in each[0]),
        tuple(Hit("prompt_injection", "override", *each.span(), 1.0) for each in found if "@" not in each[0]),
    )


class Gate:
    """Approves at once, with an edit of the request when the test gives one."""

    def __init__(self, edit: Edit | None = None, answer: Exception | None = None) -> None:
        self.edit = edit
        self.answer = answer
        self.asked: list[ApprovalRequest] = []
        self.returned: list[Approval] = []

    async def admit(self, asked: ApprovalRequest) -> Approval:
        self.asked.append(asked)
        if self.answer is not None:
            raise self.answer
        if self.edit is not None:
            assert asked.edit is not None
            await asked.edit(self.edit, asked.rules)
        return approval(asked.rules, self.edit)

    async def give_back(self, used: Approval) -> bool:
        self.returned.append(used)
        return True


def approval(rules: Sequence[str], edit: Edit | None = None) -> Approval:
    """Return an approval that was given under these rules."""
    return Approval(
        UUID(int=1), "0" * 64, State.APPROVED, {}, None, CHAT, "m", tuple(rules), None, "v", {}, now(), now(), edit=edit
    )


async def _any_model(_: str) -> bool:
    return True


class Case:
    """Holds one call on its way to a decision.

    Args:
        policy: of policy.yaml, what comes after its version.
        text: what it asks.
        body: further fields of its request.
    """

    def __init__(
        self,
        folder: Path,
        policy: str,
        text: str = "hello",
        *,
        gate: Gate | None = None,
        scanner: Scanner | None = None,
        mode: ContentMode = ContentMode.HASH,
        may_use: Callable[[str], Awaitable[bool]] = _any_model,
        headers: dict[str, str] | None = None,
        call_type: str = "acompletion",
        **body: Any,
    ) -> None:
        self.gate, self.scanner, self.prices = gate or Gate(), scanner or Scanner(), Prices()
        self.retention = Retention(mode, KEYS)
        self.stopped: frozenset[tuple[str, str]] = frozenset()
        self.sessions = StoppedSessions(self._stopped)
        self.conversations = Conversations()
        self.admission = Admission(
            self.gate,  # type: ignore[arg-type]
            self.prices,  # type: ignore[arg-type]
            self.retention,
            KEYS,
            self.conversations,  # type: ignore[arg-type]
            lambda _: False,
            self.sessions,
        )
        self.governance = in_force(folder, policy, self.scanner)
        field = "input" if call_type == "aresponses" else "messages"
        self.body: dict[str, Any] = {"model": "m", field: [{"role": "user", "content": text}], **body}
        self.said = self.body[field]
        self.scope = CallScope(
            new_call_id(), CHAT, now(), monotonic(), incoming=Incoming(names=CallerNames.of(self.body))
        )
        self.call = GovernedCall(
            self.scope.call_id,
            self.scope.started_at,
            CHAT,
            call_type,
            self.body["model"],
            stream=False,
            caller=Caller(key_hash="k", team="t", team_id="t"),
            grants=CallerGrants(headers=headers or {}, may_use=may_use),
        )
        self.scope.call, self.scope.governance = self.call, self.governance

    async def _stopped(self) -> frozenset[tuple[str, str]]:
        return self.stopped

    async def decide(self) -> None:
        self.replaced = await self.admission.decide(self.scope, self.call, self.body, self.governance)

    @property
    def text(self) -> str:
        """Return the text that would be sent now."""
        return str(self.said[0]["content"])


def in_force(folder: Path, policy: str, scanner: Scanner | None = None) -> PolicyInForce:
    """Return a policy in force with a stand-in for its scanner."""
    path = folder / "policy.yaml"
    path.write_text(f"version: 1\n{policy}")
    loaded, _ = read_policy(path)
    pii = loaded.policy.pii and pii_config(loaded.policy.pii)
    redaction = pii and replace(pii, entities=dict.fromkeys(pii.wanted, Mode.MASK))
    return PolicyInForce(loaded, pii, redaction, redaction, scanner=scanner)  # type: ignore[arg-type]
