"""Whose texts are worked on next: callers take turns by the size of what they send, however much one of them sends.

Pure. Promises: who has something waiting is served after at most one piece of each other caller that waits; the calls
of one caller share that caller's turns; what one caller may have waiting is bounded, and nobody else's bound.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from itertools import count
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")

# The turns of work that only saves time later: they come when nobody else waits.
WHEN_IDLE: Final = ""
# Callers without anything waiting are forgotten when there are more of them.
_MAX_REMEMBERED: Final = 1_000


@dataclass(slots=True, eq=False)
class Entry(Generic[_T]):
    """One item that waits.

    Attributes:
        call: tells the calls of one caller apart.
        gone: it was taken or dropped.
    """

    caller: str
    call: int
    item: _T
    size: int
    gone: bool = False


class _Line(Generic[_T]):
    """Items of one caller, which its calls take in turn."""

    def __init__(self) -> None:
        self._calls: OrderedDict[int, deque[Entry[_T]]] = OrderedDict()
        self.count = self.size = 0

    def put(self, entry: Entry[_T]) -> None:
        self._calls.setdefault(entry.call, deque()).append(entry)
        self.count += 1
        self.size += entry.size

    def gone(self, entry: Entry[_T]) -> None:
        self.count -= 1
        self.size -= entry.size
        if not self.count:
            self._calls.clear()

    def first(self) -> Entry[_T] | None:
        """The next one, which stays."""
        while self._calls:
            call, entries = next(iter(self._calls.items()))
            while entries and entries[0].gone:
                entries.popleft()
            if entries:
                return entries[0]
            del self._calls[call]
        return None

    def rotate(self, call: int) -> None:
        """A call has had its turn."""
        if call in self._calls:
            self._calls.move_to_end(call)


class _Lane(Generic[_T]):
    """What waits of one caller, how much they have had, and since when they wait."""

    def __init__(self) -> None:
        self.short, self.long = _Line[_T](), _Line[_T]()
        self.had = 0.0
        self.since = 0
        self.last_was_long = True

    @property
    def waiting(self) -> int:
        return self.short.size + self.long.size

    def line(self, *, is_long: bool) -> _Line[_T]:
        return self.long if is_long else self.short

    def next_line(self, *, only_short: bool) -> _Line[_T] | None:
        """Short and long items alternate, so that neither waits for all of the other."""
        order = (self.short, self.long) if self.last_was_long or only_short else (self.long, self.short)
        return next((line for line in order if line.count and not (only_short and line is self.long)), None)


class FairTurns(Generic[_T]):
    """Items of many callers.

    Args:
        max_waiting: what one caller may have waiting, in units of size, beyond their first call.
        longest: items that are larger are long.
    """

    def __init__(self, *, max_waiting: int, longest: int) -> None:
        self._max_waiting = max_waiting
        self._longest = longest
        self._lanes: dict[str, _Lane[_T]] = {}
        self._now = 0.0
        self._serials = count()

    def fits(self, caller: str, size: int) -> bool:
        """Whether a caller may have so much more waiting. Who has nothing waiting may, so that every call gets in."""
        lane = self._lanes.get(caller)
        return lane is None or not lane.waiting or lane.waiting + size <= self._max_waiting

    def is_long(self, entry: Entry[_T]) -> bool:
        """Whether an item may have to wait where only short ones are taken."""
        return entry.size > self._longest

    def put(self, caller: str, call: int, item: _T, size: int) -> Entry[_T]:
        """Let an item wait for its turn."""
        lane = self._lanes.setdefault(caller, _Lane())
        if not lane.waiting:
            # Time in which nothing was asked for gives nobody a larger share later.
            lane.had, lane.since = max(lane.had, self._now), next(self._serials)
        entry = Entry(caller, call, item, size)
        lane.line(is_long=self.is_long(entry)).put(entry)
        return entry

    def drop(self, entry: Entry[_T]) -> None:
        """An item that waits no more."""
        if not entry.gone:
            entry.gone = True
            lane = self._lanes[entry.caller]
            lane.line(is_long=self.is_long(entry)).gone(entry)

    def take(
        self, *, only_short: bool = False, workers: int = 1, worth: int = 0, most: int = 0, items: int = 1
    ) -> list[Entry[_T]]:
        """What is worked on next: a long item, or short ones of one call that go together.

        Args:
            only_short: long ones must wait.
            workers: how many are free, and share what waits.
            worth: so much goes together, also where others are free.
            most: a piece of several items has no more.
            items: nor more of them than this.
        """
        lane = self._next_lane(only_short=only_short)
        line = lane.next_line(only_short=only_short) if lane is not None else None
        if lane is None or line is None:
            return []
        lane.last_was_long = line is lane.long
        together = 0 if lane.last_was_long else min(most, max(worth, line.size // workers))
        taken: list[Entry[_T]] = []
        size = 0
        while (entry := line.first()) is not None:
            full = size >= together or size + entry.size > most or len(taken) >= items
            if taken and (full or entry.call != taken[0].call):
                break
            taken.append(entry)
            size += entry.size
            self.drop(entry)
        line.rotate(taken[0].call)
        # As if each that waits, and one more, had had an equal part of it: who comes next is before those that have
        # been served since, and who waits is overtaken by a few newcomers and not by any number of them.
        waiting = sum(each.waiting > 0 for each in self._lanes.values())
        self._now = max(self._now, lane.had) + size / (waiting + 2)
        lane.had += size
        self._forget()
        return taken

    def _next_lane(self, *, only_short: bool) -> _Lane[_T] | None:
        """Who has had least of those that wait."""
        waiting = [
            (name == WHEN_IDLE, lane.had, lane.since, lane)
            for name, lane in self._lanes.items()
            if lane.short.count or (lane.long.count and not only_short)
        ]
        return min(waiting, key=lambda each: each[:3])[3] if waiting else None

    def _forget(self) -> None:
        if len(self._lanes) > _MAX_REMEMBERED:
            self._lanes = {name: lane for name, lane in self._lanes.items() if lane.waiting or lane.had > self._now}
