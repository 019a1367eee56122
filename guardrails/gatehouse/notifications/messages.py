"""Turns a `Notice` into the values that senders send. Pure.

Promises: only the summary fields named here are sent or stored, so no word of a prompt is. What callers choose (key
alias, agent, model) stays text in every receiver: it becomes no markup, mention, link or header.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any, Final, Literal
from uuid import UUID

Kind = Literal["approval_requested", "approval_decided"]
KINDS: Final = frozenset({"approval_requested", "approval_decided"})
DECISIONS: Final = frozenset({"approved", "rejected", "expired", "cancelled"})
Fact = str | int | float | tuple[str, ...]

MAX_CHARS: Final = 300
"""Characters of one fact; a chat shows a few lines of it, and Slack takes at most 2,000."""

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_FACTS: Final = frozenset(
    "key_alias team agent user model estimated_usd rules reason expires_at decision decided_by".split()
)
_LABELS: Final = {
    "key_alias": "Key",
    "team": "Team",
    "agent": "Agent",
    "user": "User",
    "model": "Model",
    "rules": "Rule",
    "reason": "Reason",
    "decided_by": "Decided by",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """Describe something of which people are notified.

    Attributes:
        id: the same at every attempt; letters, digits, `-` and `_`. Receivers recognize a repeat by it.
        at: when it happened, with a time zone.
        summary: the facts to send. It keeps key_alias, team, agent, user, model, reason, decision, decided_by (text),
            rules (a list of ids), estimated_usd (a number), expires_at (a time, or its ISO form), and drops all others.

    Raises:
        ValueError: the id, the kind or the time is malformed.
    """

    id: str
    type: Kind
    approval_id: UUID
    at: datetime
    summary: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise ValueError("an event's id has 1 to 100 letters, digits, dashes and underscores")
        if self.type not in KINDS:
            raise ValueError(f"{self.type!r} is not a kind of event")
        if self.at.tzinfo is None:
            raise ValueError("an event's time needs a time zone")
        checked = {name: _fact(value) for name, value in self.summary.items() if name in _FACTS and value is not None}
        object.__setattr__(self, "summary", {name: value for name, value in checked.items() if value not in ("", ())})

    def row(self) -> dict[str, Any]:
        """Return the event as JSON."""
        return {
            "id": self.id,
            "type": self.type,
            "approval_id": str(self.approval_id),
            "at": self.at.isoformat(),
            "summary": {n: list(v) if isinstance(v, tuple) else v for n, v in self.summary.items()},
        }

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Notice:
        """Read an event that `row` wrote.

        Raises:
            ValueError, KeyError, TypeError: the row is malformed.
        """
        return cls(row["id"], row["type"], UUID(row["approval_id"]), datetime.fromisoformat(row["at"]), row["summary"])


@dataclass(frozen=True, slots=True)
class Message:
    """Hold what a person reads, not yet escaped: Gatehouse's heading, a title, facts with their labels, the link."""

    heading: str
    title: str
    facts: tuple[tuple[str, str], ...]
    link: str


def link_to(event: Notice, base_url: str) -> str:
    """Return the address of the console's page on the approval."""
    return f"{base_url}/governance/approvals/{event.approval_id}"


def message(event: Notice, base_url: str, now: datetime) -> Message:
    """Return the event as a person reads it at that time."""
    summary = event.summary
    facts = [(label, _shown(summary[name])) for name, label in _LABELS.items() if name in summary]
    if isinstance(usd := summary.get("estimated_usd"), int | float):
        facts.append(("Estimated cost", f"${usd:,.2f}" if usd >= 1 else f"${usd:.4f}"))
    if event.type == "approval_requested" and (until := _time(summary.get("expires_at"))):
        facts.append(("Time left", time_left(until - now)))
    heading = "Approval wanted"
    if event.type == "approval_decided":
        heading = f"Approval {decision}" if (decision := summary.get("decision")) in DECISIONS else "Approval decided"
    title = f"{heading}: {_shown(summary['model'])}" if "model" in summary else heading
    return Message(heading, title, tuple(facts), link_to(event, base_url))


def webhook_body(event: Notice, base_url: str) -> dict[str, Any]:
    """Return the payload of a generic webhook; the same at every attempt."""
    row = event.row()
    data = {"approval_id": row["approval_id"], "url": link_to(event, base_url), **row["summary"]}
    return {"type": event.type, "timestamp": row["at"], "data": data}


def slack_body(content: Message) -> dict[str, Any]:
    """Return the body for Slack and compatible webhooks; receivers without blocks show `text`."""
    # In a code span neither Slack nor a reader of Markdown makes mentions or links.
    lines = [f"*{escaped(content.title)}*", *(f"{label}: `{escaped(value)}`" for label, value in content.facts)]
    blocks: list[dict[str, Any]] = [{"type": "header", "text": _plain_text(content.heading)}]
    for first in range(0, len(content.facts), 10):  # a section takes ten
        fields = [_plain_text(f"{label}: {value}") for label, value in content.facts[first : first + 10]]
        blocks.append({"type": "section", "fields": fields})
    blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": f"<{content.link}|Open the request>"}})
    return {"text": "\n".join([*lines, content.link]), "blocks": blocks}


def mail(event: Notice, content: Message, *, sender: str, to: str, now: datetime) -> EmailMessage:
    """Return the e-mail. Its Message-ID is the same at every attempt, so that a mail server can drop the repeat."""
    found = EmailMessage(policy=SMTP)
    found["From"], found["To"], found["Subject"] = sender, to, content.title
    found["Date"] = now
    found["Message-ID"] = f"<{event.id}@{sender.rpartition('@')[2]}>"
    found["Auto-Submitted"] = "auto-generated"  # RFC 3834: prevents vacation notices
    width = max((len(label) for label, _ in content.facts), default=0) + 2
    lines = [f"{label + ':':<{width}}{value}" for label, value in content.facts]
    found.set_content("\n".join([content.title, "", *lines, "", content.link, ""]))
    return found


def time_left(left: timedelta) -> str:
    """Return the time that is left, in units that matter to the person who decides."""
    seconds = int(left.total_seconds())
    if seconds <= 0:
        return "none: it has expired"
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def plain(text: str) -> str:
    """Return one line without control, format and other invisible characters, at most `MAX_CHARS` long."""
    line = "".join(" " if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char for char in text[: MAX_CHARS * 4])
    line = "".join(char for char in line if not unicodedata.category(char).startswith("C"))
    line = " ".join(line.split())
    return line if len(line) <= MAX_CHARS else line[: MAX_CHARS - 1] + "…"


def unlinked(text: str) -> str:
    """Break up links, so that mail programs and chats link only Gatehouse's own address."""
    return text.replace("://", ":// ").replace("www.", "www. ")


def escaped(text: str) -> str:
    """Escape & < > as Slack asks, and remove what begins a mention or ends a code span."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("`", "'").replace("@", "@\u200b").replace("*", "\u2217")


def _plain_text(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": escaped(text), "emoji": False}


def _fact(value: object) -> Fact:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value if abs(value) < 1e15 else str(value)
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(plain(str(each)) for each in list(value)[:20])
    return plain(str(value))


def _shown(value: Fact) -> str:
    return unlinked(plain(", ".join(value)) if isinstance(value, tuple) else str(value))


def _time(value: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found if found.tzinfo else None
