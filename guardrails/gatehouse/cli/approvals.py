"""`gatehouse approvals list | show | approve | reject | watch`: review requests from the command line, over HTTP.

Exit codes: 0 when it is done, 1 when the gateway refuses or cannot be reached, 2 when the command is not understood.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from rich.console import Console
from rich.text import Text

from gatehouse.approvals.model import State
from gatehouse.cli import app
from gatehouse.cli.gateway_client import GatewayAway, GatewayClient, address
from gatehouse.core.text import printable

PATH: Final = "/governance/v1/approvals"
_FIRST_RETRY_S: Final = 0.5
_LAST_RETRY_S: Final = 10.0
_COLOURS: Final = {"requested": "yellow", "approved": "green", "consumed": "green", "rejected": "red"}

approvals = typer.Typer(
    name="approvals",
    no_args_is_help=True,
    help="Review pending requests. GATEHOUSE_URL and GATEHOUSE_API_KEY name the gateway and your key, else .env.",
)
app.add_typer(approvals)

UrlOption = Annotated[str | None, typer.Option("--url", help="The gateway's address.")]
KeyOption = Annotated[str | None, typer.Option("--key", help="Your key; others can see it in the process list.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the gateway's JSON answer.")]
CommentOption = Annotated[str | None, typer.Option("--comment", "-m", help="Your reason; the caller reads it.")]
IdArgument = Annotated[UUID, typer.Argument(help="The approval's id.")]


@approvals.command("list")
def list_(
    state: Annotated[State | None, typer.Option(help="Only approvals in this state.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Approvals in every state.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 50,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """List pending requests, newest first."""
    wanted = state or (None if everything else State.REQUESTED)
    with _client(url, key) as client:
        found = list(_pages(client, wanted, limit))
    if as_json:
        _json(found)
        return
    for each in found:
        _print(_row(each, at=_left(each), state=str(each.get("state"))))
    if not found:
        _print(Text("There are no pending requests." if wanted is State.REQUESTED else "There are no such approvals."))


@approvals.command()
def show(
    approval_id: IdArgument,
    full: Annotated[bool, typer.Option("--full", help="The whole bound request, not its summary.")] = False,
    values: Annotated[
        bool, typer.Option("--values", help="Also the values behind placeholders; the audit log records this look.")
    ] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Show a request with the facts that a decision needs."""
    with _client(url, key) as client:
        found = client.ask("GET", f"{PATH}/{approval_id}")
        if full or values:
            query = {"values": "true"} if values else None
            whole = client.ask("GET", f"{PATH}/{approval_id}/request", params=query)
            found.pop("summary", None)
            found |= {name: whole.get(name) for name in ("asked", "request", "values") if whole.get(name) is not None}
    if as_json:
        _json(found)
        return
    for line in _lines(found):
        _print(Text(line))


