"""The scanner's processes answer callers, who get an error when a process hangs, dies or is too slow."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from time import monotonic

import psutil
import pytest
import uvloop
from gatehouse.core.errors import SetupError
from gatehouse.guards import worker_pool as scanner_module
from gatehouse.guards.findings import Finding, ScanFailed
from gatehouse.guards.pieces import MAX_CHARS
from gatehouse.guards.pii.config import CustomPattern, CustomRecognizer, Mode, PiiConfig
from gatehouse.guards.scan import Scan, ScanConfig
from gatehouse.guards.worker_pool import Scanner

MAIL = "write to jane@example.com"
# Takes for ever on "a" * n, which is what a bad pattern in policy.yaml does.
SLOW = ScanConfig(PiiConfig(timeout_s=0.5, recognizers=(CustomRecognizer("SLOW", (CustomPattern("(a|a)+b"),)),)))


@pytest.fixture
async def scanner() -> AsyncIterator[Scanner]:
    scanner = Scanner(SLOW, workers=1)
    await scanner.start()
    yield scanner
    await scanner.close()


def workers_of(scanner: Scanner) -> list[int]:
    return [worker.pid for worker in scanner._workers]


async def test_each_text_gets_its_findings_whatever_it_holds(scanner: Scanner) -> None:
    texts = [MAIL, "", "\ud800 nothing", MAIL, "x" * 20_000 + " " + MAIL, *(f"{n} {MAIL}" for n in range(100))]
    results = await scanner.scan(texts)
    assert results[0] == results[3] == Scan((Finding("EMAIL_ADDRESS", 9, 25, 1.0),))
    assert results[1:3] == [Scan(), Scan()]
    assert [len(each.findings) for each in results[4:]] == [1] * 101


async def test_a_text_is_scanned_once(scanner: Scanner) -> None:
    first, second = await asyncio.gather(scanner.scan([MAIL, MAIL]), scanner.scan([MAIL]))
    os.kill(workers_of(scanner)[0], signal.SIGSTOP)  # whatever would ask a worker now would fail
    assert await scanner.scan([MAIL]) == second == first[:1]


async def test_what_was_begun_is_found_done(scanner: Scanner) -> None:
    scanner.begin([MAIL])
    await asyncio.wait(list(scanner._tasks))
    os.kill(workers_of(scanner)[0], signal.SIGSTOP)  # whatever would ask a worker now would fail
    assert len((await scanner.scan([MAIL]))[0].findings) == 1


async def test_what_was_begun_and_failed_is_scanned_when_it_is_asked_for(scanner: Scanner) -> None:
    scanner.begin([MAIL])
    os.kill(workers_of(scanner)[0], signal.SIGKILL)
    await asyncio.wait(list(scanner._tasks))
    assert len((await scanner.scan([MAIL]))[0].findings) == 1
    scanner.begin(["x" * 10_000_000])
    with pytest.raises(ScanFailed, match="too_long"):
        await scanner.scan(["x" * 10_000_000])


async def test_a_text_that_takes_too_long_fails_and_the_next_is_scanned(scanner: Scanner) -> None:
    before = workers_of(scanner)
    with pytest.raises(ScanFailed, match="timeout"):
        await scanner.scan(["a" * 5_000])
    assert len((await scanner.scan([MAIL]))[0].findings) == 1
    assert workers_of(scanner) == before


async def test_a_process_that_hangs_is_replaced(scanner: Scanner) -> None:
    before = workers_of(scanner)
    os.kill(before[0], signal.SIGSTOP)
    with pytest.raises(ScanFailed, match="timeout"):
        await scanner.scan([MAIL])
    assert len((await scanner.scan([MAIL]))[0].findings) == 1
    assert workers_of(scanner) != before
    assert not psutil.pid_exists(before[0])


async def test_a_process_that_dies_fails_its_text_and_is_replaced(scanner: Scanner) -> None:
    os.kill(workers_of(scanner)[0], signal.SIGKILL)
    with pytest.raises(ScanFailed, match="worker_crashed"):
        await scanner.scan([MAIL])
    assert len((await scanner.scan([MAIL]))[0].findings) == 1


async def test_a_text_over_the_limit_fails_before_any_process_sees_it(scanner: Scanner) -> None:
    with pytest.raises(ScanFailed, match="too_long"):
        await scanner.scan([MAIL, "x" * (MAX_CHARS + 1)])


async def test_a_long_text_is_scanned_in_pieces_and_what_was_seen_of_it_is_not_scanned_again(scanner: Scanner) -> None:
    line = "the tram crosses the river twice\n"
    text = line * 12_000 + MAIL + "\n" + line * 12_000
    (found,) = await scanner.scan([text])
    assert [text[each.start : each.end] for each in found.findings] == ["jane@example.com"]
    os.kill(workers_of(scanner)[0], signal.SIGSTOP)  # whatever would ask a worker now would fail
    assert await scanner.scan([text]) == [found]


async def test_cancelled_callers_leave_nothing_behind(scanner: Scanner) -> None:
    callers = [asyncio.create_task(scanner.scan([f"{n} " + "a" * 3_000])) for n in range(3)]
    await asyncio.sleep(0.1)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    assert len((await scanner.scan([MAIL]))[0].findings) == 1
    assert not scanner._pending
    await asyncio.sleep(0)
    assert not scanner._tasks


class Held:
    """Holds a scanner's processes until `go`, so that requests meanwhile wait in order."""

    def __init__(self, scanner: Scanner) -> None:
        self.scanner = scanner
        self.done: list[str] = []
        self._asked: list[asyncio.Task[None]] = []
        for pid in workers_of(scanner):
            os.kill(pid, signal.SIGSTOP)

    async def ask(self, caller: str, *texts: str) -> asyncio.Task[None]:
        async def asked() -> None:
            try:
                await self.scanner.scan(texts, caller)
                self.done.append(caller)
            except ScanFailed as failed:
                self.done.append(f"{caller} {failed.reason}")

        task = asyncio.create_task(asked())
        self._asked.append(task)
        await asyncio.sleep(0)
        return task

    async def go(self) -> list[str]:
        for pid in workers_of(self.scanner):
            os.kill(pid, signal.SIGCONT)
        await asyncio.gather(*self._asked)
        return self.done


