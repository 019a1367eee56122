"""Prints every route that the installed LiteLLM registers, as JSON, in a process of its own because the import is slow.

Run as `python -m tests.support.litellm_routes`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


@cache
def registered() -> frozenset[tuple[str, str]]:
    """Return each method and path that LiteLLM registers, also in the routers that it loads on first use.

    A websocket has the method `WEBSOCKET`, an app that is mounted below a path `MOUNT`.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.litellm_routes"],
        cwd=REPOSITORY,
        env=os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOCAL_BLOG_POSTS": "True"},
        capture_output=True,
        text=True,
        check=True,
    )
    return frozenset((method, path) for method, path in json.loads(done.stdout.splitlines()[-1]))


def _all(routes: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for route in routes:
        if hasattr(route, "effective_candidates"):  # a router that was included
            yield from _all([*route.effective_candidates(), *route.effective_low_priority_routes()])
            continue
        real = getattr(route, "original_route", route)
        kind = type(real).__name__
        path = getattr(route, "path", "") or route.starlette_route.path
        methods = {"Mount": ["MOUNT"], "APIWebSocketRoute": ["WEBSOCKET"], "WebSocketRoute": ["WEBSOCKET"]}
        for method in methods.get(kind) or route.methods:
            yield method, path


def _print() -> None:
    from litellm.proxy import _lazy_features
    from litellm.proxy.proxy_server import app

    _lazy_features.register_all_features(app)
    print()
    print(json.dumps(sorted(set(_all(app.routes)))))


if __name__ == "__main__":
    _print()