@approvals.command()
def approve(
    approval_id: IdArgument,
    comment: CommentOption = None,
    model: Annotated[str | None, typer.Option(help="Approve only if this model answers.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Approve only at most so many tokens.")] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Vote to send the request, with the options also as less than it asks for."""
    edit = {name: value for name, value in (("model", model), ("max_tokens", max_tokens)) if value is not None}
    _vote(approval_id, {"decision": "approve", "comment": comment, "edit": edit}, as_json, url, key)


@approvals.command()
def reject(
    approval_id: IdArgument,
    comment: CommentOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Vote not to send the request."""
    _vote(approval_id, {"decision": "reject", "comment": comment}, as_json, url, key)


@approvals.command()
def watch(as_json: JsonOption = False, url: UrlOption = None, key: KeyOption = None) -> None:
    """Show requests and decisions as they come, also across restarts of the gateway; Ctrl-C ends."""
    try:
        with _client(url, key) as client:
            for event in _follow(client):
                if as_json:
                    _json(event)
                else:
                    at = str(event.get("at"))
                    _print(_row(event.get("approval"), at=at[:19], state=str(event.get("state"))))
    except KeyboardInterrupt:
        pass


def _client(url: str | None, key: str | None) -> GatewayClient:
    return GatewayClient(*address(url, key, os.environ))


def _vote(approval_id: UUID, vote: dict[str, Any], as_json: bool, url: str | None, key: str | None) -> None:
    choices = {name: value for name, value in vote.items() if value}
    with _client(url, key) as client:
        # Bytes that are no text arrive as lone surrogates; escaped, they reach the gateway, which refuses them.
        body = json.dumps(choices).encode()
        found = client.ask(
            "POST", f"{PATH}/{approval_id}/votes", content=body, headers={"content-type": "application/json"}
        )
    if as_json:
        _json(found)
        return
    state, given, needed = (found.get(name) for name in ("state", "given", "needed"))
    rest = f" {given} of {needed} approvals are given." if state == "requested" else ""
    edited = str(found.get("id")) != str(approval_id)
    name = f"{approval_id} was edited and is now {found.get('id')}, which" if edited else str(approval_id)
    _print(Text(printable(f"{name} is {state}.{rest}")))


def _pages(client: GatewayClient, state: State | None, limit: int) -> Iterator[dict[str, Any]]:
    cursor = None
    while limit > 0:
        query: dict[str, Any] = {"limit": min(limit, 200)}
        if state is not None:
            query["state"] = state.value
        if cursor:
            query["cursor"] = cursor
        page = client.ask("GET", f"{PATH}/", params=query)
        found = [each for each in page.get("approvals") or () if isinstance(each, dict)]
        yield from found
        limit -= len(found)
        cursor = page.get("next")
        if not cursor:
            return


def _follow(client: GatewayClient) -> Iterator[dict[str, Any]]:
    """Yield each event once, over any number of streams. Ask for decisions that were made between two streams."""
    pending: set[str] = set()
    wait, announced = _FIRST_RETRY_S, False
    while True:
        there: set[str] = set()
        try:
            with client.events(f"{PATH}/events") as events:
                for name, event in events:
                    key = str(event.get("id"))
                    if name == "ready":
                        wait = _FIRST_RETRY_S
                        if announced:
                            typer.echo("The gateway answers again.", err=True)
                            announced = False
                        yield from _missed(client, pending, there)
                    elif name == "requested":
                        there.add(key)
                        if key not in pending:
                            pending.add(key)
                            yield event
                    elif name == "decided":
                        pending.discard(key)
                        yield event
        except GatewayAway as away:
            if not announced:
                typer.echo(f"{away} Trying again.", err=True)
                announced = True
            time.sleep(wait)
            wait = min(wait * 2, _LAST_RETRY_S)
        else:
            time.sleep(_FIRST_RETRY_S)  # the gateway ended the stream; every stream has an end


def _missed(client: GatewayClient, pending: set[str], there: set[str]) -> Iterator[dict[str, Any]]:
    for key in sorted(pending - there):
        found = client.ask("GET", f"{PATH}/{UUID(key)}")
        if found.get("state") != "requested":
            at = found.get("decided_at") or found.get("expires_at")
            yield {"event": "decided", "id": key, "state": found.get("state"), "at": at, "approval": found}
            pending.discard(key)


def _row(approval: Any, *, at: str, state: str) -> Text:
    """Return one line: id, state, time, requester, model, reason."""
    approval = approval if isinstance(approval, dict) else {}
    votes = f"{approval.get('given')}/{approval.get('needed')}"
    words = [_who(approval), approval.get("model") or "-", ",".join(map(str, approval.get("rules") or ())) or "-"]
    reason = approval.get("reason")
    return Text.assemble(
        printable(approval.get("id")),
        "  ",
        (f"{printable(state):<9}", _COLOURS.get(state, "")),
        f"  {printable(votes):<4}  {printable(at):<19}  ",
        "  ".join(printable(word) for word in words),
        f"  {printable(reason)}" if reason else "",
    )


def _lines(approval: dict[str, Any]) -> Iterator[str]:
    """Yield a request as a person reads it, line by line."""
    approvers = approval.get("approvers") or {}
    named = [
        f"{kind} {', '.join(map(str, names))}" for kind, names in approvers.items() if isinstance(names, list) and names
    ]
    facts = {
        "id": approval.get("id"),
        "state": approval.get("state"),
        "votes": f"{approval.get('given')} of {approval.get('needed')}",
        "asked by": _who(approval),
        "model": approval.get("model"),
        "route": approval.get("route"),
        "edited": ", ".join(f"{name} {value}" for name, value in (approval.get("edit") or {}).items()),
        "became": approval.get("replaced_by"),
        "rules": ", ".join(map(str, approval.get("rules") or ())),
        "reason": approval.get("reason"),
        "may decide": "; ".join(named) or "administrators",
        "you": "may vote" if approval.get("may_vote") else approval.get("why_not"),
        "asked at": approval.get("requested_at"),
        "ends": approval.get("expires_at"),
        "digest": approval.get("digest"),
    }
    for name, value in facts.items():
        if value:
            yield f"{name:<10}  {printable(value)}"
    for vote in approval.get("votes") or ():
        comment = f": {vote.get('comment')}" if vote.get("comment") else ""
        yield f"{'vote':<10}  {printable(vote.get('user_id'))} {printable(vote.get('decision'))}{printable(comment)}"
    for name in ("summary", "request"):
        if approval.get(name):
            yield ""
            # Escape line by line: JSON leaves characters in place that move a cursor backwards through text.
            for line in json.dumps(approval[name], indent=2, ensure_ascii=False).split("\n"):
                yield printable(line)
    if isinstance(approval.get("values"), dict):
        yield ""
        for placeholder, value in approval["values"].items():
            yield f"{printable(placeholder)}  {printable(value)}"


def _who(approval: dict[str, Any]) -> str:
    by = approval.get("requested_by") or {}
    return str(by.get("user") or by.get("key_alias") or str(by.get("key_hash", "somebody"))[:12])


def _left(approval: dict[str, Any]) -> str:
    """Return the time left for a decision, or the time of the decision."""
    if approval.get("state") not in ("requested", "approved"):
        return str(approval.get("decided_at") or approval.get("expires_at"))[:19]
    try:
        left = int((datetime.fromisoformat(str(approval.get("expires_at"))) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return "-"
    return f"{max(left, 0) // 3600}h{max(left, 0) % 3600 // 60:02}m left"


def _print(line: Text) -> None:
    # Make the console at each use, because tests and shells replace standard output. Rich obeys NO_COLOR.
    Console(highlight=False, soft_wrap=True).print(line)


def _json(value: Any) -> None:
    typer.echo(json.dumps(value))
