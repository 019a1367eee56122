"""The parts of the gateway that LiteLLM's application carries for the routes that Gatehouse adds to it."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, Request


def part(name: str) -> Any:
    """Return the dependency that hands a route this part; `asgi.py` says which there are."""

    async def get(request: Request) -> Any:
        return getattr(request.app.state.gatehouse, name)

    return Depends(get)
