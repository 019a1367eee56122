"""Pages of approvals: the inbox that keeps itself up to date, one request with everything on it, votes, history.

Administrators and auditors see every request; everybody else those that they may decide on, have decided on, or made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final, Literal, TypeVar
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from gatehouse.approvals import queries, store
from gatehouse.approvals.audit_entries import Change, Journal
from gatehouse.approvals.lifecycle import NoVote, longest_answer, may_see, may_vote
from gatehouse.approvals.model import Approval, Edit, State
from gatehouse.approvals.review import Opened, ReviewDesk
from gatehouse.console import queries as db
from gatehouse.console.access import HOME, SessionAuthenticator, Visitor
from gatehouse.console.rendering import page
from gatehouse.console.whole_request import sections, shown_values
from gatehouse.core.clock import now
from gatehouse.core.errors import AccessDenied, Gone, InvalidRequest, NotFound
from gatehouse.core.settings import Settings
from gatehouse.proxy.model_access import check_edit
from gatehouse.storage.connection import Connection, connect

_ON_ONE_PAGE: Final = 20
_HISTORY: Final = 50
_COMMENT_CHARS: Final = 2_000
_MODEL_CHARS: Final = 256
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
    def most_tokens(self) -> int | None:
        """The longest answer that the request may get; None where nothing says."""
        return longest_answer(self.approval)

    @property
    def version(self) -> str:
        """Changes when the card does."""
        return f"ask-{self.approval.id}-{self.approval.given}"


def add(api: APIRouter, door: SessionAuthenticator, settings: Settings, journal: Journal) -> None:
    """Put the pages on the router."""
    visitor_of = Depends(door.visitor)
    desk = ReviewDesk(settings.keys, journal)

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
            return [each for each in db.pending(connection) if may_see(each, visitor.voter)]

    async def values(visitor: Visitor, seen: list[db.Pending]) -> dict[str, Any]:
        at, shown = now(), seen[:_ON_ONE_PAGE]
        found = await ask(lambda connection: queries.get_many(connection, [each.id for each in shown]))
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
        approval = await seen(visitor, approval_id)
        try:
            return await whole_page(request, visitor, approval, await opened_by(visitor, approval))
        except (AccessDenied, Gone) as why:  # what is left to them is the summary
            return await whole_page(request, visitor, approval, None, why.message)

    @api.post("/approvals/{approval_id}/values")
    async def values_of(request: Request, approval_id: UUID, visitor: Visitor = visitor_of) -> Response:
        """The same page with what placeholders stand for, for those who may vote."""
        await door.form(request, visitor)
        approval = await seen(visitor, approval_id)
        return await whole_page(request, visitor, approval, await opened_by(visitor, approval, values=True))

    @api.get("/approvals/{approval_id}/request.json")
    async def download(approval_id: UUID, visitor: Visitor = visitor_of) -> Response:
        """The request as it is bound, with pictures and all, to be kept as a file."""
        opened = await opened_by(visitor, await seen(visitor, approval_id))
        data = await run_in_threadpool(json.dumps, opened.request, indent=2, ensure_ascii=False)
        headers = {"content-disposition": f'attachment; filename="approval-{approval_id}.json"'}
        return Response(data, media_type="application/json", headers=headers)

    async def opened_by(visitor: Visitor, approval: Approval, *, values: bool = False) -> Opened:
        return await ask(lambda connection: desk.open(connection, approval, visitor.voter, now(), values=values))

    async def whole_page(
        request: Request, visitor: Visitor, approval: Approval, opened: Opened | None, why_not: str | None = None
    ) -> Response:
        at = now()
        happened = await ask(lambda connection: queries.history(connection, approval.id))
        (card,) = await run_in_threadpool(cards, visitor, [approval], at)
        # A request may be as large as a body: other calls go on meanwhile.
        return await run_in_threadpool(
            partial(
                page,
                request,
                "approval.html",
                visitor=visitor,
                card=card,
                happened=happened,
                now=at.timestamp(),
                whole=None if opened is None else await run_in_threadpool(sections, opened.request),
                behind=None if opened is None or opened.values is None else shown_values(opened.values),
                why_not=why_not,
                excerpt=None,
            )
        )

    async def seen(visitor: Visitor, approval_id: UUID) -> Approval:
        approval = await ask(lambda connection: queries.get(connection, approval_id))
        if approval is None or not may_see(approval, visitor.voter):
            raise NotFound("There is no approval by that id. Look at the inbox.")
        return approval

    @api.post("/approvals/{approval_id}/vote")
    async def vote(request: Request, approval_id: UUID, visitor: Visitor = visitor_of) -> Response:
        fields = await door.form(request, visitor)
        said = fields.get("vote")
        if said not in ("approve", "reject"):
            raise InvalidRequest("A vote is approve or reject. Choose one of the buttons.")
        comment = fields.get("comment", "").strip()[:_COMMENT_CHARS] or None
        edit = _edit(fields) if said == "approve" else None
        asked = await seen(visitor, approval_id)
        if edit is not None:
            await check_edit(asked, edit)
        changes: list[Change] = []
        voted = await ask(
            lambda connection: store.vote(
                connection,
                approval_id,
                visitor.voter,
                approve=said == "approve",
                comment=comment,
                edit=edit,
                changes=changes,
            )
        )
        journal.note(changes)
        return RedirectResponse(HOME if fields.get("back") == "inbox" else f"{HOME}/approvals/{voted.id}", 303)

    @api.get("/history")
    async def history(
        request: Request,
        visitor: Visitor = visitor_of,
        state: State | Literal[""] = "",
        before: UUID | None = None,
    ) -> Response:
        wanted = state or None
        found = await ask(lambda connection: queries.list_(connection, wanted, _HISTORY, before))
        return page(
            request,
            "history.html",
            visitor=visitor,
            approvals=[each for each in found if may_see(each, visitor.voter)],
            states=list(State),
            wanted=wanted,
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


def _edit(fields: Mapping[str, str]) -> Edit | None:
    """What a reviewer approves instead; None where the form's fields for that are empty."""
    model, tokens = (fields.get(name, "").strip() for name in ("model", "max_tokens"))
    if tokens and not (tokens.isascii() and tokens.isdigit() and len(tokens) < 10):
        raise InvalidRequest("The most tokens are a whole number. Correct it, or leave it empty.")
    if len(model) > _MODEL_CHARS:
        raise InvalidRequest("A model's name is not that long. Correct it, or leave it empty.")
    return Edit(model or None, int(tokens) if tokens else None) if model or tokens else None


def _mark(seen: Iterable[db.Pending]) -> str:
    """Another one whenever what somebody sees has changed."""
    said = " ".join(f"{each.id}/{len(each.voters)}" for each in seen)
    return hashlib.sha256(said.encode()).hexdigest()[:16]
