"""The metrics of notifications, beside the gateway's others in `core.metrics`."""

from __future__ import annotations

from prometheus_client import Counter

notifications = Counter(
    "gatehouse_notifications_total",
    "Attempts to notify an address: sent, failed and to be tried again, or dead after the last one.",
    ["type", "result"],
)
