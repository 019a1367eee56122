"""Asks the gateway over HTTP for library mode: decide, an approval's state, audit. It runs on the background loop.

A gateway's answers become typed values; without a proper answer it raises `Away`, and for a 4xx an adapter's error.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from gatehouse_adapter._internal import clock, failures
from gatehouse_adapter.errors import GovernanceUnavailable, PolicyDenied
from gatehouse_adapter.litellm.options import GovernorConfig
from gatehouse_adapter.litellm.requests import ROUTE, Request

# uvicorn closes connections that were idle for 5 s. Dropping them earlier avoids a call on a closing connection.
_KEEPALIVE_SECONDS = 3.0


class Away(Exception):
    """Report an endpoint that is unreachable, too slow, answers 5xx, or is not a gateway."""

    def __init__(self, error: GovernanceUnavailable) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True)
class Decision:
    """Describe a call that may be made.

    Attributes:
        body: the body that may be sent.
        replacements: its placeholders and their values.
    """

    call_id: str
    policies: tuple[str, ...]
    body: Mapping[str, Any] = field(repr=False)
    replacements: Mapping[str, str] = field(repr=False)


class Endpoint:
    """Talk to one gateway."""

    def __init__(self, options: GovernorConfig) -> None:
        self._options = options
        # A call that waits for a person holds its connection, so their number is unlimited.
        limits = httpx.Limits(keepalive_expiry=_KEEPALIVE_SECONDS, max_connections=None, max_keepalive_connections=50)
        self._client = httpx.AsyncClient(limits=limits, timeout=None, headers=options.headers)  # noqa: S113  see _ask

    async def decide(
        self, request: Request, *, seconds: float, approval_id: str | None = None, wait_seconds: float = 0.0
    ) -> Decision:
        """Ask for a decision; `wait_seconds` is how long the gateway may hold the call for an approval.

        Raises:
            Away: there is none.
            GatehouseError: the gateway refuses the call.
        """
        options = self._options
        agent = {"id": options.client_id, **({"session": request.session} if request.session else {})}
        head: dict[str, Any] = {"route": ROUTE, "agent": agent, "wait_seconds": wait_seconds}
        if approval_id is not None:
            head["approval_id"] = approval_id
        content = b'{"body":' + request.body + b"," + json.dumps(head).encode()[1:]
        answer = await self._ask("POST", "/governance/v1/decide", content, seconds)
        body, replacements, policies = (answer.get(name) for name in ("body", "replacements", "policies"))
        named = tuple(each for each in policies if isinstance(each, str)) if isinstance(policies, list) else ()
        if answer.get("verdict") not in ("allow", None):
            raise PolicyDenied("The gateway did not allow the call.", policies=named)
        if not (
            answer.get("verdict") == "allow"
            and isinstance(answer.get("call_id"), str)
            and isinstance(body, dict)
            and isinstance(body.get("model"), str)
            and isinstance(replacements, dict)
            and all(isinstance(value, str) for value in replacements.values())
        ):
            raise self._away("answered with something that is not a decision. Check the address")
        return Decision(answer["call_id"], named, body, replacements)

    async def approval_state(self, approval_id: str, *, seconds: float) -> str:
        """Return `requested`, `approved`, ...; empty where the gateway does not tell.

        Raises:
            Away: there is no answer.
            GatehouseError: the gateway refuses to tell.
        """
        answer = await self._ask("GET", f"/governance/v1/approvals/{approval_id}", None, seconds)
        state = answer.get("state")
        return state if isinstance(state, str) else ""

    async def audit(self, content: bytes, *, seconds: float) -> Mapping[str, Any] | None:
        """Report a call. Return why its answer may not be used, or None.

        Raises:
            Away: there is no answer.
            GatehouseError: the gateway refuses the report.
        """
        blocked = (await self._ask("POST", "/governance/v1/audit", content, seconds)).get("blocked")
        return blocked if isinstance(blocked, dict) else None

    async def cancel(self, approval_id: str, *, seconds: float) -> None:
        """Cancel an approval that is no longer needed.

        Raises:
            Away: there is no answer.
            GatehouseError: it cannot be cancelled.
        """
        await self._ask("POST", f"/governance/v1/approvals/{approval_id}/cancel", b"{}", seconds)

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, method: str, path: str, content: bytes | None, seconds: float) -> dict[str, Any]:
        options = self._options
        try:
            async with asyncio.timeout(seconds):
                answer = await self._client.request(method, options.endpoint + path, content=content)
        except TimeoutError:
            raise self._away(f"did not answer within {seconds:g} s. Check that the gateway runs") from None
        except httpx.HTTPError as exc:
            error = failures.from_transport(exc, base_url=options.endpoint, api_key=self._secret)
            raise Away(GovernanceUnavailable(error.message)) from exc
        if not answer.is_success:
            error = failures.from_answer(
                answer.status_code,
                answer.headers,
                answer.content,
                base_url=options.endpoint,
                api_key=self._secret,
                now=clock.now(),
            )
            if 400 <= answer.status_code < 500:
                raise error
            raise Away(
                GovernanceUnavailable(
                    error.message, status=error.status, call_id=error.call_id, retry_after=error.retry_after
                )
            )
        try:
            found = json.loads(answer.content)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self._away("answered with something that is not a JSON object. Check the address")
        return found

    @property
    def _secret(self) -> str:
        return self._options.client_secret or "\0"  # cut out of messages; an empty text would match everywhere

    def _away(self, why: str) -> Away:
        return Away(GovernanceUnavailable(f"{self._options.endpoint} {why}."))
