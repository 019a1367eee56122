"""Scans texts in warmed processes: each distinct text once, within its time, or `ScanFailed`; never a skip.

Callers take turns (`guards.fair_turns`), and one process is kept free of long texts where there are several: a short
text waits for what is being scanned, and not for what another caller has sent before it.

The processes are plain children that speak over pipes and not a process pool of the standard library's: one that hangs
or dies is ended and replaced by itself, without breaking the others' work, and none imports the server's main module.
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
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from gatehouse.core.errors import SetupError
from gatehouse.guards.fair_turns import WHEN_IDLE, Entry, FairTurns
from gatehouse.guards.findings import Finding, ScanFailed
from gatehouse.guards.scan import NOTHING, Scan, ScanConfig
from gatehouse.guards.screens.hits import Hit
from gatehouse.guards.worker import HEADER, frame

log = logging.getLogger("gatehouse.scanning")

# Small texts travel together: a trip costs as much as scanning some 3,000 characters.
_WORTH_A_TRIP = 3_000
_BATCH_CHARS = 8_000
_BATCH_TEXTS = 32
_START_S = 60.0
# Over the time that the worker gives itself, before the process is taken for stuck.
_GRACE_S = 2.0
# How long none of a call's texts gets its turn before the caller is told to come back.
_WAIT_S = 10.0
# A longer text takes more than a tenth of a second, at its worst.
_LONGEST_SHORT = 32_768
# What a caller may have waiting: some ten seconds of one process's work, at its worst.
_MAX_WAITING = 4_000_000
# A text's part of a trip.
_PER_TEXT = 100
_RESTART_S = 1.0
_ENTRY_BYTES, _FINDING_BYTES = 200, 150

_Result = Scan | str


class _Cache:
    """Scans by digest of text and configuration, the least recently used leave first, bounded by bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._entries: OrderedDict[bytes, Scan] = OrderedDict()
        self._max, self._size = max_bytes, 0

    @staticmethod
    def _cost(scan: Scan) -> int:
        return _ENTRY_BYTES + _FINDING_BYTES * (len(scan.findings) + len(scan.hits))

    def get(self, key: bytes) -> Scan | None:
        if (scan := self._entries.get(key)) is not None:
            self._entries.move_to_end(key)
        return scan

    def put(self, key: bytes, scan: Scan) -> None:
        if key not in self._entries and self._cost(scan) <= self._max:
            self._entries[key] = scan
            self._size += self._cost(scan)
            while self._size > self._max:
                self._size -= self._cost(self._entries.popitem(last=False)[1])


