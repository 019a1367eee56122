"""What is asked and answered in library mode, on the wire: strict, for every field is the caller's.

A body is read once, to its end or to its bound; what is no JSON, or means two things at once, is refused.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Annotated, Any, Final, Literal, TypeVar
from uuid import UUID

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect

from gatehouse.core.call import Status, Usage
from gatehouse.core.errors import InvalidRequest
from gatehouse.core.http import SENDER
from gatehouse.core.strict_json import decode
from gatehouse.core.text import clean
from gatehouse.dialects.requested import MOST
from gatehouse.guards.offload import OFFLOAD, effort
from gatehouse.ledger.library_report import Report

_MEBI: Final = 1 << 20
DECIDE_BYTES: Final = 32 * _MEBI
"""A request with its files in it."""
AUDIT_BYTES: Final = 4 * _MEBI

_Name = Annotated[str, Field(min_length=1, max_length=256)]
_Count = Annotated[int, Field(ge=0, le=MOST)]
_B = TypeVar("_B", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class AgentSaid(_Strict):
    """Which agent asks, in which session: as the headers `X-Gatehouse-Agent` and `X-Gatehouse-Session`."""

    id: _Name | None = None
    session: _Name | None = None


class ToDecide(_Strict):
    """A call that its caller would make."""

    model_config = ConfigDict(title="ToDecide")

    route: Annotated[str, Field(max_length=100, description="Such as /v1/chat/completions.")] = "/v1/chat/completions"
    body: Annotated[dict[str, Any], Field(description="The request, as it would be sent to that route.")]
    agent: AgentSaid | None = None
    approval_id: Annotated[str, Field(max_length=100)] | None = None
    wait_seconds: (
        Annotated[float, Field(ge=0, le=86_400, description="The longest to wait here for people to approve.")] | None
    ) = None


class MayBeMade(BaseModel):
    """A call that may be made."""

    call_id: UUID
    verdict: Literal["allow"]
    policies: list[str] = Field(description="Ids of the rules that matched.")
    body: dict[str, Any] = Field(description="The request as it may be sent: masked, shortened, with another model.")
    replacements: dict[str, str] = Field(description="What each placeholder in it stands for.")
    expires_at: str = Field(description="Until when to report how the call ended.")


class UsageSaid(_Strict):
    """Tokens, as the provider counted them."""

    prompt_tokens: _Count
    completion_tokens: _Count


class ToolCallSaid(_Strict):
    """A tool that the model asked for."""

    name: _Name


class ToRecord(_Strict):
    """How a call ended that its caller made."""

    model_config = ConfigDict(title="ToRecord")

    call_id: UUID
    status: Literal["success", "failure", "partial"]
    model: _Name | None = None
    usage: UsageSaid | None = None
    cost_usd: Annotated[float, Field(ge=0, le=1e9)] | None = None
    latency_ms: Annotated[float, Field(ge=0, le=1e12)] | None = None
    error: (
        Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$", description="A class or a code; no sentence.")] | None
    ) = None
    answer: Annotated[str, Field(description="What the model said, with its placeholders.")] | None = None
    tool_calls: Annotated[list[ToolCallSaid], Field(max_length=1_000)] | None = None

    def report(self) -> Report:
        """Return the report as the ledger takes it."""
        usage = None
        if self.usage is not None:
            asked, answered = self.usage.prompt_tokens, self.usage.completion_tokens
            usage = Usage(asked, answered, asked + answered)
        return Report(
            Status(self.status),
            self.model,
            usage,
            self.cost_usd,
            self.latency_ms,
            self.error,
            self.answer,
            [str(clean(each.name)) for each in self.tool_calls or ()],
        )


class Withheld(BaseModel):
    """Why the gateway would not have passed an answer on."""

    code: str
    message: str
    policies: list[str]


class Recorded(BaseModel):
    """A report that is kept."""

    call_id: UUID
    recorded: Literal[True]
    blocked: Withheld | None = Field(description="Set where the answer may not be used.")


async def read(request: Request, kind: type[_B], most_bytes: int) -> _B:
    """Read the body of a request.

    Raises:
        InvalidRequest: it is none.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most_bytes:
                raise InvalidRequest(f"body: it is longer than {most_bytes // _MEBI} MiB. Send less.")
    except ClientDisconnect:
        raise InvalidRequest("body: it broke off. Send it again.") from None
    request.state.effort = effort(body)
    return await OFFLOAD.run(request.state.effort, request.scope.get(SENDER, "unnamed"), partial(_read, body, kind))


def _read(body: bytearray, kind: type[_B]) -> _B:
    try:
        said = decode(body.decode())
        text = encoded(said)
    except (ValueError, RecursionError):
        raise InvalidRequest("body: not one JSON object whose every name is given once. Correct it.") from None
    if not isinstance(said, dict):
        raise InvalidRequest("body: not a JSON object. Send one.")
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        # Names of fields that are not known are the caller's words.
        known = [str(part) for part in first["loc"] if isinstance(part, int) or part in _KNOWN]
        raise InvalidRequest(f"{'.'.join(known) or 'body'}: {first['msg']}. Correct it and ask again.") from None


def encoded(value: Any) -> bytes:
    """Return JSON text.

    Raises:
        ValueError: JSON cannot say it (an infinite number), or UTF-8 cannot (a lone surrogate).
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


_KNOWN: Final = frozenset(
    name for kind in (ToDecide, AgentSaid, ToRecord, UsageSaid, ToolCallSaid) for name in kind.model_fields
)
