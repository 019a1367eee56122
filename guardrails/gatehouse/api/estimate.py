"""/governance/v1/estimate: what a request would cost, and whether its caller's limits allow it; nothing is sent.

Any key that LiteLLM knows may ask: the answer says prices and the caller's own limits, and nothing else.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request

from gatehouse.api.access import Caller, GovernanceRoute
from gatehouse.core.errors import InvalidRequest, LimitExceeded, NotFound
from gatehouse.dialects.call_types import CALL_TYPES, call_type_of
from gatehouse.dialects.caller_fields import caller_request
from gatehouse.dialects.canonical import CallerNames, CanonicalRequest, canonical_request
from gatehouse.dialects.parts import UnknownShape
from gatehouse.guards.offload import OFFLOAD, effort
from gatehouse.pipeline.in_force import PolicyInForceHolder
from gatehouse.policy.limits import Ceiling, Estimate, ceiling, check
from gatehouse.pricing.estimate import Prices
from gatehouse.proxy.configured import caller_bounds
from gatehouse.proxy.control_fields import control_fields
from gatehouse.proxy.litellm_api import UserAPIKeyAuth
from gatehouse.proxy.parts import part

_MAX_NAME_CHARS: Final = 500

_KNOWN: Final = frozenset(name if name == "anthropic_messages" else name[1:] for name in CALL_TYPES.values())


async def _sent(request: Request) -> dict[str, Any]:
    """Read the body.

    Raises:
        InvalidRequest: it is no JSON object.
    """
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise InvalidRequest("The body is not a JSON object. Send the request itself, as its API describes it.")
    return body


Body = Annotated[dict[str, Any], Depends(_sent)]


router = APIRouter(
    prefix="/governance/v1",
    tags=["governance"],
    # Before LiteLLM looks for a key, which fails on a body that is no object.
    dependencies=[Depends(_sent)],
    route_class=GovernanceRoute,
)


@router.post("/estimate", summary="What a request would cost, and whether its caller's limits allow it")
async def estimate(
    request: Request,
    caller: Caller,
    body: Body,
    prices: Annotated[Prices, part("prices")],
    governed: Annotated[PolicyInForceHolder, part("governed")],
) -> dict[str, Any]:
    call_type = _call_type(body.pop("call_type", None), body.pop("route", None))
    name = checked_name(body.get("model"), "model")
    found = await estimated(prices, caller, call_type, body, effort(await request.body()))
    limits = governed.current.policy.limits
    own, teams = caller.metadata or {}, caller.team_metadata or {}
    most = ceiling(limits, own, teams, dict(request.headers), key_name=caller.key_alias)
    try:
        check(found, most, limits)
    except LimitExceeded as error:
        return _answer(name, found, most, error.message)
    return _answer(name, found, most, None)


async def estimated(
    prices: Prices, caller: UserAPIKeyAuth, call_type: str, body: dict[str, Any], work: int
) -> Estimate:
    """Estimate a request.

    Args:
        body: the request, which names its model.
        work: `effort` of the bytes that were read.

    Raises:
        NotFound: no such model.
        InvalidRequest: it is not a request of that API.
    """
    model = model_meant(caller, body["model"])
    if not prices.knows(model):
        raise NotFound("model: this gateway serves none by that name. GET /v1/models lists those that it does.")
    run = partial(OFFLOAD.run, work, caller.api_key or "unnamed")
    try:
        asked = await run(partial(_read, call_type, body))
    except UnknownShape as error:
        raise InvalidRequest(f"The request is not understood: {error}. Correct it and ask again.") from None
    await prices.prepare(model, [each.text for each in asked.texts])
    return await run(partial(prices.estimate, asked, model))


def _read(call_type: str, said: dict[str, Any]) -> CanonicalRequest:
    body = caller_request(call_type, said, control_fields(), caller_bounds())
    return canonical_request(call_type, body, CallerNames.of(body))


def _answer(name: str, found: Estimate, most: Ceiling, refusal: str | None) -> dict[str, Any]:
    return {
        "model": name,
        "estimated_cost_usd": found.estimated_usd,
        "input_tokens": found.input_tokens,
        "max_output_tokens": found.max_output_tokens,
        "price": {
            "input_usd_per_token": found.input_usd_per_token,
            "output_usd_per_token": found.output_usd_per_token,
            "source": found.price_source,
        },
        "within_limits": refusal is None,
        "refusal": refusal,
        "limits": {
            "max_tokens": most.max_tokens,
            "max_tokens_from": most.tokens_from or None,
            "max_cost_usd": most.max_cost_usd,
            "max_cost_from": most.cost_from or None,
        },
    }


def _call_type(call_type: Any, route: Any) -> str:
    """Return LiteLLM's call type, from its name or from a route; chat when neither is given."""
    if call_type is None and route is None:
        return "acompletion"
    if call_type is not None:
        if isinstance(call_type, str) and (call_type in _KNOWN or call_type.removeprefix("a") in _KNOWN):
            return call_type
        raise InvalidRequest(f"call_type: expected one of {', '.join(sorted(_KNOWN))}. Correct it and ask again.")
    return known_call_type(route)


def known_call_type(route: Any) -> str:
    """Return LiteLLM's call type on a route, such as `/v1/chat/completions`.

    Raises:
        InvalidRequest: there is none such.
    """
    call_type = call_type_of(route) if isinstance(route, str) else None
    if call_type is None:
        raise InvalidRequest("route: expected one such as /v1/chat/completions or /v1/messages. Correct it.")
    return call_type


def checked_name(name: Any, field: str) -> str:
    """Return the name of a model that this field holds.

    Raises:
        InvalidRequest: it holds none.
    """
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME_CHARS:
        raise InvalidRequest(f"{field}: the name of a model was expected. Correct it and ask again.")
    return name


def model_meant(caller: UserAPIKeyAuth, name: str) -> str:
    """Return the model that LiteLLM calls by this name: keys and teams may have their own names for models."""
    for aliases in (caller.aliases, caller.team_model_aliases):
        alias = aliases.get(name) if isinstance(aliases, dict) else None
        if isinstance(alias, str):
            return alias
    return name
