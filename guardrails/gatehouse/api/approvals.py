"""/governance/v1/approvals: the desk over HTTP, with LiteLLM's own keys.

Promises: a voter is the user of the key that asks, never a name in a request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from gatehouse.api.access import Caller, GovernanceRoute, takes
from gatehouse.api.approvals_shown import (
    ERRORS,
    ApprovalPage,
    ApprovalShown,
    RequestShown,
    VoteRequest,
    shown,
)
from gatehouse.approvals.desk import MAX_PAGE, Desk, KeyHolder, Seen
from gatehouse.approvals.event_stream import ApprovalEvent, Subscriber
from gatehouse.approvals.model import State, Voter
from gatehouse.core.clock import monotonic
from gatehouse.core.errors import AccessDenied, GovernanceError, InvalidRequest
from gatehouse.core.text import clean
from gatehouse.proxy.identity import key_hash
from gatehouse.proxy.litellm_api import ProxyException
from gatehouse.proxy.parts import part

_HEARTBEAT_S: Final = 15.0
# The key of a subscriber may have been taken away since: after this long they ask again.
_MAX_STREAM_S: Final = 600.0
_MAX_BODY_BYTES: Final = 65_536


class _Route(GovernanceRoute):
    """A route that answers as Gatehouse does where LiteLLM lets an auditor change nothing."""

    def refusal(self, error: Exception) -> GovernanceError | None:
        if isinstance(error, ProxyException) and str(error.code) == "403":
            return AccessDenied("LiteLLM lets this key, or its user's role, only read. Ask with another key.")
        return super().refusal(error)


class _EventResponse(StreamingResponse):
    """A stream of events that lets its subscriber go when it ends, also where the client left before it began."""

    def __init__(self, events: AsyncIterator[bytes], staying: AsyncExitStack) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._staying = staying

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._staying:
            await super().__call__(scope, receive, send)


async def _vote_request(request: Request) -> VoteRequest:
    """Read the body of a vote.

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
    """Check that there is no body, or an empty object.

    Raises:
        InvalidRequest: there is one.
    """
    if (await _body(request)).strip() not in (b"", b"{}"):
        raise InvalidRequest("body: nothing is expected here. Leave it out and ask again.")


async def _body(request: Request) -> bytes:
    body = await request.body()
    if len(body) > _MAX_BODY_BYTES:
        raise InvalidRequest("body: it is too long. Shorten the comment and ask again.")
    return body


AtDesk = Annotated[Desk, part("desk")]


async def _key_holder(caller: Caller) -> KeyHolder:
    """Return who asks; the key by the hash that requests are written down with."""
    role = None if caller.user_role is None else str(getattr(caller.user_role, "value", caller.user_role))
    return KeyHolder(caller.user_id, role, caller.team_id, key_hash(caller.api_key))


By = Annotated[KeyHolder, Depends(_key_holder)]

router = APIRouter(prefix="/governance/v1/approvals", tags=["governance"], route_class=_Route, responses=ERRORS)


@router.get("/", summary="Approvals that you may see, newest first")
@router.get("", include_in_schema=False)
async def list_approvals(
    by: By,
    desk: AtDesk,
    state: Annotated[State | None, Query(description="Only those in this state.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    cursor: Annotated[UUID | None, Query(description="`next` of the page before.")] = None,
) -> ApprovalPage:
    found, following = await desk.page(by, state, limit, cursor)
    return ApprovalPage(approvals=[shown(each, whole=False) for each in found], next=following)


# Before the one that takes an id.
@router.get(
    "/events",
    summary="What happens to approvals that you may see, as server-sent events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(by: By, desk: AtDesk) -> StreamingResponse:
    # Before the answer begins, so that it can still be a refusal.
    async with AsyncExitStack() as stack:
        waiting, subscriber = await stack.enter_async_context(desk.follow(by))
        return _EventResponse(_stream(waiting, subscriber), stack.pop_all())


@router.get("/{approval_id}", summary="One approval, with what its reviewer needs to know")
async def get_approval(approval_id: UUID, by: By, desk: AtDesk) -> ApprovalShown:
    return shown(await desk.see(approval_id, by))


@router.get(
    "/{approval_id}/request", summary="The whole request, with personal data masked, for whoever may decide on it"
)
async def get_request(
    approval_id: UUID,
    by: By,
    desk: AtDesk,
    response: Response,
    values: Annotated[
        bool, Query(description="With what placeholders stand for; the audit log says who asked.")
    ] = False,
) -> RequestShown:
    response.headers["cache-control"] = "no-store"
    opened = await desk.open(approval_id, by, values=values)
    return RequestShown(
        id=opened.approval.id,
        asked=opened.approval.asked,
        request=dict(opened.request),
        edit=None if opened.approval.edit is None else opened.approval.edit.row,
        values=None if opened.values is None else dict(opened.values),
    )


@router.post(
    "/{approval_id}/votes",
    summary="Approve, also less than was asked, or reject",
    # Before LiteLLM looks for a key, which fails on a body that is no object.
    dependencies=[Depends(_vote_request)],
    openapi_extra=takes(VoteRequest),
)
async def vote(
    approval_id: UUID, by: By, desk: AtDesk, wanted: Annotated[VoteRequest, Depends(_vote_request)]
) -> ApprovalShown:
    edit = wanted.edit.edit if wanted.edit else None
    comment, approve = wanted.comment or None, wanted.decision == "approve"
    return shown(await desk.vote(approval_id, by, approve=approve, comment=comment, edit=edit))


@router.post(
    "/{approval_id}/cancel",
    summary="Take back a request of your own; an administrator may take back anybody's",
    dependencies=[Depends(_nothing)],
)
async def cancel(approval_id: UUID, by: By, desk: AtDesk) -> ApprovalShown:
    return shown(await desk.cancel(approval_id, by))


async def _stream(waiting: Iterable[ApprovalEvent], subscriber: Subscriber) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n: what waits for a decision comes first\n\n"
    for each in waiting:
        yield _event(each, subscriber.by)
    yield b"event: ready\ndata: {}\n\n"
    over = monotonic() + _MAX_STREAM_S
    while monotonic() < over:
        try:
            async with asyncio.timeout(_HEARTBEAT_S):
                event = await subscriber.queue.get()
        except TimeoutError:
            yield b": still here\n\n"
            continue
        if event is None:
            return
        yield _event(event, subscriber.by)


def _event(event: ApprovalEvent, by: Voter) -> bytes:
    name = "requested" if event.state is State.REQUESTED else "decided"
    data: dict[str, Any] = {
        "event": name,
        "id": str(event.approval.id),
        "state": event.state.value,
        "at": event.at.isoformat(timespec="milliseconds"),
        "approval": shown(Seen(event.approval, by, event.at), whole=False).model_dump(mode="json"),
    }
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
