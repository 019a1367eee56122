"""/governance/v1/approvals: who waits for a decision, and the votes of those who may decide, with LiteLLM's own keys.

Promises: a voter is the user of the key that asks, never a name that somebody sends; nobody learns of an approval
that is neither theirs nor theirs to decide on. Administrators and auditors see all of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import psycopg
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from gatehouse.api.access import Caller, GovernanceRoute
from gatehouse.api.approvals_shown import (
    ERRORS,
    ApprovalPage,
    ApprovalShown,
    RequestShown,
    VoteRequest,
    ballot_schema,
    shown,
)
from gatehouse.approvals import queries
from gatehouse.approvals import store as db
from gatehouse.approvals.audit_entries import Change, Journal
from gatehouse.approvals.event_stream import ApprovalEvent, Feed, Subscriber
from gatehouse.approvals.lifecycle import NoVote, may_see
from gatehouse.approvals.model import Approval, State, Voter
from gatehouse.approvals.review import ReviewDesk
from gatehouse.core.clock import monotonic
from gatehouse.core.errors import AccessDenied, GovernanceUnavailable, InvalidRequest, NotFound
from gatehouse.core.keys import InstallationKeys
from gatehouse.core.text import clean
from gatehouse.proxy.litellm_api import ProxyException, UserAPIKeyAuth
from gatehouse.proxy.model_access import check_edit
from gatehouse.storage import people
from gatehouse.storage.connection import Connection, connect

MOST: Final = 200
"""Approvals on a page."""

_NOT_FOUND: Final = "There is no approval by that id that you may see. Look at the list of approvals."
# Looked through for one page of somebody who may see few of them.
_LOOKED_THROUGH: Final = 2_000
_PENDING: Final = 500
_HEARTBEAT_S: Final = 15.0
# A stream is somebody's whose key may have been taken away since: after this they ask again.
_LONGEST_S: Final = 600.0
_BODY_BYTES: Final = 65_536
# To the database, of one gateway at once: whoever comes while they are busy waits, and takes nobody else's.
_CONNECTIONS: Final = 4

_T = TypeVar("_T")


class _Route(GovernanceRoute):
    """LiteLLM lets auditors change nothing; that refusal is answered as ours are."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except ProxyException as error:
                if str(error.code) != "403":
                    raise
                refusal = AccessDenied("LiteLLM lets this key, or its user's role, only read. Ask with another key.")
                return JSONResponse(refusal.body(None), refusal.status)

        return answer


class _Events(StreamingResponse):
    """A stream of events; who looks on is let go when it ends, also where the client left before it began."""

    def __init__(self, events: AsyncIterator[bytes], staying: AsyncExitStack) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._staying = staying

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._staying:
            await super().__call__(scope, receive, send)


