"""What says how the parts of the gateway are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

HealthCheck = Callable[[], Awaitable[dict[str, Any]]]
