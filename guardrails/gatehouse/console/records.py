"""Pages of what happened and what is in force: calls, spend, policy, health. For administrators and auditors."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Final
from urllib.parse import urlencode
from uuid import UUID

import yaml
from fastapi import Depends, Response

from gatehouse.capsule.keys import KEYRING_NAME
from gatehouse.console import charts, seals
from gatehouse.console import queries as db
from gatehouse.console.access import Show, auditor, pages
from gatehouse.core.clock import now
from gatehouse.core.errors import NotFound
from gatehouse.core.health import HealthCheck
from gatehouse.core.settings import Settings
from gatehouse.pipeline.in_force import PolicyInForceHolder
from gatehouse.proxy.parts import part

_STATUSES: Final = ("success", "failure", "blocked", "partial", "open")
_VERDICTS: Final = ("allow", "require_approval", "deny")
_SPANS: Final = (1, 7, 30, 90)
_WEEK: Final = 7


Configured = Annotated[Settings, part("settings")]
Governed = Annotated[PolicyInForceHolder, part("governed")]

router = pages(Depends(auditor))


@router.get("/calls")
def calls(
    show: Show,
    settings: Configured,
    wanted: Annotated[db.CallFilter, Depends()],
    before: UUID | None = None,
) -> Response:
    with db.looking(settings.database_url) as connection:
        rows = db.calls(connection, wanted, db.since_days(now(), wanted.days), before)
        shown, more = rows[: db.PAGE], len(rows) > db.PAGE
        badges = seals.badges(connection, settings.key_dir / KEYRING_NAME, shown)
    asked = {name: value for name, value in asdict(wanted).items() if value}
    return show(
        "calls.html",
        calls=shown,
        badges=badges,
        wanted=wanted,
        statuses=_STATUSES,
        verdicts=_VERDICTS,
        spans=_SPANS,
        older=f"?{urlencode({**asked, 'before': str(shown[-1].call_id)})}" if more else None,
        newest=f"?{urlencode(asked)}" if before else None,
    )


@router.get("/calls/{call_id}")
def call(show: Show, call_id: UUID, settings: Configured) -> Response:
    with db.looking(settings.database_url) as connection:
        row = db.call(connection, call_id)
        if row is None:
            raise NotFound("There is no call by that id. Look at the list of calls.")
        badge = seals.badge(connection, settings.key_dir / KEYRING_NAME, row)
    return show("call.html", call=row, badge=badge)


@router.get("/spend")
def spend(show: Show, settings: Configured, days: db.Days = 30) -> Response:
    since = db.since_days(now(), days)
    with db.looking(settings.database_url) as connection:
        found = db.spend(connection, since)
    return show(
        "spend.html",
        days=days,
        spans=_SPANS,
        total=sum(usd for _, _, usd in found.by_day),
        bars=charts.daily(found.by_day, since.date(), days),
        width=charts.WIDTH,
        height=charts.HEIGHT,
        tables=[("By team", "Team", "team", found.by_team), ("By model", "Model", "model", found.by_model)],
        share=charts.share,
    )


@router.get("/policy")
def policy(show: Show, settings: Configured, governed: Governed) -> Response:
    current = governed.current
    with db.looking(settings.database_url) as connection:
        since = db.since_days(now(), _WEEK)
        counts, verdicts = db.rule_counts(connection, since), db.verdict_counts(connection, since)
    rules = current.policy.rules
    named = {rule.id for rule in rules}
    return show(
        "policy.html",
        version=current.version,
        error=governed.error,
        rules=rules,
        counts=counts,
        others={rule: count for rule, count in counts.items() if rule not in named},
        most=max((sum(count) for count in counts.values()), default=0),
        verdicts=verdicts,
        sections=_sections(current.policy.model_dump(mode="json", by_alias=True, exclude_none=True)),
    )


@router.get("/health")
async def health(show: Show, governed: Governed, look: Annotated[HealthCheck, part("look")]) -> Response:
    state = await look()
    return show("health.html", state=state, error=governed.error)


def _sections(policy: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what policy.yaml says beside its rules, section by section."""
    return [
        (name, yaml.safe_dump(value, sort_keys=False, allow_unicode=True))
        for name, value in policy.items()
        if name not in ("version", "rules") and value
    ]
