"""The examples of docs/notifications.md hold."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from uuid import UUID

import pytest
from gatehouse.core.clock import now
from gatehouse.gateway.notification_senders import addresses
from gatehouse.notifications.messages import Notice, webhook_body
from gatehouse.policy.load import load_policy
from standardwebhooks import Webhook, WebhookVerificationError

PAGE = (Path(__file__).parents[3] / "docs" / "notifications.md").read_text()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.S)
    assert found is not None
    return found[1]


def test_the_policy_is_one_and_the_variables_hold_what_the_table_says(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(block("yaml"))
    entries = load_policy(tmp_path / "policy.yaml").policy.notifications
    for server in re.findall(r"`(smtp\S*://\S+?)`", PAGE):
        told = {
            "APPROVALS_WEBHOOK_SECRET": SECRET,
            "APPROVALS_SLACK_URL": "https://hooks.slack.example/T0",
            "APPROVALS_SMTP_URL": server,
        }
        assert [each.kind for each in addresses(entries, told)] == ["webhook", "slack", "email"]


def test_the_payload_is_what_is_sent() -> None:
    shown = json.loads(block("json"))
    data = dict(shown["data"])
    event = Notice(
        "evt_1",
        shown["type"],
        UUID(data.pop("approval_id")),
        datetime.fromisoformat(shown["timestamp"]),
        {name: value for name, value in data.items() if name != "url"},
    )
    assert webhook_body(event, "https://gate.example") == shown


def test_the_receiver_verifies() -> None:
    names: dict[str, object] = {}
    exec(block("python"), names)
    receive = names["receive"]
    assert callable(receive)
    at, body = now(), '{"type":"approval_requested"}'
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("evt_1", at, body),
    }
    assert receive(headers, body.encode(), SECRET) == {"type": "approval_requested"}
    with pytest.raises(WebhookVerificationError):
        receive(headers, body.encode() + b" ", SECRET)
