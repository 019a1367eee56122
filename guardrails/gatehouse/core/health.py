"""The type of the function that reports the health of the gateway's parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

HealthCheck = Callable[[], Awaitable[dict[str, Any]]]
