"""Which findings of a text are masked, and how those that overlap become one."""

from __future__ import annotations

from itertools import pairwise

from gatehouse.guards import findings as module
from gatehouse.guards.findings import Finding
from gatehouse.pipeline.redaction import SECRET, _is_secret
from hypothesis import given
from hypothesis import strategies as st

MAIL = "EMAIL_ADDRESS"


def merged(findings: list[Finding]) -> list[Finding]:
    return module.merged(findings, _is_secret)


def found(*places: tuple[str, int, int]) -> list[Finding]:
    return [Finding(entity, start, end, 1.0) for entity, start, end in places]


def test_findings_apart_stay_as_they_are() -> None:
    apart = found((MAIL, 0, 3), (SECRET, 3, 5), (MAIL, 7, 9))
    assert merged(apart[::-1]) == apart


def test_a_secret_names_what_overlaps_it_and_nothing_of_either_is_left() -> None:
    # The password of an address, which looks like the beginning of a mail address.
    assert merged(found((SECRET, 4, 10), (MAIL, 4, 20))) == found((SECRET, 4, 20))
    assert merged(found((MAIL, 0, 6), (SECRET, 4, 10))) == found((SECRET, 0, 10))
    assert merged(found((SECRET, 0, 6), (MAIL, 4, 10))) == found((SECRET, 0, 10))
    assert merged(found((SECRET, 0, 9), (MAIL, 2, 4), (MAIL, 8, 12))) == found((SECRET, 0, 12))


@given(st.lists(st.tuples(st.sampled_from([MAIL, SECRET]), st.integers(0, 30), st.integers(1, 9))))
def test_every_character_that_was_found_is_masked_once(places: list[tuple[str, int, int]]) -> None:
    findings = found(*((entity, start, start + size) for entity, start, size in places))
    now = merged(findings)
    assert {at for each in findings for at in range(each.start, each.end)} == {
        at for each in now for at in range(each.start, each.end)
    }
    assert all(one.end <= other.start for one, other in pairwise(now))
