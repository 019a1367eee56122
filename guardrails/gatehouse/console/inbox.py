"""Pages of approvals: the inbox that keeps itself up to date, one request with everything on it, votes, history.

Administrators and auditors see every request; everybody else those that they may decide on, have decided on, or made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from gatehouse.approvals.life import NoVote, may_vote
from gatehouse.approvals.values import Approval, State
from gatehouse.clock import now
from gatehouse.console.access import HOME, Doorkeeper, Visitor
from gatehouse.console.rendering import page
from gatehouse.db import approvals
from gatehouse.db import console as db
from gatehouse.db.calls import Connection
from gatehouse.db.connection import connect
from gatehouse.errors import InvalidRequest, NotFound
from gatehouse.settings import Settings

_ON_ONE_PAGE: Final = 20
_HISTORY: Final = 50
_COMMENT_CHARS: Final = 2_000
# Of a prompt in the inbox; the request's own page has all that is kept.
_EXCERPT_CHARS: Final = 1_200

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Card:
    """A pending request as one person sees it.

    Attributes:
        refusal: why they may not decide on it; None when they may.
        before: the caller's last requests and what became of them.
    """

    approval: Approval
    refusal: NoVote | None
    before: list[db.Past]

    @property
    def caller(self) -> str:
        by = self.approval.requested_by
        return by.get("user") or by.get("key_alias") or by.get("key_hash", "somebody")[:12]

    def prompt(self, chars: int | None) -> list[tuple[str, str]]:
        """What is asked, as headings and texts; of the first `chars` characters where that is said."""
        pieces: list[tuple[str, str]] = []
        room = chars
        for heading, text in _pieces(str(self.approval.summary.get("prompt") or "")):
            if room is not None and len(text) > room:
                return [*pieces, (heading, f"{text[:room]} … (open the request to read on)")]
            pieces.append((heading, text))
            room = None if room is None else room - len(text)
        return pieces

    @property
    def version(self) -> str:
        """Changes when the card does."""
        return f"ask-{self.approval.id}-{self.approval.given}"


def add(api: APIRouter, door: Doorkeeper, settings: Settings) -> None:
    """Put the pages on the router."""
    visitor_of = Depends(door.visitor)

    async def ask(work: Callable[[Connection], Awaitable[_T]]) -> _T:
        async with await connect(settings.database_url) as connection:
            return await work(connection)

    def cards(visitor: Visitor, found: Iterable[Approval], at: datetime) -> list[Card]:
        shown = list(found)
        with db.looking(settings.database_url) as connection:
            past = db.last_approvals(connection, [each.key_hash for each in shown])
        return [
            Card(
                each,
                may_vote(each, visitor.voter, at),
                [before for before in past.get(each.key_hash or "", []) if before.id != each.id],
            )
            for each in shown
        ]

    def waiting(visitor: Visitor) -> list[db.Pending]:
        with db.looking(settings.database_url) as connection:
            return [each for each in db.pending(connection) if _concerns(visitor, each)]

    async def values(visitor: Visitor, seen: list[db.Pending]) -> dict[str, Any]:
        at, shown = now(), seen[:_ON_ONE_PAGE]
        found = await ask(lambda connection: approvals.get_many(connection, [each.id for each in shown]))
        order = {each.id: place for place, each in enumerate(shown)}
        listed = sorted((approval for approval, _ in found), key=lambda approval: order[approval.id])
        return {
            "cards": await run_in_threadpool(cards, visitor, listed, at),
            "more": len(seen) - len(listed),
            "now": at.timestamp(),
            "mark": _mark(seen),
            "excerpt": _EXCERPT_CHARS,
        }

    @api.get("")
    async def inbox(request: Request, visitor: Visitor = visitor_of) -> Response:
        seen = await run_in_threadpool(waiting, visitor)
        return page(request, "inbox.html", visitor=visitor, **await values(visitor, seen))

    @api.get("/pending")
    async def list_pending(
        request: Request, visitor: Visitor = visitor_of, mark: Annotated[str, Query(max_length=64)] = ""
    ) -> Response:
        """The inbox's list, or 204 when nothing in it has changed since."""
        seen = await run_in_threadpool(waiting, visitor)
        if _mark(seen) == mark:
            return Response(status_code=204)
        return page(request, "pending.html", visitor=visitor, **await values(visitor, seen))

    @api.get("/approvals/{approval_id}")
    async def one(request: Request, approval_id: UUID, visitor: Visitor = visitor_of) -> Response:
        at = now()
        approval = await seen(visitor, approval_id)
        happened = await ask(lambda connection: approvals.history(connection, approval_id))
        (card,) = await run_in_threadpool(cards, visitor, [approval], at)
        return page(
            request, "approval.html", visitor=visitor, card=card, happened=happened, now=at.timestamp(), excerpt=None
        )

    async def seen(visitor: Visitor, approval_id: UUID) -> Approval:
        approval = await ask(lambda connection: approvals.get(connection, approval_id))
        if approval is None or not _may_see(approval, visitor):
            raise NotFound("There is no approval by that id. Look at the inbox.")
        return approval

    @api.post("/approvals/{approval_id}/vote")
    async def vote(request: Request, approval_id: UUID, visitor: Visitor = visitor_of) -> Response:
        fields = await door.form(request, visitor)
        said = fields.get("vote")
        if said not in ("approve", "reject"):
            raise InvalidRequest("A vote is approve or reject. Choose one of the buttons.")
        comment = fields.get("comment", "").strip()[:_COMMENT_CHARS] or None
        await seen(visitor, approval_id)
        await ask(
            lambda connection: approvals.vote(
                connection, approval_id, visitor.voter, approve=said == "approve", comment=comment
            )
        )
        return RedirectResponse(HOME if fields.get("back") == "inbox" else f"{HOME}/approvals/{approval_id}", 303)

    @api.get("/history")
    async def history(
        request: Request,
        visitor: Visitor = visitor_of,
        state: State | None = None,
        before: UUID | None = None,
    ) -> Response:
        found = await ask(lambda connection: approvals.list_(connection, state, _HISTORY, before))
        return page(
            request,
            "history.html",
            visitor=visitor,
            approvals=[each for each in found if _may_see(each, visitor)],
            states=list(State),
            wanted=state,
            last=found[-1].id if len(found) == _HISTORY else None,
            first=before is None,
        )


