"""A scanner process, `python -m gatehouse.guards.worker`: frames come on standard input, answers go to its output.

A frame is four bytes of length, big-endian, and JSON. The first is the configuration, answered when the process is
warm; every other is a list of texts. The process ends with its parent: at the end of its input, or, stuck in a text,
by its own alarm.
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
# Beyond the time of its texts: by then the parent has ended the process, or is no more.
_ALARM_AFTER_S = 4.0


def read_frame(stream: BinaryIO) -> Any:
    """The next frame's value; None at the end of the input."""
    head = stream.read(HEADER.size)
    if len(head) < HEADER.size:
        return None
    return json.loads(stream.read(HEADER.unpack(head)[0]))


def frame(value: Any) -> bytes:
    """A value as it goes over the pipe."""
    body = json.dumps(value).encode()
    return HEADER.pack(len(body)) + body


def main() -> None:
    """Serve one parent until its end."""
    # A terminal's Ctrl-C goes to the whole group; the parent ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not look like an answer
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
    """What answers for one text: two lists, of findings and of hits, as JSON has them."""
    pii = screens = None
    if config.pii is not None:  # Presidio is imported only where it is asked
        from gatehouse.guards.pii.engine import Engine

        pii = Engine(config.pii)
        pii.warm()
    if config.screens is not None:
        from gatehouse.guards.screens.engine import ScreenEngine

        screens = ScreenEngine(config.screens)
        screens.warm()
    return lambda text: [
        [list(astuple(each)) for each in engine.scan(text)] if engine is not None else [] for engine in (pii, screens)
    ]


if __name__ == "__main__":
    main()
