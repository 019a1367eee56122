"""What the pipeline decided about one call, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What may happen to a call; declared from the most lenient to the strictest."""

    ALLOW = "allow"
    REQUIRE_APPROVAL = "require_approval"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on one call, the ids of the rules behind it, and the policy it was made under.

    `policy_version` is the SHA-256 of policy.yaml as lower-case hex.
    """

    verdict: Verdict
    policies: tuple[str, ...]
    policy_version: str
    reason: str | None = None
