"""Scans texts in warmed processes: each distinct text once, within its time, or `ScanFailed`; never a skip. A long text
is scanned in pieces, each within the time of a text.

Callers take turns (`guards.fair_turns`), and of several processes one stays free of long texts: a short text waits for
the scans under way, and not for what another caller has sent before it.

The processes are plain children that speak over pipes and not a process pool of the standard library's: one that hangs
or dies is ended and replaced by itself, without breaking the others' work, and none imports the server's main module.
None has the server's environment, and what one answers is JSON: it reads hostile text, so no pickle of its is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from cachetools import LRUCache

from gatehouse.core.errors import SetupError
from gatehouse.core.reasons import Reason
from gatehouse.guards.fair_turns import WHEN_IDLE, Entry, FairTurns
from gatehouse.guards.findings import Finding, ScanFailed
from gatehouse.guards.pieces import MAX_CHARS, Piece, pieces, together
from gatehouse.guards.scan import NOTHING, Scan, ScanConfig
from gatehouse.guards.screens.hits import Hit
from gatehouse.guards.worker import HEADER, frame

log = logging.getLogger("gatehouse.scanning")

# Small texts travel together: a round trip costs as much as scanning some 3,000 characters.
_WORTH_A_TRIP = 3_000
_BATCH_CHARS = 8_000
_BATCH_TEXTS = 32
_START_S = 60.0
# Seconds beyond the worker's own limit, after which the process counts as stuck.
_GRACE_S = 2.0
# A call waits so many seconds while none of its texts is being scanned; then the gateway tells its caller to retry.
_WAIT_S = 10.0
# A longer text can take more than a tenth of a second.
_MAX_SHORT_CHARS = 32_768
# The most characters that one caller may have waiting: at worst some ten seconds of one process's work.
_MAX_WAITING = 4_000_000
# A text's share of a round trip, in characters.
_PER_TEXT = 100
_RESTART_S = 1.0
_ENTRY_BYTES, _FINDING_BYTES = 280, 150

_Result = Scan | Reason


def _bytes_of(scan: Scan) -> int:
    return _ENTRY_BYTES + _FINDING_BYTES * (len(scan.findings) + len(scan.hits))


class _Worker:
    """Control one process, from `start` on."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, config: ScanConfig) -> _Worker:
        # Without the server's environment: a process that reads hostile text needs none of its secrets.
        environ = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
        environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "gatehouse.guards.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environ,
        )
        worker = cls(process)
        try:
            answer = await worker.ask(config.to_json(), _START_S)
        except BaseException:
            worker.kill()
            raise
        if "error" in answer:
            worker.kill()
            await worker.ended()
            raise SetupError(f"{answer['error']}")
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, value: Any, timeout_s: float) -> Any:
        """Send a frame and read the answer.

        Raises:
            ScanFailed: the process hangs (`timeout`) or has ended (`worker_crashed`).
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None  # noqa: PT018
        try:
            async with asyncio.timeout(timeout_s):
                stdin.write(frame(value))
                await stdin.drain()
                (length,) = HEADER.unpack(await stdout.readexactly(HEADER.size))
                return json.loads(await stdout.readexactly(length))
        except TimeoutError:
            raise ScanFailed(Reason.TIMEOUT) from None
        except (asyncio.IncompleteReadError, OSError, ValueError):
            raise ScanFailed(Reason.WORKER_CRASHED) from None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()


class _Text:
    """Hold a text that waits for its scan or is being scanned; several calls may wait for it."""

    __slots__ = ("calls", "entries", "key", "running", "text")

    def __init__(self, key: bytes, text: str) -> None:
        self.key, self.text = key, text
        self.calls: list[_Call] = []
        self.entries: list[Entry[_Text]] = []
        self.running = False


class _Call:
    """Hold one request for scans: it ends when all are known or, unless it goes on, when one has failed."""

    __slots__ = ("caller", "failed", "found", "goes_on", "left", "number", "over", "running", "turns")

    def __init__(self, caller: str, number: int, *, goes_on: bool = False) -> None:
        self.caller, self.number, self.goes_on = caller, number, goes_on
        self.found: dict[bytes, Scan] = {}
        self.left = self.running = self.turns = 0
        self.failed: Reason | None = None
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self) -> None:
        """Note that one of the texts is being scanned."""
        self.turns += 1
        self.running += 1

    def note(self, key: bytes, result: _Result) -> None:
        """Note the result of a text's scan."""
        self.left -= 1
        if isinstance(result, Reason):
            self.failed = self.failed or result
        else:
            self.found[key] = result
        if (not self.left or (self.failed and not self.goes_on)) and not self.over.done():
            self.over.set_result(None)


