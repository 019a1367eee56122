"""Text that agents read and that needs no tool to make: columns of numbers, logs, tables, answers of services.

Nothing in it is personal data but the addresses of clients in access logs, which are labelled.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from evaluation.samples import Sample

SEED = 20_261_130
LINES = 1_000
"""How many items each artefact of numbers has."""

_START = datetime(2026, 11, 2, 7, 41, 3, 127_000, tzinfo=UTC)


def _floats(rng: random.Random) -> str:
    return "\n".join(repr(rng.random() * rng.choice((1, 1, 10, 1e3, 1e6))) for _ in range(LINES))


def _ids(rng: random.Random) -> str:
    return "\n".join(f"{rng.randrange(10**15, 10**16)}" for _ in range(LINES))


def _versions(rng: random.Random) -> str:
    return "\n".join(".".join(str(rng.randrange(256)) for _ in range(4)) for _ in range(LINES))


def _rows(rng: random.Random) -> str:
    return "\n".join(" ".join(str(rng.randrange(10 ** rng.randint(1, 5))) for _ in range(3)) for _ in range(LINES))


def _sums(rng: random.Random) -> str:
    return "\n".join(f"t + {rng.randrange(10 ** rng.randint(1, 13))}" for _ in range(LINES))


NUMBERS: Mapping[str, Callable[[random.Random], str]] = {
    "random floats": _floats,
    "sixteen-digit ids": _ids,
    "four-part versions": _versions,
    "rows of three integers": _rows,
    "t + N": _sums,
}
"""Texts of a thousand items: how many of these are altered is a figure of its own."""


def numbers(seed: int = SEED) -> Iterator[tuple[str, Sample]]:
    """Yield a text of a thousand items for each kind of number."""
    for kind, make in NUMBERS.items():
        yield kind, Sample(make(random.Random(f"{kind}-{seed}")), ())  # noqa: S311 - the same each time


def _moments(rng: random.Random) -> Iterator[datetime]:
    at = _START + timedelta(days=rng.randrange(27))
    while True:
        at += timedelta(milliseconds=rng.randrange(1, 90_000))
        yield at


def _table(header: str, line: Callable[[random.Random, datetime], str]) -> Callable[[random.Random], str]:
    def make(rng: random.Random) -> str:
        moments = _moments(rng)
        return "\n".join([header, *(line(rng, next(moments)) for _ in range(60))])

    return make


def _log(line: Callable[[random.Random, datetime], str]) -> Callable[[random.Random], str]:
    def make(rng: random.Random) -> str:
        moments = _moments(rng)
        return "\n".join(line(rng, next(moments)) for _ in range(40))

    return make


def _hex(rng: random.Random, count: int) -> str:
    return "".join(rng.choices("0123456789abcdef", k=count))


def _journal(rng: random.Random, at: datetime) -> str:
    unit, text = rng.choice(
        (
            ("systemd[1]", "Started nightly-backup.service - Nightly backup."),
            ("systemd[1]", f"user@1000.service: Consumed {rng.random() * 90:.3f}s CPU time."),
            ("systemd-networkd[412]", "eth0: Link UP"),
            (
                "kernel",
                f"[{rng.random() * 1e6:.6f}] nvme nvme0: I/O {rng.randrange(999)} QID {rng.randrange(9)} timeout",
            ),
            ("kernel", f'audit: type=1400 audit({at.timestamp():.3f}:{rng.randrange(9999)}): apparmor="STATUS"'),
            (f"cron[{rng.randrange(9999)}]", "(app) CMD (/usr/bin/make -C /srv/app clean >/dev/null 2>&1)"),
            (
                f"dockerd[{rng.randrange(9999)}]",
                f'time="{at.isoformat()}" level=info msg="exited" container={_hex(rng, 64)}',
            ),
            (
                "dhclient[733]",
                f"bound to 10.0.{rng.randrange(9)}.{rng.randrange(254)} -- renewal in {rng.randrange(99999)} seconds.",
            ),
            ("chronyd[640]", f"Selected source 0.debian.pool.ntp.org, offset {rng.uniform(-1, 1):.9f} s"),
        )
    )
    return f"{at:%b %d %H:%M:%S} build-7 {unit}: {text}"


def _postgres(rng: random.Random, at: datetime) -> str:
    text = rng.choice(
        (
            f"checkpoint complete: wrote {rng.randrange(9999)} buffers; write={rng.random() * 99:.3f} s",
            f"duration: {rng.random() * 1e4:.3f} ms  statement: EXECUTE reading_by_id({rng.randrange(10**10)})",
            f"could not serialize access; xid {rng.randrange(10**9)}, lsn {_hex(rng, 1)}/{_hex(rng, 7).upper()}",
            f"autovacuum: tuples: {rng.randrange(10**6)} removed, {rng.randrange(10**7)} remain",
        )
    )
    return f"{at:%Y-%m-%d %H:%M:%S}.{rng.randrange(999):03d} UTC [{rng.randrange(99999)}] LOG:  {text}"


def _json_log(rng: random.Random, at: datetime) -> str:
    return json.dumps(
        {
            "ts": at.timestamp(),
            "level": rng.choice(("info", "debug", "warning")),
            "call_id": f"{_hex(rng, 8)}-{_hex(rng, 4)}-4{_hex(rng, 3)}-a{_hex(rng, 3)}-{_hex(rng, 12)}",
            "seq": rng.randrange(10**12),
            "model": "gpt-5.2-2026-10-01",
            "tokens": {"in": rng.randrange(10**5), "out": rng.randrange(10**4)},
            "seconds": rng.random() * 30,
            "trace": _hex(rng, 32),
        }
    )


def _redis(rng: random.Random, at: datetime) -> str:
    moment = f"{at:%d %b %Y %H:%M:%S}.{rng.randrange(999):03d}"
    return f"{rng.randrange(1, 9999)}:M {moment} * DB saved on disk, {rng.randrange(10**9)} keys"


def _metrics(rng: random.Random, at: datetime) -> str:
    labels = f'route="/v{rng.randrange(3)}/items",code="{rng.choice((200, 404, 503))}"'
    return f"request_seconds_sum{{{labels}}} {rng.random() * 1e7!r} {int(at.timestamp() * 1000)}"


def _span(rng: random.Random, at: datetime) -> str:
    begin = int(at.timestamp() * 1e9)
    return json.dumps(
        {
            "traceId": _hex(rng, 32),
            "spanId": _hex(rng, 16),
            "startTimeUnixNano": str(begin),
            "endTimeUnixNano": str(begin + rng.randrange(10**9)),
        }
    )


def _diff_numbers(rng: random.Random, at: datetime) -> str:
    old = rng.randrange(10**10)
    return (
        f"-    RETRY_AFTER = {old}  # {at:%Y-%m-%d}\n+    RETRY_AFTER = {old} + {rng.randrange(10**9)}  # {at:%d.%m.%Y}"
    )


def _go_sum(rng: random.Random, at: datetime) -> str:
    code = "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", k=43))
    name = rng.choice(("example.com/lib/errors", "example.org/x/sys", "example.net/yaml/v3"))
    return f"{name} v0.0.0-{at:%Y%m%d%H%M%S}-{_hex(rng, 12)} h1:{code}="


def _array(rng: random.Random) -> str:
    rows = (
        "  [" + ", ".join(f"{rng.gauss(0, 10 ** rng.randint(0, 4)):12.5f}" for _ in range(8)) + "]" for _ in range(30)
    )
    return "array([\n" + ",\n".join(rows) + "])"


def _notebook(rng: random.Random) -> str:
    cells = [
        {
            "cell_type": "code",
            "execution_count": nth,
            "id": _hex(rng, 8),
            "source": [f"df.iloc[{nth}::2] @ w"],
            "outputs": [{"text": [f"{rng.random() * 1e5}\n"] * 4}],
        }
        for nth in range(20)
    ]
    return json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5}, indent=1)


def _api_page(rng: random.Random) -> str:
    items = [
        {
            "id": rng.randrange(10**15, 10**16),
            "sku": rng.randrange(10**11, 10**12),
            "price": round(rng.random() * 999, 2),
            "created": int((_START + timedelta(hours=nth)).timestamp()),
            "etag": _hex(rng, 40),
        }
        for nth in range(25)
    ]
    return json.dumps({"data": items, "next": _hex(rng, 24), "total": rng.randrange(10**6)}, indent=2)


def _pickled(rng: random.Random) -> str:
    return "\n".join(f"{at * 16:08x}  {_hex(rng, 16)} {_hex(rng, 16)}" for at in range(60))


def _sensor(rng: random.Random, at: datetime) -> str:
    values = (f"{rng.gauss(20, 4):.4f}", f"{rng.gauss(1013, 9):.2f}", f"{rng.random() * 5:.6f}")
    return ",".join((at.isoformat(), str(rng.randrange(40)), *values))


def _trade(rng: random.Random, at: datetime) -> str:
    moment = f"{at:%Y%m%d-%H:%M:%S}.{rng.randrange(999):03d}"
    price, quantity = f"{rng.random() * 900:.4f}", str(rng.randrange(1, 5000))
    return ";".join((str(rng.randrange(10**12)), moment, price, quantity, f"X{rng.randrange(9)}"))


def _position(rng: random.Random, at: datetime) -> str:
    place = f"{rng.uniform(-90, 90):.7f}\t{rng.uniform(-180, 180):.7f}"
    return f"{rng.randrange(9999)}\t{place}\t{rng.uniform(0, 4000):.1f}"


def _ordered(rng: random.Random, at: datetime) -> str:
    number, tracking = rng.randrange(10**9, 10**10), rng.randrange(10**19, 10**20)
    return f"{number},{at:%d/%m/%Y},{at:%m/%d/%Y},{rng.random() * 900:.2f},{tracking}"


_FILES: Mapping[str, Callable[[random.Random], str]] = {
    "csv sensors": _table(
        "at,sensor,celsius,hpa,volts",
        _sensor,
    ),
    "csv trades": _table(
        "trade_id;at;price;quantity;venue",
        _trade,
    ),
    "csv positions": _table(
        "n\tlat\tlon\talt",
        _position,
    ),
    "csv orders": _table(
        "order_number,ordered,shipped,total,tracking",
        _ordered,
    ),
    "markdown results": _table(
        "| run | epoch | loss | seconds |\n|---|---|---|---|",
        lambda rng, at: f"| {_hex(rng, 7)} | {rng.randrange(300)} | {rng.random():.8f} | {rng.random() * 4000:.2f} |",
    ),
    "journal": _log(_journal),
    "postgres log": _log(_postgres),
    "json log": _log(_json_log),
    "redis log": _log(_redis),
    "metrics": _log(_metrics),
    "spans": _log(_span),
    "diff of numbers": _log(_diff_numbers),
    "go.sum": _log(_go_sum),
    "printed array": _array,
    "notebook": _notebook,
    "answer of a service": _api_page,
    "words of memory": _pickled,
}
_EACH = 4


def files(seed: int = SEED) -> Iterator[tuple[str, Sample]]:
    """Yield several texts of each kind, and access logs whose clients' addresses are labelled."""
    for kind, make in _FILES.items():
        for nth in range(_EACH):
            yield kind, Sample(make(random.Random(f"{kind}-{nth}-{seed}")), ())  # noqa: S311 - the same each time
    for nth in range(_EACH):
        yield "access log", _access_log(random.Random(f"access-{nth}-{seed}"))  # noqa: S311 - the same each time


def _access_log(rng: random.Random) -> Sample:
    text, spans, moments = "", [], _moments(rng)
    for _ in range(40):
        client = (
            f"{rng.choice((62, 81, 93, 151))}.{rng.randrange(1, 254)}.{rng.randrange(1, 254)}.{rng.randrange(1, 254)}"
        )
        spans.append(("IP_ADDRESS", len(text), len(text) + len(client)))
        path = f"/api/v2/items/{rng.randrange(10**9)}?page={rng.randrange(99)}&t={rng.randrange(10**12)}"
        request = f'[{next(moments):%d/%b/%Y:%H:%M:%S +0000}] "GET {path} HTTP/1.1" 200 {rng.randrange(10**6)}'
        text += f'{client} - - {request} "-" "curl/8.5.0" {rng.random():.3f}\n'
    return Sample(text, tuple(spans))