class _Worker:
    """One process. Not started until `start`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, config: ScanConfig) -> _Worker:
        # Nothing of the server's environment: its secrets are no business of a process that reads hostile text.
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
            ScanFailed: the process hangs (`timeout`) or is gone (`worker_crashed`).
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
            raise ScanFailed("timeout") from None
        except (asyncio.IncompleteReadError, OSError, ValueError):
            raise ScanFailed("worker_crashed") from None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()


class _Text:
    """A text that waits for its scan, or is being scanned; by several calls it may be asked for at once."""

    __slots__ = ("calls", "entries", "key", "running", "text")

    def __init__(self, key: bytes, text: str) -> None:
        self.key, self.text = key, text
        self.calls: list[_Call] = []
        self.entries: list[Entry[_Text]] = []
        self.running = False


class _Call:
    """What one caller asked for at once: over when all of it is known or, unless it goes on, one scan has failed."""

    __slots__ = ("caller", "failed", "found", "goes_on", "left", "number", "over", "running", "turns")

    def __init__(self, caller: str, number: int, *, goes_on: bool = False) -> None:
        self.caller, self.number, self.goes_on = caller, number, goes_on
        self.found: dict[bytes, Scan] = {}
        self.left = self.running = self.turns = 0
        self.failed: str | None = None
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self) -> None:
        """One of the texts is being scanned."""
        self.turns += 1
        self.running += 1

    def note(self, key: bytes, result: _Result) -> None:
        """What came of the scan of a text."""
        self.left -= 1
        if isinstance(result, str):
            self.failed = self.failed or result
        else:
            self.found[key] = result
        if (not self.left or (self.failed and not self.goes_on)) and not self.over.done():
            self.over.set_result(None)


class Scanner:
    """The scanner of one configuration. `start` before the first scan, `close` at the end; one event loop."""

    def __init__(self, config: ScanConfig, *, workers: int = 2, cache_bytes: int = 32_000_000) -> None:
        config.check()
        self._config = config
        self._digest = config.digest()
        self._count = workers
        self._cache = _Cache(cache_bytes)
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._on_long = 0
        self._turns: FairTurns[_Text] = FairTurns(max_waiting=_MAX_WAITING, longest=_LONGEST_SHORT)
        self._pending: dict[bytes, _Text] = {}
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether there is a process to scan with."""
        return bool(self._workers)

    async def start(self) -> None:
        """Start the workers and wait until they are warm.

        Raises:
            SetupError: they cannot start; the sentence says why.
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
        """What is in each text.

        Args:
            caller: whose turn it takes.

        Raises:
            ScanFailed: at least one could not be scanned; the caller blocks.
        """
        if self._closed or not self._count:
            raise ScanFailed("closed")
        if max(map(len, texts), default=0) > self._config.max_chars:
            raise ScanFailed("too_long")
        call = _Call(caller, next(self._numbers))
        keys = self._ask(call, texts)
        await self._wait(call)
        if call.failed is not None:
            raise ScanFailed(call.failed)
        return [call.found[key] for key in keys]

    async def scan_if_possible(self, texts: Sequence[str], caller: str = "unnamed") -> list[Scan]:
        """As `scan`, where texts that cannot be scanned count as those in which there is nothing.

        Raises:
            ScanFailed: the caller has as much waiting as they may (`crowded`).
        """
        if self._closed or not self._count:
            return [NOTHING] * len(texts)
        call = _Call(caller, next(self._numbers), goes_on=True)
        most = self._config.max_chars
        short = [text if len(text) <= most else "" for text in texts]
        keys = self._ask(call, short)
        await self._wait(call)
        return [call.found.get(key, NOTHING) for key in keys]

    async def _wait(self, call: _Call) -> None:
        """Wait for a call's texts. A caller that is cancelled leaves; the scan goes on for whoever else waits, and ends
        within its time."""
        while call.left:
            turns = call.turns
            done, _ = await asyncio.wait((call.over,), timeout=_WAIT_S)
            if done:
                return
            if call.turns == turns and not call.running:
                call.failed = "busy"
                return

    def begin(self, texts: Sequence[str]) -> None:
        """Begin to scan what will be asked for soon, when nobody else waits. What fails is scanned again then."""
        if self._closed or not self._count or max(map(len, texts), default=0) > self._config.max_chars:
            return
        with contextlib.suppress(ScanFailed):
            self._ask(_Call(WHEN_IDLE, next(self._numbers)), texts)

    def _ask(self, call: _Call, texts: Sequence[str]) -> list[bytes]:
        """Note what is known of a call's texts, and have the others scanned.

        Returns:
            the texts' keys.

        Raises:
            ScanFailed: its caller has as much waiting as they may (`crowded`).
        """
        key_of = {text: self._key(text) for text in dict.fromkeys(texts)}
        missing: dict[bytes, str] = {}
        for text, key in key_of.items():
            if (scan := self._cache.get(key)) is not None:
                call.found[key] = scan
            else:
                missing[key] = text
        more = sum(_size(text) for key, text in missing.items() if not self._has_turn(key, call.caller))
        if more and not self._turns.fits(call.caller, more):
            raise ScanFailed("crowded")
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
        return [key_of[text] for text in texts]

    def _has_turn(self, key: bytes, caller: str) -> bool:
        """Whether a text is being scanned, or waits for a turn of this caller's."""
        text = self._pending.get(key)
        return text is not None and (text.running or any(entry.caller == caller for entry in text.entries))

    def _queue(self, text: _Text, call: _Call) -> None:
        """Let a text wait for a turn of this caller; whoever of those that want it is first has it scanned for all."""
        if not self._has_turn(text.key, call.caller):
            text.entries.append(self._turns.put(call.caller, call.number, text, _size(text.text)))

    def _dispatch(self) -> None:
        """Give free processes what is next."""
        while self._idle and not self._closed:
            # Of several processes one is kept for short texts.
            only_short = self._on_long >= max(1, self._count - 1)
            taken = self._turns.take(
                only_short=only_short,
                workers=len(self._idle),
                worth=_WORTH_A_TRIP,
                most=_BATCH_CHARS,
                items=_BATCH_TEXTS,
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
        """End the workers; scans under way fail."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for text in list(self._pending.values()):
            self._finish(text, "closed", text.calls)
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
        """Scan a batch and tell everyone who waits; whatever happens, nobody waits for ever."""
        results: list[_Result] = ["closed"] * len(batch)
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
        """Tell the calls that wait for a text. It may have failed for what was scanned beside it, which is its
        caller's own; others have it scanned in a turn of theirs."""
        for call in text.calls:
            call.running -= 1
        if not isinstance(result, str):
            self._cache.put(text.key, result)
        others = [call for call in text.calls if call.caller != caller] if isinstance(result, str) else []
        if not others or self._closed:
            self._finish(text, result, text.calls)
            return
        told = [call for call in text.calls if call.caller == caller]
        text.calls, text.running = others, False
        for call in told:
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
            results = [each if isinstance(each, str) else _scan(*each) for each in answers]
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
