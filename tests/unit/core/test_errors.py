"""Errors as callers get them: one word for each reason, and the type and status that OpenAI's clients know."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from gatehouse.core import errors
from gatehouse.core.errors import GovernanceError
from gatehouse.core.reasons import Reason

TYPES = {
    "permission_error": {403, 499},
    "rate_limit_error": {429},
    "api_error": {500, 502},
    "service_unavailable_error": {503},
    "invalid_request_error": {400, 404, 408, 409, 410, 413, 415},
}


def kinds(of: type[GovernanceError] = GovernanceError) -> Iterator[type[GovernanceError]]:
    for kind in of.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from kinds(kind)


KINDS = list(kinds())


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_written_with_its_word_and_the_type_of_its_status(kind: type[GovernanceError]) -> None:
    error = kind() if kind is errors.PlaceholdersCollide else kind("Because.")  # type: ignore[call-arg]
    written = json.loads(json.dumps(error.body("id")))["error"]
    assert written["code"] == kind.code.name.lower()
    assert kind.status in TYPES[written["type"]]


def test_the_tree_of_errors_names_each_with_its_status() -> None:
    lines = re.findall(r"^[|` ]*-- ([A-Z]\w+) +(\d{3})?", errors.__doc__ or "", re.M)
    assert {name for name, _ in lines} == {kind.__name__ for kind in KINDS}
    status = {kind.__name__: str(kind.status) for kind in KINDS}
    assert [(name, said, status[name]) for name, said in lines if said and said != status[name]] == []


def test_no_two_families_of_errors_share_a_word() -> None:
    first: dict[Reason, type[GovernanceError]] = {}
    for kind in KINDS:
        assert issubclass(kind, first.setdefault(kind.code, kind))
