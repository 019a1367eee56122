"""Decides whose texts are worked on next: callers take turns by the size of what they send, however much one sends.

Pure. Promises: a waiting caller is served after at most one batch of each other waiting caller; the calls of one caller
share that caller's turns; the limit on what a caller may have waiting counts only that caller's own texts.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from itertools import count
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")

# The caller of work that only saves time later: it runs when no other work waits.
WHEN_IDLE: Final = ""
# Above this number, callers without waiting texts are forgotten.
_MAX_REMEMBERED: Final = 1_000


@dataclass(slots=True, eq=False)
class Entry(Generic[_T]):
    """Hold one waiting item.

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
    """Hold one caller's items, which its calls take in turn."""

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
        """Return the next item without removing it."""
        while self._calls:
            call, entries = next(iter(self._calls.items()))
            while entries and entries[0].gone:
                entries.popleft()
            if entries:
                return entries[0]
            del self._calls[call]
        return None

    def rotate(self, call: int) -> None:
        """Put a call at the end of the line after its turn."""
        if call in self._calls:
            self._calls.move_to_end(call)


class _Lane(Generic[_T]):
    """Hold what one caller has waiting, how much the caller has had, and since when the caller waits."""

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
        """Return the next line. Short and long items alternate, so that neither waits for all of the other."""
        order = (self.short, self.long) if self.last_was_long or only_short else (self.long, self.short)
        return next((line for line in order if line.count and not (only_short and line is self.long)), None)


class FairTurns(Generic[_T]):
    """Hold items of many callers.

    Args:
        max_waiting: the most that one caller may have waiting, in units of size, beyond the caller's first call.
        max_short: larger items are long.
    """

    def __init__(self, *, max_waiting: int, max_short: int) -> None:
        self._max_waiting = max_waiting
        self._max_short = max_short
        self._lanes: dict[str, _Lane[_T]] = {}
        self._now = 0.0
        self._serials = count()

    def fits(self, caller: str, size: int) -> bool:
        """Tell whether a caller may have so much more waiting. It is always true for a caller with nothing waiting."""
        lane = self._lanes.get(caller)
        return lane is None or not lane.waiting or lane.waiting + size <= self._max_waiting

    def is_long(self, entry: Entry[_T]) -> bool:
        """Tell whether an item is long, so that it must wait where only short ones are taken."""
        return entry.size > self._max_short

    def put(self, caller: str, call: int, item: _T, size: int) -> Entry[_T]:
        """Let an item wait for its turn."""
        lane = self._lanes.setdefault(caller, _Lane())
        if not lane.waiting:
            # An idle time does not earn a caller a larger share later.
            lane.had, lane.since = max(lane.had, self._now), next(self._serials)
        entry = Entry(caller, call, item, size)
        lane.line(is_long=self.is_long(entry)).put(entry)
        return entry

    def drop(self, entry: Entry[_T]) -> None:
        """Remove a waiting item."""
        if not entry.gone:
            entry.gone = True
            lane = self._lanes[entry.caller]
            lane.line(is_long=self.is_long(entry)).gone(entry)

    def take(
        self, *, only_short: bool = False, workers: int = 1, min_size: int = 0, max_size: int = 0, max_items: int = 1
    ) -> list[Entry[_T]]:
        """Take the next work: a long item, or short ones of one call together.

        Args:
            only_short: long items must wait.
            workers: how many workers are free, and share what waits.
            min_size: items up to this size go together, even if other workers are free.
            max_size: the largest size of several items together.
            max_items: the largest number of items together.
        """
        lane = self._next_lane(only_short=only_short)
        line = lane.next_line(only_short=only_short) if lane is not None else None
        if lane is None or line is None:
            return []
        lane.last_was_long = line is lane.long
        together = 0 if lane.last_was_long else min(max_size, max(min_size, line.size // workers))
        taken: list[Entry[_T]] = []
        size = 0
        while (entry := line.first()) is not None:
            full = size >= together or size + entry.size > max_size or len(taken) >= max_items
            if taken and (full or entry.call != taken[0].call):
                break
            taken.append(entry)
            size += entry.size
            self.drop(entry)
        line.rotate(taken[0].call)
        # Advance as if each waiting caller, and one more, had had an equal part. A newcomer then comes before callers
        # served since, and only a few newcomers can overtake a waiting caller.
        waiting = sum(each.waiting > 0 for each in self._lanes.values())
        self._now = max(self._now, lane.had) + size / (waiting + 2)
        lane.had += size
        self._forget()
        return taken

    def _next_lane(self, *, only_short: bool) -> _Lane[_T] | None:
        """Return the waiting caller that has had the least."""
        waiting = [
            (name == WHEN_IDLE, lane.had, lane.since, lane)
            for name, lane in self._lanes.items()
            if lane.short.count or (lane.long.count and not only_short)
        ]
        return min(waiting, key=lambda each: each[:3])[3] if waiting else None

    def _forget(self) -> None:
        if len(self._lanes) > _MAX_REMEMBERED:
            self._lanes = {name: lane for name, lane in self._lanes.items() if lane.waiting or lane.had > self._now}
