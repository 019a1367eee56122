"""What rules may ask about a call, and what reviewers are shown of it: pure functions.

No text of a call is in any message that leaves here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from gatehouse.core.call import GovernedCall
from gatehouse.core.errors import ContentBlocked
from gatehouse.core.keys import DerivedKey
from gatehouse.core.names import hidden
from gatehouse.core.text import clean
from gatehouse.dialects.canonical import CanonicalRequest
from gatehouse.dialects.parts import StoredPart, shown
from gatehouse.dialects.prompt import text_of
from gatehouse.dialects.reaches import reaches, stored_data, without_ids
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.scan import Scan
from gatehouse.policy.facts import (
    AgentFacts,
    CallerFacts,
    CostFacts,
    Facts,
    NowFacts,
    RequestFacts,
    ScreensFacts,
    SpendFacts,
)
from gatehouse.policy.limits import Estimate


def facts_of(
    call: GovernedCall,
    request: CanonicalRequest,
    estimate: Estimate,
    scans: Iterable[Scan] | None,
    at: datetime,
) -> Facts:
    """What a rule's `when` may ask about this call.

    Args:
        scans: of its texts; None where they have not been scanned, so that no rule is asked.
    """
    caller, grants = call.caller, call.grants
    reached = reaches(request)
    found: Counter[str] = Counter()
    hits: dict[str, None] = {}
    for scan in scans or ():
        if scan.findings or scan.hits:
            found.update(each.entity for each in scan.findings)
            hits.update(dict.fromkeys(each.screen for each in scan.hits))
    return Facts(
        RequestFacts(
            call.model or "",
            call.route,
            call.call_type,
            call.stream,
            request.requested.tokens or 0,
            tuple(sorted(str(clean(tool)) for tool in request.tools)),
            1.0 if request.temperature is None else request.temperature,
            sum(len(part.text) for part in request.texts),
            call.library,
            reached if scans is not None else without_ids(reached),
        ),
        CallerFacts(
            caller.key_alias or "",
            caller.key_hash or "",
            caller.user or "",
            caller.team or "",
            caller.org or "",
            caller.role or "",
            _said(call, caller.end_user),
            grants.tags,
        ),
        AgentFacts(_said(call, call.agent.id), _said(call, call.agent.session)),
        CostFacts(estimate.estimated_usd or 0.0, estimate.input_tokens, estimate.max_output_tokens),
        found,
        ScreensFacts(tuple(hits)),
        SpendFacts(grants.spend_usd, grants.budget_usd),
        NowFacts.at(at),
    )


def hidden_ids(
    request: CanonicalRequest, scans: Sequence[Scan], config: PiiConfig | None, key: DerivedKey
) -> dict[str, str]:
    """What stands in records for the facts of ids in which personal data or a secret was found, with those facts."""
    if not (named := [(path, fact) for path, _, fact in stored_data(request)]):
        return {}
    found = {part.path for part, scan in zip(request.scanned, scans, strict=True) if _is_hidden(scan, config)}
    facts = {fact for path, fact in named if path in found}
    return {f"{fact.partition(':')[0]}:{hidden(fact, key)}": fact for fact in facts}


def _is_hidden(scan: Scan, config: PiiConfig | None) -> bool:
    modes = {config.mode_of(each.entity) for each in scan.findings} if config is not None else set[Mode]()
    return bool(modes & {Mode.MASK, Mode.BLOCK}) or any(hit.screen == "secrets" for hit in scan.hits)


def _said(call: GovernedCall, name: str | None) -> str:
    """A name as the caller gave it."""
    return str(clean(call.hidden.get(name, name))) if name else ""


def summary(call: GovernedCall, request: CanonicalRequest, facts: Facts) -> dict[str, Any]:
    """What a reviewer sees of a call, after masking."""
    return {
        "estimated_usd": facts.cost.estimated_usd,
        "input_tokens": facts.cost.input_tokens,
        "max_tokens": request.requested.tokens,
        "max_output_tokens": facts.cost.max_output_tokens,
        "stream": call.stream,
        "tools": list(facts.renamed(call.hidden).request.tools),
        "pii": dict(facts.pii),
        "screens": list(facts.screens.hits),
        "agent": call.agent.id,
        "session": call.agent.session,
        "prompt": text_of(request.fields),
    }


def check_shown(stored: Sequence[StoredPart], rules: tuple[str, ...]) -> None:
    """Refuse to ask people about a request of which they cannot be shown all.

    Args:
        stored: what the request names and the provider holds.
        rules: ids of those that want people.

    Raises:
        ContentBlocked: names the first such field.
    """
    if stored:
        first = stored[0]
        # The edge moved it there; its caller wrote it at the top.
        where = shown(first.path[1:] if first.path[:2] == ("extra_body", "conversation") else first.path)
        raise ContentBlocked(
            f"{where}: this names {first.what} that the provider holds, so the people who must approve the request "
            "cannot be shown what it is. Send its content in the request instead.",
            policies=rules,
            param=where,
        )