class Scanner:
    """Scan with one configuration, in one event loop. Call `start` before the first scan, and `close` at the end."""

    def __init__(self, config: ScanConfig, *, workers: int = 2, cache_bytes: int = 32_000_000) -> None:
        config.check()
        self._config = config
        self._digest = config.digest()
        self._count = workers
        self._cache = LRUCache[bytes, Scan](cache_bytes, _bytes_of)
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._on_long = 0
        self._turns: FairTurns[_Text] = FairTurns(max_waiting=_MAX_WAITING, max_short=_MAX_SHORT_CHARS)
        self._pending: dict[bytes, _Text] = {}
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def alive(self) -> bool:
        """Tell whether there is a process to scan with."""
        return bool(self._workers)

    async def start(self) -> None:
        """Start the workers and wait until they are warm.

        Raises:
            SetupError: they cannot start; the message says why.
        """
        try:
            await asyncio.gather(*(self._add() for _ in range(self._count)))
        except ScanFailed as failed:
            await self.close()
            raise SetupError(f"scanner: a process did not start ({failed.reason}). See the log above.") from None
        except BaseException:
            await self.close()
            raise

    async def scan(self, texts: Sequence[str], caller: str = "unnamed") -> list[Scan]:
        """Scan each text.

        Args:
            caller: whose turn it takes.

        Raises:
            ScanFailed: at least one text could not be scanned; the caller must block.
        """
        if self._closed or not self._count:
            raise ScanFailed(Reason.CLOSED)
        if max(map(len, texts), default=0) > MAX_CHARS:
            raise ScanFailed(Reason.TOO_LONG)
        call = _Call(caller, next(self._numbers))
        asked = self._ask(call, texts)
        await self._wait(call)
        if call.failed is not None:
            raise ScanFailed(call.failed)
        return [together(parts, [call.found[key] for key in keys]) for parts, keys in asked]

    async def scan_if_possible(self, texts: Sequence[str], caller: str = "unnamed") -> list[Scan]:
        """Scan as `scan` does, but treat texts that cannot be scanned as texts without findings.

        Raises:
            ScanFailed: the caller already has the most texts waiting (`crowded`).
        """
        if self._closed or not self._count:
            return [NOTHING] * len(texts)
        call = _Call(caller, next(self._numbers), goes_on=True)
        asked = self._ask(call, [text if len(text) <= MAX_CHARS else "" for text in texts])
        await self._wait(call)
        return [together(parts, [call.found.get(key, NOTHING) for key in keys]) for parts, keys in asked]

    async def _wait(self, call: _Call) -> None:
        """Wait for a call's texts. A cancelled caller leaves; the scan goes on for others, and ends in time."""
        while call.left:
            turns = call.turns
            done, _ = await asyncio.wait((call.over,), timeout=_WAIT_S)
            if done:
                return
            if call.turns == turns and not call.running:
                call.failed = Reason.BUSY
                return

    def begin(self, texts: Sequence[str]) -> None:
        """Scan texts that will soon be needed, while no caller waits. `scan` repeats what fails."""
        if self._closed or not self._count or max(map(len, texts), default=0) > MAX_CHARS:
            return
        with contextlib.suppress(ScanFailed):
            self._ask(_Call(WHEN_IDLE, next(self._numbers)), texts)

    def _ask(self, call: _Call, texts: Sequence[str]) -> list[tuple[list[Piece], list[bytes]]]:
        """Note the known results of a call's texts, and queue the other texts.

        Returns:
            Each text's pieces, and their keys.

        Raises:
            ScanFailed: the caller already has the most texts waiting (`crowded`).
        """
        asked = [pieces(text) for text in texts]
        key_of = {each: self._key(each) for each in dict.fromkeys(part.text for parts in asked for part in parts)}
        missing: dict[bytes, str] = {}
        for text, key in key_of.items():
            if (scan := self._cache.get(key)) is not None:
                call.found[key] = scan
            else:
                missing[key] = text
        more = sum(_size(text) for key, text in missing.items() if not self._has_turn(key, call.caller))
        if more and not self._turns.fits(call.caller, more):
            raise ScanFailed(Reason.CROWDED)
        call.left = len(missing)
        for key, text in missing.items():
            waiting = self._pending.get(key)
            if waiting is None:
                waiting = self._pending[key] = _Text(key, text)
            waiting.calls.append(call)
            if waiting.running:
                call.begin()
            self._queue(waiting, call)
        self._dispatch()
        return [(parts, [key_of[part.text] for part in parts]) for parts in asked]

    def _has_turn(self, key: bytes, caller: str) -> bool:
        """Tell whether a text is being scanned, or waits in this caller's turn."""
        text = self._pending.get(key)
        return text is not None and (text.running or any(entry.caller == caller for entry in text.entries))

    def _queue(self, text: _Text, call: _Call) -> None:
        """Queue a text for this caller's turn. The first of several callers' turns scans it for all of them."""
        if not self._has_turn(text.key, call.caller):
            text.entries.append(self._turns.put(call.caller, call.number, text, _size(text.text)))

    def _dispatch(self) -> None:
        """Give free processes their next work."""
        while self._idle and not self._closed:
            # Of several processes, keep one for short texts.
            only_short = self._on_long >= max(1, self._count - 1)
            taken = self._turns.take(
                only_short=only_short,
                workers=len(self._idle),
                min_size=_WORTH_A_TRIP,
                max_size=_BATCH_CHARS,
                max_items=_BATCH_TEXTS,
            )
            if not taken:
                return
            batch = [entry.item for entry in taken]
            for text in batch:
                text.running = True
                for entry in text.entries:
                    self._turns.drop(entry)
                text.entries.clear()
                for call in text.calls:
                    call.begin()
            is_long = self._turns.is_long(taken[0])
            self._on_long += is_long
            self._spawn(self._run(self._idle.pop(), taken[0].caller, batch, is_long=is_long))

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End the workers; running scans fail."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for text in list(self._pending.values()):
            self._finish(text, Reason.CLOSED, text.calls)
        workers, self._workers = self._workers, set()
        for worker in workers:
            worker.kill()
        await asyncio.gather(*(worker.ended() for worker in workers))

    def _key(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=24, key=self._digest).digest()

    async def _add(self) -> None:
        worker = await _Worker.start(self._config)
        if self._closed:
            worker.kill()
            return
        self._workers.add(worker)
        self._idle.append(worker)
        self._dispatch()

    async def _run(self, worker: _Worker, caller: str, batch: list[_Text], *, is_long: bool) -> None:
        """Scan a batch and give every waiting call its result, also after a failure."""
        results: list[_Result] = [Reason.CLOSED] * len(batch)
        try:
            results = await self._on_a_worker(worker, [text.text for text in batch])
        except ScanFailed as failed:
            results = [failed.reason] * len(batch)
        finally:
            self._on_long -= is_long
            for text, result in zip(batch, results, strict=True):
                self._tell(text, result, caller)
            self._dispatch()

    def _tell(self, text: _Text, result: _Result, caller: str) -> None:
        """Give the waiting calls a text's result. It may have failed because of another text of the batch, so the calls
        of other callers than the batch's have it scanned in their own turns."""
        for call in text.calls:
            call.running -= 1
        if not isinstance(result, Reason):
            with contextlib.suppress(ValueError):  # it is too large to be kept
                self._cache[text.key] = result
        others = [call for call in text.calls if call.caller != caller] if isinstance(result, Reason) else []
        if not others or self._closed:
            self._finish(text, result, text.calls)
            return
        of_caller = [call for call in text.calls if call.caller == caller]
        text.calls, text.running = others, False
        for call in of_caller:
            call.note(text.key, result)
        for call in others:
            self._queue(text, call)

    def _finish(self, text: _Text, result: _Result, calls: Iterable[_Call]) -> None:
        del self._pending[text.key]
        for call in calls:
            call.note(text.key, result)

    async def _on_a_worker(self, worker: _Worker, texts: list[str]) -> list[_Result]:
        try:
            answers = await worker.ask(texts, self._config.timeout_s * len(texts) + _GRACE_S)
            results = [Reason(each) if isinstance(each, str) else _scan(*each) for each in answers]
        except BaseException as error:
            self._replace(worker)
            if isinstance(error, ScanFailed):
                log.warning("a scanner process was replaced: %s", error.reason)
            raise
        self._idle.append(worker)
        return results

    def _replace(self, worker: _Worker) -> None:
        worker.kill()
        self._workers.discard(worker)
        if not self._closed:
            self._spawn(self._again(worker))

    async def _again(self, worker: _Worker) -> None:
        await worker.ended()
        while not self._closed:
            try:
                await self._add()
            except (ScanFailed, SetupError, OSError) as error:
                log.error("a scanner process does not start: %s; trying again", error)
                await asyncio.sleep(_RESTART_S)
            else:
                return


def _size(text: str) -> int:
    return len(text) + _PER_TEXT


def _scan(findings: list[list[Any]], hits: list[list[Any]]) -> Scan:
    if not findings and not hits:
        return NOTHING
    return Scan(tuple(Finding(*each) for each in findings), tuple(Hit(*each) for each in hits))
