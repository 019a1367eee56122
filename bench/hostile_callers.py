"""64 hostile callers of one gateway: `python -m bench.hostile_callers PORT KEY,KEY,... SECONDS`.

Half of them have a key, a different one for each kind; the others have none. When the time is over it prints, for each
kind, how often it got which answer; `cut` is a connection that the gateway closed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from bench.load import chat

# The number of callers by kind: huge bodies, deep JSON, slow senders, many small calls at once, texts to be scanned.
CALLERS: Final = {"huge": 8, "deep": 8, "slow": 24, "many": 8, "scan": 16}
HUGE: Final = 24_000_000
_DEPTH: Final = 90
_WORDS: Final = "why is the sky over Genoa blue at noon 1815 and what would Ada Lovelace say of it".split()
_PATIENCE_S: Final = 60.0

_serials = itertools.count()


def huge() -> bytes:
    """Return blanks with a question at their end."""
    return b" " * HUGE + chat({"role": "user", "content": f"Question {next(_serials)}?"})


def deep() -> bytes:
    """Return a quarter of a megabyte of nested objects, in a field that no API has."""
    nested = '{"a":' * _DEPTH + '"b"' + "}" * _DEPTH
    return chat({"role": "user", "content": "?"})[:-1] + f', "unread": [{",".join([nested] * 500)}]}}'.encode()


def small() -> bytes:
    return chat({"role": "user", "content": f"Question {next(_serials)}?"})


def scan() -> bytes:
    """Return a new text, nearly of the greatest length."""
    text = " ".join(random.choices(_WORDS, k=44_000))[:190_000]
    return chat({"role": "user", "content": f"{next(_serials)} {text}"})


BODIES: Final[dict[str, Callable[[], bytes]]] = {
    "huge": huge,
    "deep": deep,
    "slow": small,
    "many": small,
    "scan": scan,
}


def callers(keys: list[str]) -> Iterator[tuple[str, str | None]]:
    """Yield the kind of each caller, and its key, if it has one: callers of one kind share theirs."""
    for (kind, count), key in zip(CALLERS.items(), itertools.cycle(keys), strict=False):
        for number in range(count):
            yield kind, key if number % 2 == 0 else None


async def attack(port: int, kind: str, key: str | None, until: float, seen: Counter[str]) -> None:
    while time.monotonic() < until:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                seen[await exchange(port, kind, key, until)] += 1
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            seen["cut"] += 1
            await asyncio.sleep(0.05)


async def exchange(port: int, kind: str, key: str | None, until: float) -> str:
    """Send one request on its own connection, and return the status of its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        body = BODIES[kind]()
        who = f"authorization: Bearer {key}\r\n" if key else ""
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{who}content-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        writer.write(head.encode())
        for piece in [body[at : at + 1] for at in range(len(body))] if kind == "slow" else [body]:
            writer.write(piece)
            await writer.drain()
            if kind == "slow":
                if time.monotonic() > until:
                    return "left"
                await asyncio.sleep(1)
        return (await reader.readuntil(b"\r\n")).split()[1].decode()
    finally:
        writer.close()


async def main(port: int, keys: list[str], seconds: float) -> None:
    seen: dict[str, Counter[str]] = {kind: Counter() for kind in CALLERS}
    until = time.monotonic() + seconds
    await asyncio.gather(*(attack(port, kind, key, until, seen[kind]) for kind, key in callers(keys)))
    print(json.dumps(seen))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2].split(","), float(sys.argv[3])))
