"""/governance/v1/decide and /governance/v1/audit: the gateway's side of library mode.

A caller has the gateway decide on a call, makes it, and reports how it ended. Promises: who may not make the call
through the proxy is not told to make it themselves; and callers report no call but their own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, HTTPException, Request, Security
from fastapi.responses import JSONResponse

from gatehouse.api.access import GovernanceRoute, takes
from gatehouse.api.approvals_shown import errors
from gatehouse.api.decide_shapes import (
    AUDIT_BYTES,
    DECIDE_BYTES,
    AgentSaid,
    MayBeMade,
    Recorded,
    ToDecide,
    ToRecord,
    encoded,
    read,
)
from gatehouse.api.estimate import checked_name, known_call_type, model_meant
from gatehouse.approvals.caller_options import APPROVAL_HEADER, HOLD_HEADER
from gatehouse.core import metrics
from gatehouse.core.clock import monotonic, new_call_id, now
from gatehouse.core.errors import AccessDenied, GovernanceError, GovernanceUnavailable
from gatehouse.core.http import CALL_ID_HEADER, EDITED_HEADER, SENDER
from gatehouse.dialects.caller_fields import caller_request
from gatehouse.ledger.library_report import Report
from gatehouse.ledger.store.library_calls import LibraryCall
from gatehouse.pipeline.library_mode import AdmittedCall, Library
from gatehouse.pipeline.recorded_names import RecordedNames, hide_names, hide_other_names, names_in, renamed
from gatehouse.pipeline.scope import CallScope, Incoming, current_scope, note_names
from gatehouse.proxy import library_spend
from gatehouse.proxy.authentication import authenticated
from gatehouse.proxy.configured import caller_bounds
from gatehouse.proxy.control_fields import control_fields
from gatehouse.proxy.identity import governed_call, key_hash
from gatehouse.proxy.litellm_api import ProxyException, api_key_header
from gatehouse.proxy.parts import part

log = logging.getLogger("gatehouse.library")

_CALL_ID: Final = CALL_ID_HEADER.decode()
_AUDIT: Final = "/governance/v1/audit"
_FAILED: Final = "The gateway could not decide on this. Try again soon."

_ERRORS: Final = errors(
    {
        400: "The body is not what it should be.",
        401: "No key that LiteLLM knows, or one that has expired.",
        403: "Refused: by a rule, a screen, a person; a person is needed first; or LiteLLM does not allow the model.",
        404: "There is no such call, or it is not yours.",
        410: "Nobody reported the call in time.",
        413: "It may use more than one request of yours may.",
        422: "A budget is exhausted.",
        429: "A budget is exhausted, or the key has as much under way, or waiting for approval, as one key may.",
        503: "A part that the decision needs is not there. Try again soon.",
    }
)


def _fields(scope: CallScope, call_type: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a call through the gateway could have; else none, and note the call's fault."""
    try:
        fields = caller_request(call_type, body, control_fields(), caller_bounds())
    except GovernanceError as error:
        scope.incoming = replace(scope.incoming, fault=error)
        return {}
    note_names(scope, fields)
    return fields