async def test_a_callers_queue_is_nobody_elses_wait(scanner: Scanner) -> None:
    held = Held(scanner)
    for number in range(30):
        await held.ask("hostile", f"{number} " + "x " * 20_000)
    await held.ask("other", MAIL)
    assert (await held.go()).index("other") <= 1


async def test_what_many_others_want_too_is_scanned_in_the_first_of_their_turns(scanner: Scanner) -> None:
    held = Held(scanner)
    for number in range(10):
        await held.ask("hostile", f"{number} " + "x " * 20_000)
    await held.ask("hostile", MAIL, "last " + "x " * 20_000)
    await held.ask("other", MAIL)
    assert (await held.go()).index("other") <= 1
    assert held.done.count("hostile") == 11


async def test_what_one_caller_may_have_waiting_is_bounded(scanner: Scanner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner._turns, "_max_waiting", 10_000)
    held = Held(scanner)
    texts = [f"{number} " + "x" * 6_000 for number in range(8)]
    for text in texts:  # the first is being scanned, the second waits: there is no room for a third
        await held.ask("hostile", text)
    await held.ask("hostile", texts[0], texts[1])  # what waits already is no more of it
    await held.ask("other", MAIL, "y" * 6_000)
    done = await held.go()
    assert done.count("hostile crowded") == 6
    assert done.count("hostile") == 3
    assert done.count("other") == 1
    assert len((await scanner.scan([texts[5]], "hostile"))[0].findings) == 0


async def test_a_first_call_gets_in_whatever_its_size(scanner: Scanner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner._turns, "_max_waiting", 10)
    assert len(await scanner.scan([f"{number} {MAIL}" for number in range(50)], "caller")) == 50


