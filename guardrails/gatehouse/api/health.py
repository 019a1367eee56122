"""/governance/v1/health: the state of every part, without calling a model. Public, so states only."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from gatehouse.core.health import HealthCheck
from gatehouse.proxy.parts import part

router = APIRouter(prefix="/governance/v1", tags=["governance"])


@router.get("/health", summary="State of every part")
async def health(response: Response, look: Annotated[HealthCheck, part("look")]) -> dict[str, object]:
    found = await look()
    response.status_code = 503 if found["status"] == "down" else 200
    return found