async def _ballot(request: Request) -> VoteRequest:
    """The body of a vote.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        return VoteRequest.model_validate_json(await _body(request))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        name = clean(first["loc"][-1])[:100] if first["loc"] else "body"  # type: ignore[index]
        raise InvalidRequest(f"{name}: {first['msg']}. Correct it and ask again.") from None


async def _nothing(request: Request) -> None:
    """Check that there is no body; `{}` says as little.

    Raises:
        InvalidRequest: there is one.
    """
    if (await _body(request)).strip() not in (b"", b"{}"):
        raise InvalidRequest("body: nothing is expected here. Leave it out and ask again.")


async def _body(request: Request) -> bytes:
    body = await request.body()
    if len(body) > _BODY_BYTES:
        raise InvalidRequest("body: it is too long. Shorten the comment and ask again.")
    return body


def router(database_url: str, journal: Journal, keys: InstallationKeys) -> APIRouter:
    """The routes.

    Args:
        journal: where what is decided here is written down.
        keys: what the reviewers' copies of requests are encrypted under.
    """
    api = APIRouter(prefix="/governance/v1/approvals", tags=["governance"], route_class=_Route, responses=ERRORS)
    feed = Feed(database_url)
    desk = ReviewDesk(keys, journal)
    turns = asyncio.Semaphore(_CONNECTIONS)

    async def ask(caller: UserAPIKeyAuth, work: Callable[[Connection, Voter], Awaitable[_T]]) -> _T:
        """Do this as whoever asks, on one connection."""
        try:
            async with turns, await connect(database_url) as connection:
                return await work(connection, await _voter(connection, caller))
        except (psycopg.Error, OSError):
            raise GovernanceUnavailable("The database does not answer. Try again soon.") from None

    ballot_of = Depends(_ballot)

    async def seen(connection: Connection, approval_id: UUID, by: Voter) -> Approval:
        found = await queries.get(connection, approval_id)
        if found is None or not may_see(found, by):
            raise NotFound(_NOT_FOUND)
        return found

    @api.get("/", summary="Approvals that you may see, newest first")
    @api.get("", include_in_schema=False)
    async def list_approvals(
        caller: Caller,
        state: Annotated[State | None, Query(description="Only those in this state.")] = None,
        limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
        cursor: Annotated[UUID | None, Query(description="`next` of the page before.")] = None,
    ) -> ApprovalPage:
        async def page(connection: Connection, by: Voter) -> ApprovalPage:
            found, following = await _page(connection, by, state, limit, cursor)
            at = await people.now(connection)
            return ApprovalPage(approvals=[shown(each, by, at, whole=False) for each in found], next=following)

        return await ask(caller, page)

    # Before the one that takes an id.
    @api.get(
        "/events",
        summary="What happens to approvals that you may see, as server-sent events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    )
    async def events(caller: Caller) -> StreamingResponse:
        # Before the answer begins, so that it can still be a refusal.
        async with AsyncExitStack() as stack:
            onlooker = await stack.enter_async_context(feed.look_on())
            by, pending = await ask(caller, _pending)
            first = [ApprovalEvent(each, State.REQUESTED, each.requested_at) for each in reversed(pending)]
            staying = stack.pop_all()

        async def stream() -> AsyncIterator[bytes]:
            yield b"retry: 1000\n: what waits for a decision comes first\n\n"
            sent: set[tuple[UUID, State]] = set()
            for told in first:
                sent.add((told.approval.id, told.state))
                yield _event(told, by)
            yield b"event: ready\ndata: {}\n\n"
            async for each in _told(onlooker):
                if each is None:
                    yield b": still here\n\n"
                elif (key := (each.approval.id, each.state)) not in sent and may_see(each.approval, by):
                    sent.add(key)
                    yield _event(each, by)

        return _Events(stream(), staying)

    @api.get("/{approval_id}", summary="One approval, with what its reviewer needs to know")
    async def get_approval(approval_id: UUID, caller: Caller) -> ApprovalShown:
        async def one(connection: Connection, by: Voter) -> ApprovalShown:
            found = await seen(connection, approval_id, by)
            return shown(found, by, await people.now(connection))

        return await ask(caller, one)

    @api.get(
        "/{approval_id}/request", summary="The whole request, with personal data masked, for whoever may decide on it"
    )
    async def get_request(
        approval_id: UUID,
        caller: Caller,
        response: Response,
        values: Annotated[
            bool, Query(description="With what placeholders stand for; the audit log says who asked.")
        ] = False,
    ) -> RequestShown:
        response.headers["cache-control"] = "no-store"

        async def whole(connection: Connection, by: Voter) -> RequestShown:
            found = await seen(connection, approval_id, by)
            opened = await desk.open(connection, found, by, await people.now(connection), values=values)
            return RequestShown(
                id=found.id,
                asked=found.asked,
                request=dict(opened.request),
                edit=None if found.edit is None else found.edit.row,
                values=None if opened.values is None else dict(opened.values),
            )

        return await ask(caller, whole)

    @api.post(
        "/{approval_id}/votes",
        summary="Approve, also less than was asked, or reject",
        # Before LiteLLM looks for a key, which fails on a body that is no object.
        dependencies=[ballot_of],
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": ballot_schema()}}}},
    )
    async def vote(approval_id: UUID, caller: Caller, ballot: VoteRequest = ballot_of) -> ApprovalShown:
        if not clean(caller.user_id):
            raise NoVote.NOBODY.error

        async def count(connection: Connection, by: Voter) -> ApprovalShown:
            asked, edit = await seen(connection, approval_id, by), ballot.edit.edit if ballot.edit else None
            if edit is not None:
                await check_edit(asked, edit)
            changes: list[Change] = []
            voted = await db.vote(
                connection,
                approval_id,
                by,
                approve=ballot.decision == "approve",
                comment=ballot.comment or None,
                edit=edit,
                changes=changes,
            )
            journal.note(changes)
            return shown(voted, by, await people.now(connection))

        return await ask(caller, count)

    @api.post(
        "/{approval_id}/cancel",
        summary="Take back a request of your own; an administrator may take back anybody's",
        dependencies=[Depends(_nothing)],
    )
    async def cancel(approval_id: UUID, caller: Caller) -> ApprovalShown:
        async def take_back(connection: Connection, by: Voter) -> ApprovalShown:
            await seen(connection, approval_id, by)
            changes: list[Change] = []
            over = await db.cancel(connection, approval_id, by, changes)
            journal.note(changes)
            return shown(over, by, await people.now(connection))

        return await ask(caller, take_back)

    return api


async def _voter(connection: Connection, caller: UserAPIKeyAuth) -> Voter:
    """Who asks; the key by the hash that requests are written down with."""
    key = caller.api_key
    key_hash = hashlib.sha256(key.encode()).hexdigest() if key and key.startswith("sk-") else clean(key)
    teams = await people.teams_of(connection, caller.user_id, caller.team_id)
    role = None if caller.user_role is None else str(getattr(caller.user_role, "value", caller.user_role))
    return Voter(caller.user_id, role, teams, key_hash)


async def _page(
    connection: Connection, by: Voter, state: State | None, limit: int, cursor: UUID | None
) -> tuple[list[Approval], UUID | None]:
    """A page of what somebody may see, and where the next one begins; it may be short where they may see little."""
    found: list[Approval] = []
    looked = 0
    while looked < _LOOKED_THROUGH:
        batch = await queries.list_(connection, state, MOST, cursor)
        for each in batch:
            looked, cursor = looked + 1, each.id
            if may_see(each, by):
                found.append(each)
                if len(found) == limit:
                    return found, cursor
        if len(batch) < MOST:
            return found, None
    return found, cursor


async def _pending(connection: Connection, by: Voter) -> tuple[Voter, list[Approval]]:
    pending = await queries.list_(connection, State.REQUESTED, _PENDING)
    return by, [each for each in pending if may_see(each, by)]


async def _told(onlooker: Subscriber) -> AsyncIterator[ApprovalEvent | None]:
    """What happens, and None where nothing has for a while; ends when the feed does."""
    over = monotonic() + _LONGEST_S
    while monotonic() < over:
        told: ApprovalEvent | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(_HEARTBEAT_S):
                told = await onlooker.queue.get()
                if told is None:
                    return
        if told is None or told.state in _TOLD:
            yield told


_TOLD: Final = frozenset(set(State) - {State.CONSUMED})


def _event(told: ApprovalEvent, by: Voter) -> bytes:
    name = "requested" if told.state is State.REQUESTED else "decided"
    data: dict[str, Any] = {
        "event": name,
        "id": str(told.approval.id),
        "state": told.state.value,
        "at": told.at.isoformat(timespec="milliseconds"),
        "approval": shown(told.approval, by, told.at, whole=False).model_dump(mode="json"),
    }
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
