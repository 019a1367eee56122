"""The append continues a chain's end, in any store, and readers get the records back page by page."""

from __future__ import annotations

from pathlib import Path

import pytest
from gatehouse.capsule import keys
from gatehouse.capsule.append import by_chain, seal_behind
from gatehouse.capsule.document import DEFAULT_CHAIN
from gatehouse.capsule.keys import KeyFolder
from gatehouse.capsule.merkle import Frontier
from gatehouse.capsule.stored import FIRST, LAST, ChainEnd, StoredCapsule, read_in_pages
from gatehouse.capsule.verification import verify
from gatehouse.core.errors import SetupError

from tests.support.capsules import AT, capsule

EMPTY = ChainEnd(DEFAULT_CHAIN, frontier=Frontier().to_bytes())


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> KeyFolder:
    folder = tmp_path_factory.mktemp("keys")
    keys.create(folder, AT)
    return KeyFolder(folder)


def appended(held: KeyFolder, end: ChainEnd, *batches: int) -> tuple[list[StoredCapsule], ChainEnd]:
    """Return what so many batches of so many records leave behind an end."""
    everything: list[StoredCapsule] = []
    for size in batches:
        records, end = seal_behind(end, [capsule(end.size + number) for number in range(size)], held, AT)
        everything += records
    return everything, end


@pytest.mark.parametrize("end", [EMPTY, ChainEnd(DEFAULT_CHAIN)], ids=["tree", "no tree"])
def test_batches_make_one_chain_that_verifies_with_its_end(held: KeyFolder, end: ChainEnd) -> None:
    records, last = appended(held, end, 1, 3, 7)
    keyring, with_tree = held.current().keyring, end.frontier is not None
    report = verify(records, keyring, chain=DEFAULT_CHAIN, end=last, stored_tree=with_tree)
    assert (report.records, report.finding) == (11, None)
    assert (last.size, last.hash, last.signed_by) == (11, records[-1].sealed.hash, keyring.active.name)
    assert (last.frontier is not None) is with_tree


def test_a_chain_that_goes_on_with_another_key_is_not_appended_to(held: KeyFolder, tmp_path: Path) -> None:
    _, end = appended(held, EMPTY, 2)
    keys.create(tmp_path / "other", AT)
    with pytest.raises(SetupError, match="was signed by another key"):
        appended(KeyFolder(tmp_path / "other"), end, 1)


def test_documents_are_grouped_by_chain_in_one_order_and_those_that_are_stored_are_left_out() -> None:
    documents = [capsule(number) | {"domain": chain} for number, chain in enumerate(("b", "a", "b", "c"))]
    grouped = by_chain(documents, {documents[3]["id"]})
    assert grouped == [("a", [documents[1]]), ("b", [documents[0], documents[2]])]


@pytest.mark.parametrize("batch", [1, 2, 3, 10, 11, 12, 500])
def test_pages_hold_every_record_once_and_one_page_is_read_at_a_time(held: KeyFolder, batch: int) -> None:
    records, _ = appended(held, EMPTY, 11)
    asked: list[int] = []

    def read(first: int, count: int) -> list[StoredCapsule]:
        asked.append(first)
        return [record for record in records if record.sealed.sequence >= first][:count]

    pages = read_in_pages(read, batch)
    assert next(pages) == records[0]
    assert asked == [FIRST]
    assert list(pages) == records[1:]
    assert len(asked) == 11 // batch + 1
    asked.clear()
    assert list(read_in_pages(read, batch, 4)) == records[4:]
    assert list(read_in_pages(read, batch, LAST)) == []
