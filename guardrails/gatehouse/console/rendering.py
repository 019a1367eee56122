"""Pages out of templates: everything in them is escaped, and nothing in them runs that is not a file of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from gatehouse.core.call import CostSource

HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Forms say their origin only where a page may say where it is.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """Return a page. `visitor` is who is signed in, if anybody is."""
    values.setdefault("visitor", None)
    html = _TEMPLATES.get_template(template).render(path=request.url.path, **values)
    return HTMLResponse(html, status)


def money(amount: Decimal | float | str | None) -> str:
    """Format dollars, with as many digits as a price of one call needs."""
    if amount is None:
        return "—"
    value = Decimal(str(amount))
    if not value.is_finite():
        return "—"
    return f"${value:,.2f}" if abs(value) >= 1 or value == 0 else f"${value:.6f}".rstrip("0").rstrip(".")


def cost(record: Mapping[str, Any]) -> str:
    """Format what a call cost, and say where that is not known or is an estimate."""
    match record.get("cost_source"):
        case CostSource.NO_PRICE:
            return "no price"
        case CostSource.ESTIMATED:
            return f"{money(record.get('cost_usd'))} (estimated)"
        case _:
            return money(record.get("cost_usd"))


def number(value: object) -> str:
    """Format a count in groups of three digits."""
    return f"{value:,}" if isinstance(value, int) else "—" if value is None else str(value)


def moment(at: datetime | str | None) -> str:
    """Format a date and time, UTC."""
    if not at:
        return "—"
    try:
        parsed = datetime.fromisoformat(at) if isinstance(at, str) else at
    except ValueError:
        return str(at)
    return f"{parsed.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("gatehouse.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(money=money, cost=cost, number=number, moment=moment, pretty=_pretty)
    return environment


_TEMPLATES: Final = _environment()