async def test_a_text_that_fails_beside_a_hostile_one_is_scanned_for_others(scanner: Scanner) -> None:
    held = Held(scanner)
    await held.ask("hostile", "hostile", MAIL)
    await held.ask("other", MAIL)  # which is on its way in the hostile caller's turn
    os.kill(workers_of(scanner)[0], signal.SIGKILL)
    await asyncio.gather(*held._asked)
    assert sorted(held.done) == ["hostile worker_crashed", "other"]
    assert not scanner._pending


async def test_one_of_two_processes_is_kept_for_short_texts() -> None:
    scanner = Scanner(SLOW, workers=2)
    await scanner.start()
    try:
        held = Held(scanner)
        for number in range(3):
            await held.ask("hostile", f"{number} " + "x " * 20_000)
        assert len(scanner._idle) == 1
        await held.ask("hostile", MAIL)
        assert not scanner._idle
        assert sorted(await held.go()) == ["hostile"] * 4
    finally:
        await scanner.close()


async def test_what_is_begun_ahead_comes_after_what_is_asked_for(scanner: Scanner) -> None:
    held = Held(scanner)
    await held.ask("one", "first")
    scanner.begin([f"ahead {number} " + "x " * 20_000 for number in range(20)])
    await held.ask("other", MAIL)
    assert (await held.go())[-1] == "other"
    assert len(scanner._pending) >= 19


async def test_without_a_turn_for_too_long_a_caller_is_told_to_come_back(
    scanner: Scanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanner_module, "_WAIT_S", 0.05)
    held = Held(scanner)
    first = await held.ask("one", "first")
    await (await held.ask("other", MAIL))
    assert held.done == ["other busy"]
    assert not first.done()  # it has had its turn, and its own time
    assert sorted(await held.go()) == ["one", "other busy"]
    assert len((await scanner.scan([MAIL], "other"))[0].findings) == 1


async def test_what_can_be_scanned_is_beside_what_cannot(scanner: Scanner) -> None:
    texts = ["a" * 5_000, MAIL, "x" * (MAX_CHARS + 1), MAIL, ""]
    assert [len(each.findings) for each in await scanner.scan_if_possible(texts)] == [0, 1, 0, 1, 0]


async def test_after_close_no_process_is_left_and_scans_fail() -> None:
    scanner = Scanner(ScanConfig(PiiConfig()), workers=1)
    await scanner.start()
    pids = workers_of(scanner)
    await scanner.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    with pytest.raises(ScanFailed, match="closed"):
        await scanner.scan([MAIL])


async def test_a_configuration_that_is_wrong_is_told_at_the_start() -> None:
    with pytest.raises(SetupError, match="NO_SUCH"):
        await Scanner(ScanConfig(PiiConfig(entities={"NO_SUCH": Mode.MASK})), workers=1).start()


def test_it_works_in_a_uvloop_server() -> None:
    async def run() -> int:
        scanner = Scanner(ScanConfig(PiiConfig()), workers=1)
        await scanner.start()
        try:
            return len((await scanner.scan([MAIL]))[0].findings)
        finally:
            await scanner.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(run()) == 1


PARENT = """
import asyncio
from gatehouse.guards.pii.config import CustomPattern, CustomRecognizer, PiiConfig
from gatehouse.guards.scan import Scan, ScanConfig
from gatehouse.guards.worker_pool import Scanner
async def main():
    slow = CustomRecognizer("SLOW", (CustomPattern("(a|a)+b"),))
    scanner = Scanner(ScanConfig(PiiConfig(timeout_s=1.0, recognizers=(slow,))), workers=2)
    await scanner.start()
    print(*(worker.pid for worker in scanner._workers), flush=True)
    await scanner.scan(["a" * 5000])
asyncio.run(main())
"""


def test_processes_end_with_a_parent_that_was_killed_also_in_mid_scan() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2
    end = monotonic() + 60
    while any(running(pid) for pid in pids):
        assert monotonic() < end
        time.sleep(0.05)


def running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
