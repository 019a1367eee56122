"""`gatehouse policy replay`: shows what another policy would decide on past calls."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from gatehouse.cli import recorded_decisions
from gatehouse.cli.policy import own_policy, policy_app, read
from gatehouse.cli.where import gateway_settings
from gatehouse.core.errors import SetupError
from gatehouse.ledger.store.capsules import reading
from gatehouse.policy.facts import Facts
from gatehouse.policy.load import LoadedPolicy
from gatehouse.policy.model import Policy
from gatehouse.policy.replay import PastDecision, Replay, replay
from gatehouse.policy.stages import STAGES, outcome

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SINCE = re.compile(r"([0-9]{1,5})([mhdw])")


@policy_app.command("replay")
def replay_calls(
    file: Annotated[
        Path | None, typer.Argument(help="The policy to try; by default today's, compared with the recorded decisions.")
    ] = None,
    since: Annotated[str, typer.Option(help="How far back: 30m, 12h, 7d, 4w.")] = "7d",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show what this file would have decided on the recorded calls, and the changes against today's policy.

    Stages and rules decide again on the facts recorded with each call. The texts were not recorded, so a finding counts
    as one in the newest turn. Without a file, what screens and personal data refuse is not compared.
    """
    match = _SINCE.fullmatch(since)
    if match is None:
        raise SetupError(f"--since {since!r}: not a time. Write one such as 30m, 12h, 7d or 4w.")
    period = timedelta(**{_UNITS[match[2]]: int(match[1])})
    today = read(own_policy())[0]
    with reading(gateway_settings().database_url) as connection:
        calls = _shown(recorded_decisions.recorded(connection, period), recorded_decisions.count(connection, period))
        if file is not None:
            tried = read(file)[0]
            found = replay(_as_decided_by(today, calls), tried.policy, tried.rules)
        else:
            found = replay(_by_rules(calls), _without_texts(today.policy), today.rules)
    if as_json:
        typer.echo(json.dumps(asdict(found) | {"changed": found.changed}, indent=2))
        return
    for line in _lines(found, since, str(file or own_policy())):
        typer.echo(line)


def _as_decided_by(today: LoadedPolicy, calls: Iterable[PastDecision]) -> Iterator[PastDecision]:
    """Yield the calls with the decisions of today's policy."""
    rules = today.rules
    for call in calls:
        facts = Facts.from_mapping(call.facts, strict=False, entities=rules.entities)
        decided = outcome(today.policy, rules, facts)
        yield replace(call, verdict=decided.verdict, policies=decided.policies)


def _without_texts(policy: Policy) -> Policy:
    """Return the policy without what depends on where a finding stands, which no record says."""
    return policy.model_copy(update={"screens": None, "pii": None})


def _by_rules(calls: Iterable[PastDecision]) -> Iterator[PastDecision]:
    """Yield the calls that rules decided on; rules never saw what another stage refused."""
    return (call for call in calls if not (STAGES & {name.partition("/")[0] for name in call.policies}))


def _lines(found: Replay, since: str, name: str) -> Iterator[str]:
    calls = f"{found.calls:,} call{'' if found.calls == 1 else 's'} of the last {since}"
    yield f"{name}: {calls}, {found.changed:,} would get another verdict"
    for change in found.changes:
        examples = ", ".join(change.examples)
        yield f"  {change.before.value} -> {change.after.value}: {change.calls:,}   such as {examples}"
    for title, counts in (
        ("matches more", found.gained),
        ("matches less", found.lost),
        ("cannot be evaluated", found.errors),
    ):
        for rule, number in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
            kind = "stage" if rule.partition("/")[0] in STAGES else "rule"
            yield f"  {kind} {rule} {title}: {number:,}"


def _shown(calls: Iterator[PastDecision], total: int) -> Iterator[PastDecision]:
    """Yield the calls, with a progress bar on a terminal."""
    if not sys.stderr.isatty():
        yield from calls
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(calls, "replaying", total=total, console=Console(stderr=True), transient=True)
