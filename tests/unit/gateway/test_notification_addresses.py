"""Mistakes in policy.yaml's `notifications` are named with their line, and secrets stand in the environment alone."""

from __future__ import annotations

from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from gatehouse.cli import main
from gatehouse.core import clock
from gatehouse.core.errors import SetupError
from gatehouse.gateway.notification_senders import addresses, public_url
from gatehouse.notifications.dispatcher import FIRST_RETRY_S, LAST_RETRY_S, backoff
from gatehouse.notifications.senders import retry_after
from gatehouse.policy.document import DocumentError
from gatehouse.policy.load import read_policy
from gatehouse.policy.model import NotificationPolicy

KEY = "whsec_" + "QUJD" * 10
WHOLE = """\
version: 1
notifications:
  - {type: webhook, url: "https://hooks.example/gatehouse", secret_env: HOOK_SECRET}
  - {type: slack, url_env: SLACK_URL}
  - {type: email, to: boss@example.com, from: gate@example.com, smtp_url_env: SMTP_URL}
"""
ENVIRON = {
    "HOOK_SECRET": KEY,
    "SLACK_URL": "https://hooks.slack.example/services/T0/B0/very-secret",
    "SMTP_URL": "smtp://gate:very%20secret@mail.example:2525",
}


def entries(folder: Path, text: str = WHOLE) -> tuple[NotificationPolicy, ...]:
    path = folder / "policy.yaml"
    path.write_text(text)
    return read_policy(path)[0].policy.notifications


def one(entry: str) -> str:
    return f"version: 1\nnotifications:\n  - {entry}\n"


def test_the_command_accepts_notifications_where_their_secrets_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policy.yaml").write_text(WHOLE)
    monkeypatch.setattr("sys.argv", ["gatehouse", "policy", "check", str(tmp_path / "policy.yaml")])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert "valid" in capsys.readouterr().out


def test_each_entry_becomes_an_address_named_without_a_secret(tmp_path: Path) -> None:
    made = addresses(entries(tmp_path), ENVIRON)
    assert [each.name for each in made] == [
        "webhook https://hooks.example/gatehouse",
        "slack SLACK_URL",
        "email boss@example.com",
    ]
    assert not any(secret in repr(made) for secret in ("very", "QUJD", "services"))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{type: webhook, url: 'https://h.example'}", "secret_env is missing"),
        ("{type: webhook, secret_env: A}", "url is missing"),
        ("{type: slack}", "url_env is missing"),
        ("{type: slack, url_env: A, to: a@b.c}", "type slack has no to; leave it out"),
        ("{type: email, to: a@b.example, smtp_url_env: A}", "from is missing"),
        ("{type: pager}", "'webhook', 'slack' or 'email'"),
        ("{type: slack, url_env: 'https://hooks.slack.example/T0'}", "never the secret itself"),
        ("{type: slack, url: 'https://hooks.slack.example/T0'}", "url_env is missing"),
        ("{type: webhook, url: 'https://a:b@h.example', secret_env: A}", "no user, password, query or fragment"),
        ("{type: webhook, url: 'https://h.example/?sig=1', secret_env: A}", "no user, password, query or fragment"),
        ("{type: webhook, url: 'file:///etc/passwd', secret_env: A}", "is not an address"),
        ("{type: webhook, url: 'https://', secret_env: A}", "is not an address"),
        ("{type: webhook, url: 'https://h.example:x/', secret_env: A}", "is not an address"),
        ('{type: webhook, url: "https://h.example/\\nX: y", secret_env: A}', "is not an address"),
        ('{type: email, to: "a@b.example\\nBcc: c@d.example", from: g@h.example, smtp_url_env: A}', "not an e-mail"),
        ('{type: email, to: "a@b.example\\n", from: g@h.example, smtp_url_env: A}', "not an e-mail"),
        ("{type: email, to: 'Boss <a@b.example>', from: g@h.example, smtp_url_env: A}", "not an e-mail"),
        ("{type: email, to: 'a@b.example,c@d.example', from: g@h.example, smtp_url_env: A}", "not an e-mail"),
        ("{type: slack, url_env: A}\n  - {type: slack, url_env: A}", "slack A is given twice"),
        ("{type: slack, url_env: A, retries: 3}", "retries is not a known key"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, entry: str, said: str) -> None:
    with pytest.raises(DocumentError) as refused:
        entries(tmp_path, one(entry))
    assert said in str(refused.value)
    assert refused.value.problems[0].line in (2, 3)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("HOOK_SECRET", "", "HOOK_SECRET, which webhook https://hooks.example/gatehouse needs, is not set"),
        ("SLACK_URL", " ", "SLACK_URL, which slack SLACK_URL needs, is not set"),
        ("HOOK_SECRET", "hunter2hunter2", "HOOK_SECRET is not a signing key"),
        ("HOOK_SECRET", "whsec_aHVudGVyMg==", "HOOK_SECRET is not a signing key"),
        ("HOOK_SECRET", "whsec_***hunter2***", "HOOK_SECRET is not a signing key"),
        ("SLACK_URL", "hunter2", "SLACK_URL holds no address"),
        ("SMTP_URL", "https://hunter2@mail.example", "SMTP_URL names no mail server"),
        ("SMTP_URL", "smtp://hunter2@", "SMTP_URL names no mail server"),
        ("SMTP_URL", "smtp+plaintext://a:hunter2@mail.example", "a password in the clear"),
        ("GATEHOUSE_PUBLIC_URL", "gate.example", "GATEHOUSE_PUBLIC_URL"),
        ("GATEHOUSE_PUBLIC_URL", "https://gate.example|<", "GATEHOUSE_PUBLIC_URL"),
    ],
)
def test_a_variable_that_is_missing_or_wrong_is_named_and_not_quoted(
    tmp_path: Path, variable: str, value: str, said: str
) -> None:
    with pytest.raises(SetupError) as refused:
        addresses(entries(tmp_path), ENVIRON | {variable: value})
    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_one_slack_address_under_two_names_is_refused(tmp_path: Path) -> None:
    text = one("{type: slack, url_env: SLACK_URL}\n  - {type: slack, url_env: OTHER}")
    with pytest.raises(SetupError, match="the same Slack address"):
        addresses(entries(tmp_path, text), ENVIRON | {"OTHER": ENVIRON["SLACK_URL"]})


def test_links_lead_to_where_people_reach_the_gateway() -> None:
    assert public_url({}) == "http://127.0.0.1:4000"
    assert public_url({"GATEHOUSE_PUBLIC_URL": "https://gate.example/ai/"}) == "https://gate.example/ai"


def test_attempts_come_less_and_less_often_and_never_sooner_than_asked() -> None:
    assert [backoff(n, 0, 1) for n in (1, 2, 3)] == [FIRST_RETRY_S, 2 * FIRST_RETRY_S, 4 * FIRST_RETRY_S]
    assert backoff(1, 0, 0) == FIRST_RETRY_S / 2
    assert backoff(10_000, 0, 1) == LAST_RETRY_S
    assert backoff(1, 900, 0.5) == 900


def test_retry_after_is_read_as_seconds_or_as_a_date() -> None:
    later = format_datetime(clock.now() + timedelta(seconds=100), usegmt=False)
    assert retry_after("120") == 120
    assert 90 < retry_after(later) <= 100
    for odd in (None, "", "-5", "soon", "²", "Fri, 99 Foo 2026 00:00:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert retry_after(odd) == 0
    assert retry_after("9" * 5_000) > 0