def _as_it_came(body: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body with each new field where its caller had put it."""
    new = body.get("extra_body") or {}
    top = {name: value for name, value in new.items() if name in given}
    below = {name: value for name, value in new.items() if name not in given}
    rest = {name: value for name, value in body.items() if name != "extra_body"}
    return {**rest, **top, **({"extra_body": below} if below else {})}


class _Route(GovernanceRoute):
    """A route that answers as Gatehouse does where LiteLLM has no shape for a refusal, and where anything fails."""

    def refusal(self, error: Exception) -> GovernanceError | None:
        if isinstance(error, ProxyException):
            return None
        refusal = _ours(error) if isinstance(error, HTTPException) else super().refusal(error)
        if refusal is None:
            log.exception("a request of library mode failed; it is refused")
            metrics.plugin_errors.labels(stage="library").inc()
            refusal = GovernanceUnavailable(_FAILED)
        return refusal


async def _started(library: Annotated[Library | None, part("library")]) -> Library:
    if library is None:
        raise GovernanceUnavailable("The gateway is still starting. Try again soon.")
    return library


Deciding = Annotated[Library, Depends(_started)]
Names = Annotated[RecordedNames | None, part("names")]
"""Take out of names what they say beyond a name; None where nothing is hidden."""

router = APIRouter(
    prefix="/governance/v1",
    tags=["governance"],
    route_class=_Route,
    dependencies=[Security(api_key_header)],  # for the description; LiteLLM looks at it with the call's own body
)


@router.post(
    "/decide",
    summary="Whether a call may be made, and how, by a caller who calls the model themselves",
    response_model=MayBeMade,
    responses={status: _ERRORS[status] for status in (400, 401, 403, 413, 422, 429, 503)},
    openapi_extra=takes(ToDecide),
)
async def decide(request: Request, deciding: Deciding, names: Names) -> JSONResponse:
    asked = await read(request, ToDecide, DECIDE_BYTES)
    call_type = known_call_type(asked.route)
    model = checked_name(asked.body.get("model"), "body.model")
    scope = CallScope(new_call_id(), asked.route, now(), monotonic(), incoming=Incoming(request.state.effort))
    scope.sender = request.scope.get(SENDER, scope.sender)
    fields = _fields(scope, call_type, asked.body)
    fields = renamed(fields, await hide_names(names, scope, names_in(fields)))  # as the edge has them
    token = current_scope.set(scope)
    try:
        async with _watched(request, scope):
            key = await authenticated(request, asked.route, encoded(fields or {"model": model}))
            scope.sender = key_hash(key.api_key) or scope.sender
            body = {**fields, "model": model_meant(key, model)}
            data = {**body, "proxy_server_request": {"headers": _headers(request, asked)}}
            await hide_other_names(names, scope, key, data)
            call = scope.call = replace(governed_call(scope, key, data, call_type), library=True)
            if scope.incoming.fault is not None:
                raise scope.incoming.fault
            admitted = await deciding.decide(scope, call, body)
    except ProxyException as error:
        _refused_by_proxy(deciding, scope, int(error.code) if error.code.isdigit() else 500)
        error.headers[_CALL_ID] = str(scope.call_id)
        raise
    except Exception as error:
        return _refused(deciding, scope, error)
    finally:
        current_scope.reset(token)
    return _may_be_made(scope, admitted, _as_it_came(body, asked.body))


@router.post(
    "/audit",
    summary="How a call ended that its caller made; the first report counts",
    responses={status: _ERRORS[status] for status in (400, 401, 403, 404, 410, 503)},
    openapi_extra=takes(ToRecord),
)
async def audit(request: Request, deciding: Deciding, names: Names) -> Recorded:
    said = await read(request, ToRecord, AUDIT_BYTES)
    # Not with what was sent: the model that answered is none that the key must be allowed, nor is it paid for here.
    key = await authenticated(request, _AUDIT, b"{}")
    mine, user = key_hash(key.api_key), key.user_id
    report = await _plain(names, said.report(), mine or user or "unnamed")
    taken = await deciding.report(said.call_id, partial(_is_theirs, mine, user), report)
    if taken.first:
        await library_spend.add(key, taken.call, report)
    return Recorded.model_validate({"call_id": said.call_id, "recorded": True, "blocked": taken.blocked})


def _may_be_made(scope: CallScope, admitted: AdmittedCall, body: dict[str, Any]) -> JSONResponse:
    answer = MayBeMade(
        call_id=scope.call_id,
        verdict="allow",
        policies=list(admitted.policies),
        body=body,
        replacements=dict(admitted.originals),
        expires_at=admitted.expires_at.isoformat(timespec="milliseconds"),
    )
    headers = {_CALL_ID: str(scope.call_id)}
    if scope.approval is not None and scope.approval.edit is not None:
        headers[EDITED_HEADER.decode()] = ",".join(scope.approval.edit.row)
    return JSONResponse(answer.model_dump(mode="json"), headers=headers)


def _is_theirs(mine: str | None, user: str | None, call: LibraryCall) -> bool:
    """Say whether the caller with this key, or without one as this user, was let make the call."""
    caller = call.request.get("caller") or {}
    if mine or caller.get("key_hash"):
        return bool(mine) and caller.get("key_hash") == mine
    return bool(user) and caller.get("user") == user  # who came without a key, with a token of their own


async def _plain(names: RecordedNames | None, report: Report, caller: str) -> Report:
    """Return the report with what stands for the names in it that are more than names.

    Args:
        caller: whose turns at the scanner it takes.
    """
    if names is None:
        return report
    said = (name for name in (report.model, report.error) if name)
    hidden = await names.hide(said, caller=caller)
    return replace(
        report, model=hidden.get(report.model or "", report.model), error=hidden.get(report.error or "", report.error)
    )


def _headers(request: Request, asked: ToDecide) -> dict[str, str]:
    """Return the headers that the call would have had through the gateway."""
    headers = dict(request.headers)
    agent = asked.agent or AgentSaid()
    said = {
        "x-gatehouse-agent": agent.id,
        "x-gatehouse-session": agent.session,
        APPROVAL_HEADER: asked.approval_id,
        HOLD_HEADER: None if asked.wait_seconds is None else f"{asked.wait_seconds:.3f}",
    }
    return headers | {name: value for name, value in said.items() if value is not None}


@asynccontextmanager
async def _watched(request: Request, scope: CallScope) -> AsyncIterator[None]:
    """Note when the client leaves."""

    async def leave() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        scope.ending.client_gone = True
        scope.left.set()

    watch = asyncio.create_task(leave())
    try:
        yield
    finally:
        watch.cancel()


def _ours(error: HTTPException) -> GovernanceError:
    """Return what LiteLLM refuses without a shape: a route with 403, what it cannot check with 503."""
    return GovernanceUnavailable(_FAILED) if error.status_code >= 500 else AccessDenied(str(error.detail))


def _refused(deciding: Library, scope: CallScope, error: Exception) -> JSONResponse:
    """Write down that the call was refused, or that deciding on it failed, and answer so."""
    if isinstance(error, HTTPException):
        refusal = _ours(error)
        _refused_by_proxy(deciding, scope, refusal.status)
    else:
        if isinstance(error, GovernanceError):
            refusal = error
        else:
            log.exception("call %s could not be decided on; it is refused", scope.call_id)
            metrics.plugin_errors.labels(stage="admit").inc()
            refusal = GovernanceUnavailable(_FAILED)
        scope.refusal, scope.ending.http_status = refusal, refusal.status
        deciding.refused(scope)
    headers = {**refusal.headers, _CALL_ID: str(scope.call_id)}
    return JSONResponse(refusal.body(str(scope.call_id)), refusal.status, headers)


def _refused_by_proxy(deciding: Library, scope: CallScope, status: int) -> None:
    """Write down that LiteLLM refused the call; it told the plugin who asked, unless it does not know them."""
    scope.ending.http_status = status
    if scope.call is not None:
        scope.call = replace(scope.call, library=True)
    if status == 401:
        metrics.unauthenticated.inc()
    else:
        deciding.refused(scope)
