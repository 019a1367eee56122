"""The metrics of notifications, beside the gateway's others in `core.metrics`."""

from __future__ import annotations

from prometheus_client import Counter

notifications = Counter(
    "gatehouse_notifications_total",
    "Attempts to notify an address: sent, failed (tried again later), or dead after the last attempt.",
    ["type", "result"],
)
