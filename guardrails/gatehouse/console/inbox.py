"""Pages of approvals: the inbox that keeps itself up to date, one request with everything on it, votes, history.

Administrators and auditors see every request; others see those that they may vote on, have voted on, or made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from gatehouse.approvals.desk import Desk, Opened, Seen
from gatehouse.approvals.lifecycle import longest_answer, may_see
from gatehouse.approvals.model import Edit, Pending, State
from gatehouse.console import queries as db
from gatehouse.console.access import HOME, Form, SignedIn, pages
from gatehouse.console.rendering import page
from gatehouse.console.whole_request import prompt_sections, sections, shown_values
from gatehouse.core.clock import now
from gatehouse.core.errors import AccessDenied, Gone, InvalidRequest
from gatehouse.core.settings import Settings
from gatehouse.proxy.parts import part

_ON_ONE_PAGE: Final = 20
_HISTORY: Final = 50
# Of a prompt in the inbox; the request's own page has all that is kept.
_EXCERPT_CHARS: Final = 1_200


@dataclass(frozen=True, slots=True)
class Card(Seen):
    """A request as one person sees it; `before` are the caller's last requests and what became of them."""

    before: list[db.Past]

    @property
    def caller(self) -> str:
        by = self.approval.requested_by
        return by.get("user") or by.get("key_alias") or by.get("key_hash", "somebody")[:12]

    def prompt(self, chars: int | None) -> list[tuple[str, str]]:
        """Return what is asked, as headings and texts; only the first `chars` characters unless that is None."""
        pieces: list[tuple[str, str]] = []
        room = chars
        for heading, text in prompt_sections(str(self.approval.summary.get("prompt") or "")):
            if room is not None and len(text) > room:
                return [*pieces, (heading, f"{text[:room]} … (open the request to read on)")]
            pieces.append((heading, text))
            room = None if room is None else room - len(text)
        return pieces

    @property
    def most_tokens(self) -> int | None:
        """Return the most tokens that the answer may have; None where that is not known."""
        return longest_answer(self.approval)

    @property
    def version(self) -> str:
        """Return a text that changes when the card does."""
        return f"ask-{self.approval.id}-{self.approval.given}"


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of a person who is signed in, and where its answer comes from."""

    request: Request
    visitor: SignedIn
    desk: Annotated[Desk, part("desk")]
    settings: Annotated[Settings, part("settings")]

    def page(self, template: str, **values: Any) -> Response:
        """Return the page of this template."""
        return page(self.request, template, visitor=self.visitor, now=now().timestamp(), **values)

    def pending(self) -> list[Pending]:
        """Return what waits for a decision and they may see; it reads, so call it in a thread."""
        with db.looking(self.settings.database_url) as connection:
            return [each for each in db.pending(connection) if may_see(each, self.visitor.voter)]

    def cards(self, seen: Sequence[Seen]) -> list[Card]:
        """Return these requests as cards; it reads, so call it in a thread."""
        with db.looking(self.settings.database_url) as connection:
            past = db.last_approvals(connection, [each.approval.key_hash for each in seen])
        cards = []
        for each in seen:
            asked = each.approval
            before = [old for old in past.get(asked.key_hash or "", []) if old.id != asked.id]
            cards.append(Card(asked, each.by, each.at, before))
        return cards


AtInbox = Annotated[Visit, Depends()]

router = pages()


@router.get("")
async def inbox(visit: AtInbox) -> Response:
    return visit.page("inbox.html", **await _listed(visit, await run_in_threadpool(visit.pending)))


@router.get("/pending")
async def list_pending(visit: AtInbox, mark: Annotated[str, Query(max_length=64)] = "") -> Response:
    """Answer the inbox's list, or 204 when nothing in it has changed since."""
    pending = await run_in_threadpool(visit.pending)
    if _mark(pending) == mark:
        return Response(status_code=204)
    return visit.page("pending.html", **await _listed(visit, pending))


