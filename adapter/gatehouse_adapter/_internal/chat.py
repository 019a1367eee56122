"""Carries out one chat call: checks the caller's limits, asks for approval where it is required, sends the call.

Promises: a call that is refused here was not sent, and an approved call is sent once, with the approval's id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gatehouse_adapter._internal import answers, failures
from gatehouse_adapter._internal.decisions import Decisions
from gatehouse_adapter._internal.guard import Guard
from gatehouse_adapter._internal.sending import Sender
from gatehouse_adapter._internal.settings import is_header_value
from gatehouse_adapter.errors import (
    ApprovalExpired,
    ApprovalRejected,
    ApprovalRequired,
    BadRequest,
    GatehouseError,
    InvalidResponse,
)
from gatehouse_adapter.results import Approval, Completion, CostEstimate
from gatehouse_adapter.streams import ChatStream

APPROVAL_HEADER: Final = "x-gatehouse-approval"
_HOLD_HEADER: Final = "x-gatehouse-hold"
_ONLY_ASK: Final = "request"
_PREFIX: Final = "litellm/"
_ID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Chat:
    """Make the chat calls of one adapter.

    Args:
        timeout: seconds for each request, as the adapter has them.
    """

    def __init__(self, sender: Sender, guard: Guard, *, timeout: float) -> None:
        self._sender = sender
        self._guard = guard
        self._timeout = timeout
        self._decisions = Decisions(sender)

    async def aclose(self) -> None:
        """Stop waiting for decisions."""
        await self._decisions.aclose()

    async def complete(
        self, body: Mapping[str, Any], *, approval_id: str | None, wait_seconds: float | None
    ) -> Completion | ChatStream:
        """Check and send; `wait_seconds` is how long to wait for a required approval, None to raise at once."""
        headers = self._guard.headers
        if approval_id is not None:
            if not is_header_value(approval_id):
                raise BadRequest("approval_id holds characters that no id has. Nothing was sent. Copy it again.")
            headers[APPROVAL_HEADER] = approval_id
        body = await self._checked(body)
        if wait_seconds is None:
            return await self._send(body, headers)
        # Do not let the gateway hold the call: if a held connection breaks, nobody knows whether the call was made.
        headers[_HOLD_HEADER] = "0"
        try:
            return await self._send(body, headers)
        except ApprovalRequired as required:
            if required.approval is None:
                raise
            approval = required.approval
        approved = await self._decisions.wait(approval, self.get_approval, seconds=wait_seconds)
        if approved.state != "approved":
            raise _refusal(approved)
        return await self._send(body, {**headers, APPROVAL_HEADER: approved.id})

    async def ask(self, body: Mapping[str, Any]) -> Approval:
        """Ask for approval of this call and send nothing."""
        body = await self._checked(body)
        try:
            await self._send(body, {**self._guard.headers, APPROVAL_HEADER: _ONLY_ASK})
        except ApprovalRequired as required:
            if required.approval is None:
                raise
            return await self.get_approval(required.approval.id)
        raise InvalidResponse("The gateway made the call, although only its approval was requested. Update it.")

    async def get_approval(self, approval_id: str) -> Approval:
        """Return an approval with its state."""
        if not isinstance(approval_id, str) or not _ID.fullmatch(approval_id):
            raise BadRequest("approval_id is not an approval's id. Nothing was sent. Copy it again.")
        return await self._sender.ask("GET", f"/governance/v1/approvals/{approval_id}", answers.approval)

    async def estimate(self, body: Mapping[str, Any]) -> CostEstimate:
        """Return what a call may use; it is not sent."""
        return await self._sender.ask(
            "POST", "/governance/v1/estimate", answers.estimate, body=body, headers=self._guard.headers
        )

    async def _checked(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the request as it may be sent."""
        self._guard.check_content(body["messages"])
        await self._guard.turn()
        if not self._guard.needs_estimate:
            return body
        estimate = await self.estimate(body)
        bounded = self._guard.bounded(body, estimate)
        self._guard.check_estimate(estimate if bounded is body else await self.estimate(bounded))
        return bounded

    async def _send(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> Completion | ChatStream:
        return await (self._stream(body, headers) if body.get("stream") else self._whole(body, headers))

    async def _whole(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> Completion:
        async with self._sender.deadline(self._timeout) as deadline:
            response = await self._sender.open(
                "POST", "/v1/chat/completions", deadline=deadline, body=body, headers=headers
            )
            answer = await self._sender.read(response)
        with self._sender.reading(response):
            raw = answers.json_object(answer)
            if raw.get("error"):
                raise self._sender.error_inside(raw, response)
            return answers.completion(raw, response.headers, failures.call_id(response.headers))

    async def _stream(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> ChatStream:
        async with self._sender.deadline(self._timeout) as deadline:
            response = await self._sender.open(
                "POST",
                "/v1/chat/completions",
                deadline=deadline,
                body=body,
                headers={**headers, "accept": "text/event-stream"},
            )
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "text/event-stream":
                answer = await self._sender.read(response)
                with self._sender.reading(response):
                    raw = answers.json_object(answer)
                    if raw.get("error"):
                        raise self._sender.error_inside(raw, response)
                    raise ValueError("a stream was requested, and the answer is none")
        return ChatStream(response, self._sender, timeout=self._timeout)


def body_of(
    messages: Sequence[Mapping[str, Any]], model: str, *, stream: bool, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the request, always the same to the byte, because an approval binds it.

    Some frameworks write a model of LiteLLM's proxy as `litellm/<model>`; the gateway knows it without that.
    """
    body = {**options, "model": model.removeprefix(_PREFIX), "messages": list(messages)}
    return {"stream_options": {"include_usage": True}, **body, "stream": True} if stream else body


def _refusal(approval: Approval) -> GatehouseError:
    rules = approval.raw.get("rules")
    policies = tuple(rule for rule in rules if isinstance(rule, str)) if isinstance(rules, list) else ()
    if approval.state == "rejected":
        said = f": {failures.one_line(approval.comment)}" if approval.comment else "."
        return ApprovalRejected(f"A reviewer rejected this request{said}", policies=policies, approval=approval)
    why = {
        "expired": "The approval has expired.",
        "cancelled": "The request for approval was cancelled.",
        "consumed": "The approval has admitted its one request, which another call has sent.",
    }.get(approval.state or "", f"The approval is {approval.state}.")
    return ApprovalExpired(f"{why} Ask again without its id.", policies=policies, approval=approval)
