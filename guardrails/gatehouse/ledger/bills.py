"""Who pays for which calls, and how much: what intents reserve and settlements charge. Pure.

Every gateway names payers in one order, in which Postgres locks their rows, so that no two wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from gatehouse.core.call import Payer
from gatehouse.ledger.rows import IntentRow, PayerRow
from gatehouse.ledger.store.calls import Ended

_LIMITED = "limited"

# Kind, id, and what it is of.
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True, order=True)
class Charge:
    """What one payer is charged in one transaction, in US dollars.

    Attributes:
        release: what is no longer reserved.
    """

    kind: str
    id: str
    of: str
    usd: Decimal
    release: Decimal


def payer_rows(payers: Iterable[Payer]) -> list[PayerRow]:
    """Return payers as a call's row keeps them, each once."""
    limited: dict[Key, bool] = {}
    for each in payers:
        key = each.kind, each.id, each.of
        limited[key] = each.limited or limited.get(key, False)
    return [(*key, _LIMITED if limited[key] else "") for key in sorted(limited)]


def may_cost(intent: IntentRow) -> bool:
    """Tell whether budgets must have room for an intent."""
    return intent.get("reserve", 0.0) != 0.0 and any(row[3] for row in intent.get("payers") or ())


def payers_of(intents: Sequence[IntentRow]) -> tuple[list[list[str]], list[list[int]]]:
    """Return the payers whose budgets limit these intents, once and in order, and which of them each intent has."""
    limiting = [[_key(row) for row in intent.get("payers") or () if row[3]] for intent in intents]
    payers = sorted({payer for each in limiting for payer in each})
    places = {payer: place for place, payer in enumerate(payers)}
    return [list(payer) for payer in payers], [sorted(places[payer] for payer in each) for each in limiting]


def charges(ended: Iterable[tuple[Ended, float | None]]) -> list[Charge]:
    """Return what to charge for calls that ended, from their rows and their costs."""
    costs: dict[Key, Decimal] = {}
    releases: dict[Key, Decimal] = {}
    for row, usd in ended:
        for payer in row.payers or () if usd else ():
            _add(costs, payer, Decimal(repr(usd)))
        for payer in row.held or ():
            _add(releases, payer, row.reserved or Decimal(0))
    zero = Decimal(0)
    return [
        Charge(*payer, costs.get(payer, zero), releases.get(payer, zero))
        for payer in sorted(costs.keys() | releases.keys())
    ]


def _add(sums: dict[Key, Decimal], payer: PayerRow, usd: Decimal) -> None:
    sums[_key(payer)] = sums.get(_key(payer), Decimal(0)) + usd


def _key(row: PayerRow) -> Key:
    kind, name, of = row[:3]
    return kind, name, of
