"""Receives webhooks: an HTTP server on loopback that keeps what arrives and answers as a test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Delivery:
    """Holds one request: its path, its headers in lower case, its body, the answer's status, and the time."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int
    at: float


class Receiver:
    """Takes every request.

    Attributes:
        answers: statuses of the next answers; then 200.
        answer_headers: sent with every answer.
        delay_s: wait before an answer.
        endless: answer with a body that never ends.
        deliveries: what arrived, in order.
    """

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.answer_headers: dict[str, str] = {}
        self.delay_s = 0.0
        self.endless = False
        self.deliveries: list[Delivery] = []
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with receiver._lock:
                    status = receiver.answers.pop(0) if receiver.answers else 200
                    receiver.deliveries.append(Delivery(self.path, headers, body, status, time.monotonic()))
                time.sleep(receiver.delay_s)
                try:
                    self.send_response(status)
                    for name, value in receiver.answer_headers.items():
                        self.send_header(name, value)
                    if not receiver.endless:
                        self.send_header("content-length", "0")
                    self.end_headers()
                    while receiver.endless:
                        self.wfile.write(b"x" * 65_536)
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def accepted(self) -> list[Delivery]:
        return [each for each in self.deliveries if each.status < 300]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