@router.get("/approvals/{approval_id}")
async def one(approval_id: UUID, visit: AtInbox) -> Response:
    try:
        return await _whole_page(visit, approval_id, await visit.desk.open(approval_id, visit.visitor.voter))
    except (AccessDenied, Gone) as why:  # what is left to them is the summary
        return await _whole_page(visit, approval_id, None, why.message)


@router.post("/approvals/{approval_id}/values")
async def values_of(approval_id: UUID, visit: AtInbox, _: Form) -> Response:
    """Answer the same page with what placeholders stand for, for those who may vote."""
    opened = await visit.desk.open(approval_id, visit.visitor.voter, values=True)
    return await _whole_page(visit, approval_id, opened)


@router.get("/approvals/{approval_id}/request.json")
async def download(approval_id: UUID, visit: AtInbox) -> Response:
    """Answer the request as it is bound, with pictures and all, to be kept as a file."""
    opened = await visit.desk.open(approval_id, visit.visitor.voter)
    data = await run_in_threadpool(json.dumps, opened.request, indent=2, ensure_ascii=False)
    headers = {"content-disposition": f'attachment; filename="approval-{approval_id}.json"'}
    return Response(data, media_type="application/json", headers=headers)


@router.post("/approvals/{approval_id}/vote")
async def vote(approval_id: UUID, visit: AtInbox, fields: Form) -> Response:
    said = fields.get("vote")
    if said not in ("approve", "reject"):
        raise InvalidRequest("A vote is approve or reject. Choose one of the buttons.")
    voted = await visit.desk.vote(
        approval_id,
        visit.visitor.voter,
        approve=said == "approve",
        comment=fields.get("comment", "").strip() or None,
        edit=_edit(fields) if said == "approve" else None,
    )
    return RedirectResponse(HOME if fields.get("back") == "inbox" else f"{HOME}/approvals/{voted.approval.id}", 303)


@router.get("/history")
async def history(visit: AtInbox, state: State | Literal[""] = "", before: UUID | None = None) -> Response:
    wanted = state or None
    found, last = await visit.desk.page(visit.visitor.voter, wanted, _HISTORY, before)
    return visit.page(
        "history.html",
        approvals=[each.approval for each in found],
        states=list(State),
        wanted=wanted,
        last=last,
        first=before is None,
    )


async def _listed(visit: Visit, pending: Sequence[Pending]) -> dict[str, Any]:
    """Return what the templates of the inbox's list need."""
    seen = await visit.desk.see_all([each.id for each in pending[:_ON_ONE_PAGE]], visit.visitor.voter)
    return {
        "cards": await run_in_threadpool(visit.cards, seen),
        "more": len(pending) - len(seen),
        "mark": _mark(pending),
        "excerpt": _EXCERPT_CHARS,
    }


async def _whole_page(visit: Visit, approval_id: UUID, opened: Opened | None, why_not: str | None = None) -> Response:
    seen, happened = await visit.desk.history(approval_id, visit.visitor.voter)
    (card,) = await run_in_threadpool(visit.cards, [seen])
    # A request may be as large as a body: other calls go on meanwhile.
    return await run_in_threadpool(
        partial(
            visit.page,
            "approval.html",
            card=card,
            happened=happened,
            whole=None if opened is None else await run_in_threadpool(sections, opened.request),
            behind=None if opened is None or opened.values is None else shown_values(opened.values),
            why_not=why_not,
            excerpt=None,
        )
    )


def _edit(fields: Mapping[str, str]) -> Edit | None:
    """Return what a reviewer approves instead; None where the form's fields for that are empty."""
    model, tokens = (fields.get(name, "").strip() for name in ("model", "max_tokens"))
    if tokens and not (tokens.isascii() and tokens.isdigit() and len(tokens) < 10):
        raise InvalidRequest("The most tokens are a whole number. Correct it, or leave it empty.")
    return Edit(model or None, int(tokens) if tokens else None) if model or tokens else None


def _mark(seen: Iterable[Pending]) -> str:
    """Return a text that changes whenever the list does that a visitor sees."""
    said = " ".join(f"{each.id}/{len(each.voters)}" for each in seen)
    return hashlib.sha256(said.encode()).hexdigest()[:16]
