"""`python -m bench first_byte`: how long the first text of a stream takes from the provider's to the client's.

Two gateways answer the same streamed questions, one with screens and masking and one with an empty policy. The model
sends a piece of text every 30 ms, in English, Chinese, Japanese and Thai. Both ends are in this process, and read one
clock: a time begins when the model has written its first text, and ends when the client has read some of it.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import yaml

from bench import report
from bench.gateways import OURS, Variant, make_key, start_gateways
from bench.measure import Gateway
from bench.pipeline_gateways import PLAIN, POLICY
from bench.services import start_services
from tests.support.process import free_port

# What models send at a time: a word with the blank before it, or a few characters.
SAID: dict[str, tuple[str, ...]] = {
    "English": (
        "The",
        " tram",
        " leaves",
        " the",
        " square",
        " at",
        " nine",
        " and",
        " crosses",
        " the",
        " river",
        ".",
    ),
    "Chinese": (
        "\u7535\u8f66",
        "\u4e5d\u70b9",
        "\u79bb\u5f00",
        "\u5e7f\u573a",
        "\uff0c",
        "\u4e24\u6b21",
        "\u8fc7\u6cb3",
        "\u3002",
    ),
    "Japanese": (
        "\u96fb\u8eca",
        "\u306f",
        "\u4e5d\u6642",
        "\u306b",
        "\u5e83\u5834",
        "\u3092",
        "\u51fa\u3066",
        "\u3001",
        "\u5ddd",
        "\u3092\u6e21\u308b",
        "\u3002",
    ),
    "Thai": (
        "\u0e23\u0e16",
        "\u0e23\u0e32\u0e07",
        "\u0e2d\u0e2d\u0e01",
        "\u0e08\u0e32\u0e01",
        "\u0e08\u0e31\u0e15\u0e38\u0e23\u0e31\u0e2a",
        "\u0e40\u0e01\u0e49\u0e32",
        "\u0e42\u0e21\u0e07",
    ),
}
PAUSE_S = 0.03
GOAL_MS = 50.0
_numbers = itertools.count()


@dataclass
class Model:
    """Stream answers on a port, and note when the first text of each was written.

    Attributes:
        written: seconds of the monotonic clock, by the number of the question.
    """

    port: int
    written: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)
        async with server:
            await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.lower().split(b"\r\n")
                length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
                if not head.startswith(b"POST"):  # LiteLLM looks what models there are
                    writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{"data": []}')
                    continue
                asked = json.loads(await reader.readexactly(length))
                language, number = asked["messages"][-1]["content"].split(":")[:2]
                await self._stream(writer, language, number)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _stream(self, writer: asyncio.StreamWriter, language: str, number: str) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        deltas = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in SAID[language]), {}]
        for place, delta in enumerate(deltas):
            finish = None if delta else "stop"
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            chunk = {
                "id": "c",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": "constant",
                "choices": [choice],
            }
            _write(writer, f"data: {json.dumps(chunk)}\n\n".encode())
            await writer.drain()
            if place == 1:
                self.written[number] = time.monotonic()
            await asyncio.sleep(PAUSE_S)
        _write(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def ask(client: httpx.Client, model: Model, language: str) -> float:
    """Return the milliseconds from the model's first text to the client's."""
    number = str(next(_numbers))
    said = f"{language}:{number}: write to person{number}@example.com, please."
    body = {"model": "bench", "stream": True, "messages": [{"role": "user", "content": said}]}
    first, text = 0.0, ""
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            if answer.status_code != 200 or not line.startswith("data: {"):
                continue
            text += "".join(choice["delta"].get("content") or "" for choice in json.loads(line[6:])["choices"])
            if text and not first:
                first = time.monotonic()
    if text != "".join(SAID[language]):
        raise SystemExit(f"error: bench: {answer.status_code}: the answer is not what the model said: {text[:200]!r}")
    return 1000 * (first - model.written.pop(number))


def measure(gateways: Sequence[Gateway], model: Model, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return the times of each gateway in each language; the gateways take turns."""
    clients = {}
    for gateway in gateways:
        headers = {"authorization": f"Bearer {make_key(gateway)}"}
        clients[gateway.name] = httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", headers=headers, timeout=60)
    for client in clients.values():
        for language in SAID:
            ask(client, model, language)
    times: dict[str, dict[str, list[float]]] = {name: {language: [] for language in SAID} for name in clients}
    for _ in range(rounds):
        for language in SAID:
            for name, client in clients.items():
                times[name][language].append(ask(client, model, language))
    return times


def text(times: dict[str, dict[str, list[float]]]) -> str:
    """Return the report for people."""
    with_screens, without = times[OURS], times[PLAIN]
    lines = [
        "",
        f"{'ms from first text to first text':34}{'with screens':>14}{'without':>10}{'apart, p50':>12}{'goal':>8}",
    ]
    for language in SAID:
        ours, plain = (statistics.median(each[language]) for each in (with_screens, without))
        most = max(with_screens[language])
        verdict = "met" if ours - plain <= GOAL_MS else "missed"
        lines.append(
            f"{language + f' (with, at most {most:.0f})':34}{ours:14.1f}{plain:10.1f}{ours - plain:12.1f}{verdict:>8}"
        )
    lines += ["", f"{datetime.now(UTC):%Y-%m-%d}  " + "  ".join(f"{k}={v}" for k, v in report.environment().items())]
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench first_byte", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30, help="answers of each gateway in each language (30)")
    chosen = parser.parse_args(argv)
    if chosen.rounds < 1:
        parser.error("--rounds must be above 0")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stack below is unwound
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gatehouse-bench-")))
        governed, plain = folder / "policy.yaml", folder / "plain.yaml"
        governed.write_text(yaml.safe_dump(POLICY, sort_keys=False))
        plain.write_text("version: 1\n")
        _say("starting Postgres, Redis and the model ...")
        model = Model(free_port())
        model.start()
        services = replace(start_services(stack, folder), upstream_port=model.port)
        variants = [Variant(OURS, OURS, governed), Variant(PLAIN, OURS, plain)]
        gateways = start_gateways(stack, folder, services, variants, _say)
        print(text(measure(gateways, model, chosen.rounds)))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
