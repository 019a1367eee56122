"""Digests of requests for tests."""

from __future__ import annotations

from typing import Any

from gatehouse.approvals.binding import bind


def digest(**said: Any) -> str:
    """The digest of a request, of what `bind` takes."""
    return bind(**said).digest
