"""Turns a call that LiteLLM has authenticated into a `GovernedCall`: who asks, and with which grants."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, Protocol
from uuid import UUID

from gatehouse.approvals.caller_options import APPROVAL_HEADER, ONLY_ASK, is_caller_option
from gatehouse.core.call import Agent, Caller, CallerGrants, GovernedCall, Payer
from gatehouse.core.text import clean
from gatehouse.guards.screens.categories import HEADER as BLOCK_CONTENT_HEADER
from gatehouse.proxy.model_access import may_use
from gatehouse.proxy.payers import payers_of


class UnidentifiedCall(Protocol):
    """Describe what is known of a call before its caller is."""

    @property
    def call_id(self) -> UUID: ...

    @property
    def started_at(self) -> datetime: ...

    @property
    def route(self) -> str: ...

    @property
    def hidden(self) -> Mapping[str, str]: ...


def governed_call(scope: UnidentifiedCall, key: Any, data: dict[str, Any], call_type: str) -> GovernedCall:
    """Return the call that LiteLLM is about to make. The pipeline adds the prompt.

    Args:
        key: LiteLLM's `UserAPIKeyAuth`: the caller and the grants.
        data: the request, with LiteLLM's own fields beside it.
    """
    headers = (data.get("proxy_server_request") or {}).get("headers") or {}
    hashes = {name: hashed for hashed, name in scope.hidden.items()}

    def recorded(name: object) -> str | None:
        return clean(hashes.get(str(name), name))

    return GovernedCall(
        call_id=scope.call_id,
        started_at=scope.started_at,
        route=scope.route,
        call_type=call_type,
        model=clean(data.get("model")),
        stream=data.get("stream") is True,
        caller=Caller(
            key_hash=key_hash(getattr(key, "api_key", None)),
            key_alias=clean(getattr(key, "key_alias", None)),
            user=clean(getattr(key, "user_id", None)),
            team=clean(getattr(key, "team_alias", None) or getattr(key, "team_id", None)),
            org=clean(getattr(key, "org_id", None)),
            role=clean(getattr(key, "user_role", None)),
            end_user=recorded(getattr(key, "end_user_id", None)),
            team_id=clean(getattr(key, "team_id", None)),
        ),
        agent=Agent(
            id=clean(getattr(key, "agent_id", None)) or recorded(headers.get("x-gatehouse-agent")),
            session=recorded(headers.get("x-gatehouse-session") or data.get("litellm_session_id")),
        ),
        grants=_grants(key, headers, payers_of(key, data, recorded(getattr(key, "end_user_id", None)))),
        hidden=scope.hidden,
    )


def _grants(key: Any, headers: dict[str, str], payers: tuple[Payer, ...]) -> CallerGrants:
    metadata = getattr(key, "metadata", None) or {}
    tags = metadata.get("tags")
    return CallerGrants(
        tags=tuple(str(clean(tag)) for tag in tags) if isinstance(tags, list) else (),
        spend_usd=_finite(getattr(key, "spend", None)) or 0.0,
        budget_usd=_finite(getattr(key, "max_budget", None)) or 0.0,
        key_metadata=metadata,
        team_metadata=getattr(key, "team_metadata", None) or {},
        headers={name: value for name, value in headers.items() if _tightens(name.lower())},
        approval_id=approval_id if (approval_id := headers.get(APPROVAL_HEADER)) != ONLY_ASK else None,
        may_use=partial(may_use, key),
        payers=payers,
    )


def _tightens(header: str) -> bool:
    """Tell whether a header is one by which callers tighten what a call may do."""
    return header.startswith("x-gatehouse-max-") or header == BLOCK_CONTENT_HEADER.lower() or is_caller_option(header)


def key_hash(key: str | None) -> str | None:
    """Return LiteLLM's own hash of a virtual key (SHA-256, hex). A key that arrives in clear is hashed here."""
    if not key:
        return None
    return hashlib.sha256(key.encode()).hexdigest() if key.startswith("sk-") else clean(key)


def _finite(cost: Any) -> float | None:
    """Return the cost as a number; None for NaN and infinity, which JSON cannot hold."""
    return float(cost) if isinstance(cost, int | float) and math.isfinite(cost) else None
