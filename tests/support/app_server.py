"""Serves an ASGI app of the tests on a port, in a thread of their process."""

from __future__ import annotations

import threading

import uvicorn
from starlette.types import ASGIApp

from tests.support.process import wait_until


class AppServer:
    """Serves until it is closed.

    Args:
        keep_alive_s: how long an idle connection stays open. Where a gateway uses connections again, longer than the
            tests: else the server hangs up now and then just as the gateway sends.
    """

    def __init__(self, app: ASGIApp, port: int, *, log_level: str = "error", keep_alive_s: int = 3600) -> None:
        config = uvicorn.Config(
            app, host="127.0.0.1", port=port, log_level=log_level, lifespan="off", timeout_keep_alive=keep_alive_s
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started, "the tests' server answers")

    def close(self, *, force: bool = False) -> None:
        """Stop; with `force` without waiting for open connections."""
        self._server.should_exit = True
        self._server.force_exit = force
        self._thread.join(10)
