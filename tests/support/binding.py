"""Makes digests of requests for tests."""

from __future__ import annotations

from typing import Any

from gatehouse.approvals.binding import bind


def digest(**said: Any) -> str:
    """Return the digest of a request; the arguments are those of `bind`."""
    return bind(**said).digest
