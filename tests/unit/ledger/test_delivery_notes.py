"""What a gateway notes of delivered answers outlives its process, and goes when it is needed no more."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

import pytest
from gatehouse.core.call import CostSource, Status
from gatehouse.ledger import delivery_notes
from gatehouse.ledger.delivery_notes import Delivery, DeliveryNotes
from gatehouse.ledger.recovery import _died

WHOLE = Delivery(200, 0.5)


@pytest.fixture
def dead(tmp_path: Path) -> DeliveryNotes:
    return DeliveryNotes(tmp_path, UUID(int=1))


@pytest.fixture
def alive(tmp_path: Path) -> DeliveryNotes:
    return DeliveryNotes(tmp_path, UUID(int=2))


def test_another_gateway_reads_what_a_dead_one_noted(dead: DeliveryNotes, alive: DeliveryNotes, tmp_path: Path) -> None:
    dead.add("first", WHOLE)
    dead.add("second", Delivery(201, None))
    alive.add("own", WHOLE)
    with next(tmp_path.glob("*1.delivered")).open("ab") as file:
        file.write(b'["torn", 2')
    assert alive.of_others() == {"first": WHOLE, "second": Delivery(201, None)}


def test_a_file_starts_anew_once_its_calls_are_settled_and_goes_with_its_gateway(
    dead: DeliveryNotes, alive: DeliveryNotes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_notes, "_MAX_BYTES", 10)
    dead.add("first", WHOLE)
    dead.add("second", WHOLE)
    dead.settled(["first"])
    assert set(alive.of_others()) == {"first", "second"}
    dead.settled(["second", "unknown"])
    assert alive.of_others() == {}
    dead.add("third", WHOLE)
    assert set(alive.of_others()) == {"third"}
    dead.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_a_day_old_is_removed(dead: DeliveryNotes, alive: DeliveryNotes, tmp_path: Path) -> None:
    dead.add("first", WHOLE)
    (path,) = tmp_path.iterdir()
    os.utime(path, (0, 0))
    assert alive.of_others() == {}
    assert not path.exists()


def test_a_note_that_cannot_be_written_does_not_keep_the_answer(tmp_path: Path) -> None:
    DeliveryNotes(tmp_path / "missing", UUID(int=1)).add("first", WHOLE)


def test_a_call_whose_gateway_died_costs_its_estimate_unless_its_answer_was_delivered() -> None:
    died = _died(0.75, None)
    assert (died.status, died.error, died.cost_usd) == (Status.PARTIAL, "gateway_died", 0.75)
    assert died.cost_source is CostSource.ESTIMATED
    whole = _died(0.75, WHOLE)
    assert (whole.status, whole.error, whole.http_status, whole.cost_usd) == (Status.SUCCESS, None, 200, 0.5)
    assert _died(None, None).cost_source is CostSource.NO_PRICE
