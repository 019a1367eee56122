"""A scanner process, `python -m gatehouse.guards.worker`: it reads frames from standard input and writes answers.

A frame is four bytes of length, big-endian, and JSON. The first is the configuration, answered when the process is
warm; every other is a list of texts. The process ends with its parent: at the end of its input, or by its alarm.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from collections.abc import Callable
from dataclasses import astuple
from typing import TYPE_CHECKING, Any, BinaryIO

from gatehouse.core.errors import SetupError

if TYPE_CHECKING:
    from gatehouse.guards.scan import ScanConfig

HEADER = struct.Struct(">I")
# Seconds beyond its texts' time. By then the parent has ended the process, or has died.
_ALARM_AFTER_S = 4.0


def read_frame(stream: BinaryIO) -> Any:
    """Return the next frame's value; None at the end of the input."""
    head = stream.read(HEADER.size)
    if len(head) < HEADER.size:
        return None
    return json.loads(stream.read(HEADER.unpack(head)[0]))


def frame(value: Any) -> bytes:
    """Encode a value for the pipe."""
    body = json.dumps(value).encode()
    return HEADER.pack(len(body)) + body


def main() -> None:
    """Serve one parent until it ends."""
    # A terminal sends Ctrl-C to the whole group, but the parent ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that a library's output cannot look like an answer
    first = read_frame(stdin)
    if first is None:
        return

    def answer(value: Any) -> None:
        stdout.write(frame(value))
        stdout.flush()

    try:
        from gatehouse.guards.findings import ScanFailed
        from gatehouse.guards.scan import ScanConfig

        config = ScanConfig.from_json(first)
        scan = _scanner(config)
    except ModuleNotFoundError as error:
        answer({"error": f"{error.name}: not installed. Install presidio-analyzer."})
        return
    except SetupError as error:
        answer({"error": str(error)})
        return
    answer({"ready": True})
    while (texts := read_frame(stdin)) is not None:
        signal.setitimer(signal.ITIMER_REAL, len(texts) * config.timeout_s + _ALARM_AFTER_S)
        answers: list[Any] = []
        for text in texts:
            try:
                answers.append(scan(text))
            except ScanFailed as failed:
                answers.append(failed.reason)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answer(answers)


def _scanner(config: ScanConfig) -> Callable[[str], Any]:
    """Return a function that scans one text into two lists, of findings and of hits, as JSON has them."""
    pii = screens = None
    if config.pii is not None:  # import Presidio only where it is used
        from gatehouse.guards.pii.engine import Engine

        pii = Engine(config.pii)
        pii.warm()
    if config.screens is not None:
        from gatehouse.guards.screens.engine import ScreenEngine

        screens = ScreenEngine(config.screens)
        screens.warm()
    return lambda text: [
        [[each.entity, each.start, each.end, each.score] for each in pii.scan(text)] if pii is not None else [],
        [list(astuple(each)) for each in screens.scan(text)] if screens is not None else [],
    ]


if __name__ == "__main__":
    main()