def _pieces(prompt: str) -> list[tuple[str, str]]:
    """A chat's messages each for itself, so that no message can look like two; whatever else there is as it is."""
    try:
        asked = json.loads(prompt)
        messages = asked.pop("messages")
        pieces = []
        for message in messages:
            rest = {name: value for name, value in message.items() if name not in ("role", "content")}
            content = message.get("content")
            text = content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False)
            pieces.append((str(message.get("role"))[:64], text))
            if rest:
                pieces.append(("of the same message", json.dumps(rest, indent=2, ensure_ascii=False)))
        if asked:
            pieces.append(("besides", json.dumps(asked, indent=2, ensure_ascii=False)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [("as it is kept", prompt)]
    return pieces


def _mark(seen: Iterable[db.Pending]) -> str:
    """Another one whenever what somebody sees has changed."""
    said = " ".join(f"{each.id}/{len(each.voters)}" for each in seen)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _may_see(approval: Approval, visitor: Visitor) -> bool:
    voters = [vote.user_id for vote in approval.votes]
    return _concerns(visitor, db.Pending(approval.id, dict(approval.approvers), dict(approval.requested_by), voters))


def _concerns(visitor: Visitor, asked: db.Pending) -> bool:
    """Whether they are an auditor, made the request, voted on it, or are asked to."""
    voter, by = visitor.voter, asked.requested_by
    if visitor.is_auditor or voter.user_id in asked.voters:
        return True
    if voter.user_id == by.get("user") or voter.key_hash == by.get("key_hash"):
        return True
    roles, users, teams = (set(asked.approvers.get(kind) or ()) for kind in ("roles", "users", "teams"))
    return voter.user_id in users or voter.role in roles or bool(voter.teams & teams)
