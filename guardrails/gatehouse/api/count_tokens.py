"""POST /v1/messages/count_tokens: about how many input tokens a request to /v1/messages has; nothing is sent.

LiteLLM's own route sends the texts to the provider, past every stage, so this one takes its place. It counts with the
tokenizers that ship inside LiteLLM, as the estimate does, never below them, and a header of the answer says so.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, FastAPI, Request, Response

from gatehouse.api.access import GovernanceRoute
from gatehouse.api.decide_shapes import encoded
from gatehouse.api.estimate import Body, checked_name, estimated
from gatehouse.guards.offload import effort
from gatehouse.pricing.estimate import Prices
from gatehouse.proxy.authentication import authenticated
from gatehouse.proxy.parts import part

PATH: Final = "/v1/messages/count_tokens"
COUNT_HEADER: Final = "x-gatehouse-token-count"

router = APIRouter(tags=["governance"], route_class=GovernanceRoute)


@router.post(PATH, summary="About how many input tokens a request to /v1/messages has; nothing is sent")
async def count_tokens(
    request: Request, response: Response, body: Body, prices: Annotated[Prices, part("prices")]
) -> dict[str, Any]:
    model = checked_name(body.get("model"), "model")
    caller = await authenticated(request, PATH, encoded({"model": model}))
    found = await estimated(prices, caller, "anthropic_messages", body, effort(await request.body()))
    response.headers[COUNT_HEADER] = "estimate"
    return {"input_tokens": found.input_tokens}


def replace_route(app: FastAPI) -> None:
    """Serve this route, and no longer the one of that path that the application has."""
    app.router.routes[:] = [each for each in app.router.routes if getattr(each, "path", None) != PATH]
    app.include_router(router)
