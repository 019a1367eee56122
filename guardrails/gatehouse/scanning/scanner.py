"""Scans texts in warmed processes: each distinct text once, within its time, or `ScanFailed`; never a skip.

The processes are plain children that speak over pipes and not a process pool of the standard library's: one that hangs
or dies is ended and replaced by itself, without breaking the others' work, and none imports the server's main module.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from gatehouse.errors import SetupError
from gatehouse.pii.findings import Finding, ScanFailed
from gatehouse.scanning.config import NOTHING, Scan, ScanConfig
from gatehouse.scanning.worker import HEADER, frame
from gatehouse.screens.hits import Hit

log = logging.getLogger("gatehouse.scanning")

# Small texts travel together: a trip costs as much as scanning some 3,000 characters.
_WORTH_A_TRIP = 3_000
_BATCH_CHARS = 8_000
_BATCH_TEXTS = 32
_START_S = 60.0
# Over the time that the worker gives itself, before the process is taken for stuck.
_GRACE_S = 2.0
# How long a text waits for a free worker before the caller is told to come back.
_WAIT_S = 10.0
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
            "gatehouse.scanning.worker",
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


class Scanner:
    """The scanner of one configuration. `start` before the first scan, `close` at the end; one event loop."""

    def __init__(self, config: ScanConfig, *, workers: int = 2, cache_bytes: int = 32_000_000) -> None:
        config.check()
        self._config = config
        self._digest = config.digest()
        self._count = workers
        self._cache = _Cache(cache_bytes)
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        self._workers: set[_Worker] = set()
        self._pending: dict[bytes, asyncio.Future[_Result]] = {}
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

    async def scan(self, texts: Sequence[str]) -> list[Scan]:
        """What is in each text.

        Raises:
            ScanFailed: at least one could not be scanned; the caller blocks.
        """
        if self._closed or not self._count:
            raise ScanFailed("closed")
        if any(len(text) > self._config.max_chars for text in texts):
            raise ScanFailed("too_long")
        keys, known, waiting = self._look_up(texts)
        # A caller that is cancelled leaves; the scan goes on for whoever else waits, and ends within its time.
        if waiting:
            await asyncio.wait(waiting.values())
        for key, future in waiting.items():
            result = future.result()
            if isinstance(result, str):
                raise ScanFailed(result)
            known[key] = result
        return [known[key] for key in keys]

    def begin(self, texts: Sequence[str]) -> None:
        """Begin to scan what will be asked for soon. What fails is scanned again when it is."""
        if not self._closed and self._count and all(len(text) <= self._config.max_chars for text in texts):
            self._look_up(texts)

    def _look_up(
        self, texts: Sequence[str]
    ) -> tuple[list[bytes], dict[bytes, Scan], dict[bytes, asyncio.Future[_Result]]]:
        """The texts' keys, what is known of them, and what is under way for the others."""
        keys = [self._key(text) for text in texts]
        known: dict[bytes, Scan] = {}
        waiting: dict[bytes, asyncio.Future[_Result]] = {}
        missing: dict[bytes, str] = {}
        for key, text in zip(keys, texts, strict=True):
            if key in known or key in waiting or key in missing:
                continue
            if (scan := self._cache.get(key)) is not None:
                known[key] = scan
            elif (future := self._pending.get(key)) is not None:
                waiting[key] = future
            else:
                missing[key] = text
        for batch in _batches(missing, self._idle.qsize()):
            for key in batch:
                waiting[key] = self._pending[key] = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._run(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return keys, known, waiting

    async def close(self) -> None:
        """End the workers; scans under way fail."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
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
        self._idle.put_nowait(worker)

    async def _run(self, batch: dict[bytes, str]) -> None:
        """Scan a batch and tell everyone who waits; whatever happens, nobody waits for ever."""
        results: list[_Result] = ["closed"] * len(batch)
        try:
            results = await self._on_a_worker(list(batch.values()))
        except ScanFailed as failed:
            results = [failed.reason] * len(batch)
        finally:
            for key, result in zip(batch, results, strict=True):
                if not isinstance(result, str):
                    self._cache.put(key, result)
                self._pending.pop(key).set_result(result)

    async def _on_a_worker(self, texts: list[str]) -> list[_Result]:
        try:
            async with asyncio.timeout(_WAIT_S):
                worker = await self._idle.get()
        except TimeoutError:
            raise ScanFailed("busy") from None
        try:
            answers = await worker.ask(texts, self._config.timeout_s * len(texts) + _GRACE_S)
            results = [each if isinstance(each, str) else _scan(*each) for each in answers]
        except BaseException as error:
            self._replace(worker)
            if isinstance(error, ScanFailed):
                log.warning("a scanner process was replaced: %s", error.reason)
            raise
        self._idle.put_nowait(worker)
        return results

    def _replace(self, worker: _Worker) -> None:
        worker.kill()
        self._workers.discard(worker)
        if not self._closed:
            task = asyncio.create_task(self._again(worker))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

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


def _scan(findings: list[list[Any]], hits: list[list[Any]]) -> Scan:
    if not findings and not hits:
        return NOTHING
    return Scan(tuple(Finding(*each) for each in findings), tuple(Hit(*each) for each in hits))


def _batches(texts: dict[bytes, str], idle: int) -> list[dict[bytes, str]]:
    """The texts, together where that spares trips, and apart where idle workers can share the work."""
    most = _BATCH_CHARS
    if idle > 1:
        most = min(most, max(_WORTH_A_TRIP, sum(map(len, texts.values())) // idle))
    batches: list[dict[bytes, str]] = []
    size = most
    for key, text in texts.items():
        if size >= most or size + len(text) > _BATCH_CHARS or len(batches[-1]) >= _BATCH_TEXTS:
            batches.append({})
            size = 0
        batches[-1][key] = text
        size += len(text)
    return batches
