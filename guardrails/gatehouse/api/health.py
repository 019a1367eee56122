"""/governance/v1/health: the state of every part, without calling a model. Public, so states only."""

from __future__ import annotations

from fastapi import APIRouter, Response

from gatehouse.core.health import HealthCheck


def router(state: HealthCheck) -> APIRouter:
    """The route."""
    api = APIRouter(prefix="/governance/v1", tags=["governance"])

    @api.get("/health", summary="State of every part")
    async def health(response: Response) -> dict[str, object]:
        found = await state()
        response.status_code = 503 if found["status"] == "down" else 200
        return found

    return api
