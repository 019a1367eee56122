"""Bars for amounts, as numbers that a template draws as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Final

WIDTH: Final = 720
HEIGHT: Final = 140


@dataclass(frozen=True, slots=True)
class Bar:
    """One day's bar, in the units of the drawing, and what it stands for."""

    x: float
    y: float
    width: float
    height: float
    day: date
    calls: int
    usd: Decimal


def daily(days: Sequence[tuple[date, int, Decimal]], first: date, count: int) -> list[Bar]:
    """Return a bar for each of `count` days; a day without calls has one of no height."""
    known = {day: (calls, usd) for day, calls, usd in days}
    most = max((usd for _, usd in known.values()), default=Decimal(0)) or Decimal(1)
    step = WIDTH / count
    bars = []
    for place in range(count):
        day = first + timedelta(days=place)
        calls, usd = known.get(day, (0, Decimal(0)))
        height = round(float(usd / most) * HEIGHT, 1)
        bars.append(
            Bar(round(place * step + 1, 1), round(HEIGHT - height, 1), round(step - 2, 1), height, day, calls, usd)
        )
    return bars


def share(usd: Decimal, most: Decimal) -> float:
    """Return how long a bar is, of 100."""
    return round(float(usd / most) * 100, 1) if most > 0 else 0.0
