"""Callers get errors with one code for each reason, and the type and status that OpenAI's clients know."""

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
    "api_error": {500, 502, 504},
    "service_unavailable_error": {503},
    "invalid_request_error": {400, 404, 408, 409, 410, 413, 415},
    "budget_exceeded": {422},
}


def kinds(of: type[GovernanceError] = GovernanceError) -> Iterator[type[GovernanceError]]:
    for kind in of.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from kinds(kind)


KINDS = list(kinds())


def made(kind: type[GovernanceError]) -> GovernanceError:
    if kind is errors.UpstreamRests:
        return errors.UpstreamRests(7)
    return kind() if kind in (errors.PlaceholdersCollide, errors.EngineFailed) else kind("Because.")  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_written_with_its_word_and_the_type_of_its_status(kind: type[GovernanceError]) -> None:
    written = json.loads(json.dumps(made(kind).body("id")))["error"]
    assert written["code"] == kind.code.name.lower()
    assert kind.status in TYPES[written["type"]]


def test_what_people_must_read_is_400_where_claude_code_would_hide_it() -> None:
    """It shows another text than the error's for 401, 403 and 413, and tries 5xx again for minutes in silence."""
    hidden = {kind for kind in KINDS if made(kind).status_on("/v1/messages") in (403, 413)}
    assert hidden == {errors.UngovernedRoute, errors.TooLarge, errors.AccessDenied}
    assert errors.PolicyDenied("No.").status_on("/v1/messages") == 400
    assert errors.PolicyDenied("No.").status_on("/v1/chat/completions") == 403


def test_the_tree_of_errors_names_each_with_its_status() -> None:
    lines = re.findall(r"^[|` ]*-- ([A-Z]\w+) +(\d{3})?", errors.__doc__ or "", re.M)
    assert {name for name, _ in lines} == {kind.__name__ for kind in KINDS}
    status = {kind.__name__: str(kind.status) for kind in KINDS}
    assert [(name, said, status[name]) for name, said in lines if said and said != status[name]] == []


def test_no_two_families_of_errors_share_a_word() -> None:
    first: dict[Reason, type[GovernanceError]] = {}
    for kind in KINDS:
        assert issubclass(kind, first.setdefault(kind.code, kind))
