"""The same gateway without Gatehouse inside: LiteLLM's own app, served exactly as `gatehouse serve` serves the gateway.

Run as `python -m bench.bare PORT`. It goes through `gatehouse serve` itself and changes only the app for uvicorn.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from gatehouse.gateway.huge_pages import use_huge_pages

COLLECTOR_THRESHOLDS = (50_000, 20, 50)  # as gatehouse.asgi sets them, which cannot be imported without its plugin


async def app(scope: dict[str, Any], receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """Run LiteLLM's app, with the collector and the memory set after start-up."""
    from litellm.proxy.proxy_server import app as litellm_app

    async def tuned(message: dict[str, Any]) -> None:
        if message["type"] == "lifespan.startup.complete":
            gc.collect()
            gc.freeze()
            gc.set_threshold(*COLLECTOR_THRESHOLDS)
            use_huge_pages()
        await send(message)

    await litellm_app(scope, receive, tuned if scope["type"] == "lifespan" else send)


def main() -> None:
    import uvicorn
    from gatehouse.cli.serve import serve

    run = uvicorn.run
    uvicorn.run = lambda _, **options: run("bench.bare:app", **options)
    serve(host="127.0.0.1", port=int(sys.argv[1]), wait=60)


if __name__ == "__main__":
    main()
