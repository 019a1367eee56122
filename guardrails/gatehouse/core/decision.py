"""The decision on one call, as frozen values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """Say what may happen to a call. The members are ordered from the most lenient to the strictest."""

    ALLOW = "allow"
    REQUIRE_APPROVAL = "require_approval"
    DENY = "deny"

    @property
    def strictness(self) -> int:
        """Return the rank of this verdict; 0 is the most lenient."""
        return _STRICTNESS[self]


_STRICTNESS = {verdict: strictness for strictness, verdict in enumerate(Verdict)}


@dataclass(frozen=True, slots=True)
class Obligation:
    """Say what must be done to a call before it is sent. The default asks for nothing.

    Attributes:
        mask: mask personal data, whatever policy.yaml's `pii` says.
        downgrade_to: the model that answers instead of the requested one.
        max_tokens: the most output tokens that the call may request.
        tags: names recorded with the call.
    """

    mask: bool = False
    downgrade_to: str | None = None
    max_tokens: int | None = None
    tags: tuple[str, ...] = ()

    @classmethod
    def merged(cls, obligations: Iterable[Obligation]) -> Obligation:
        """Combine obligations: the smallest `max_tokens`, the first `downgrade_to`, and each tag once, in order."""
        all_of = tuple(obligations)
        return cls(
            mask=any(each.mask for each in all_of),
            downgrade_to=next((each.downgrade_to for each in all_of if each.downgrade_to is not None), None),
            max_tokens=min((each.max_tokens for each in all_of if each.max_tokens is not None), default=None),
            tags=tuple(dict.fromkeys(tag for each in all_of for tag in each.tags)),
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """Hold the verdict on one call, the ids of the rules behind it, and the policy that was in force.

    Attributes:
        policies: ids of the rules that matched, in the file's order.
        policy_version: the SHA-256 of policy.yaml as lower-case hex.
        reason: the explanation for the caller.
        observed: ids of the rules in `mode: observe` that matched; they changed nothing.
        obligation: what must be done to the call before it is sent.
    """

    verdict: Verdict
    policies: tuple[str, ...]
    policy_version: str
    reason: str | None = None
    observed: tuple[str, ...] = ()
    obligation: Obligation = Obligation()
