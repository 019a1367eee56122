"""What the pipeline's stages make of a call: pure functions over its texts, what was found in them, and its body.

No text of a call is in any message that leaves here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from gatehouse.approvals.model import Edit
from gatehouse.core.call import GovernedCall
from gatehouse.core.decision import Obligation
from gatehouse.core.errors import (
    ContentBlocked,
    GovernanceError,
    GovernanceUnavailable,
    PiiBlocked,
    PolicyDenied,
    TooManyRequests,
)
from gatehouse.core.keys import DerivedKey
from gatehouse.core.names import hidden
from gatehouse.core.text import clean
from gatehouse.dialects import Path, StoredPart, TextPart
from gatehouse.dialects.canonical import CanonicalRequest
from gatehouse.dialects.parts import shown
from gatehouse.dialects.prompt import text_of
from gatehouse.dialects.reaches import kept, reaches, without_ids
from gatehouse.dialects.requested import LENGTHS
from gatehouse.guards.findings import ScanFailed
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.pii.masking import Mask, Placeholders
from gatehouse.guards.scan import Scan
from gatehouse.guards.screens.hits import Hit
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
from gatehouse.policy.model import Policy, ScreensPolicy

# By call type: where a request that says nothing can be told how long its answer may be.
_ANSWER_LENGTH = {
    "completion": "max_tokens",
    "text_completion": "max_tokens",
    "anthropic_messages": "max_tokens",
    "responses": "max_output_tokens",
}


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
    caller, terms = call.caller, call.terms
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
            terms.tags,
        ),
        AgentFacts(_said(call, call.agent.id), _said(call, call.agent.session)),
        CostFacts(estimate.estimated_usd or 0.0, estimate.input_tokens, estimate.max_output_tokens),
        found,
        ScreensFacts(tuple(hits)),
        SpendFacts(terms.spend_usd, terms.budget_usd),
        NowFacts.at(at),
    )


def hidden_ids(
    request: CanonicalRequest, scans: Sequence[Scan], config: PiiConfig | None, key: DerivedKey
) -> dict[str, str]:
    """What stands in records for the facts of ids in which personal data or a secret was found, with those facts."""
    if not (named := [(path, fact) for path, _, fact in kept(request)]):
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


def screened(policy: ScreensPolicy, hits: Iterable[Hit]) -> None:
    """Refuse what a screen that blocks has hit.

    Raises:
        ContentBlocked: names the screens.
    """
    blocking = sorted({hit.screen for hit in hits if blocks(policy, hit.screen)})
    if blocking:
        raise ContentBlocked(
            f"Blocked by {_and(blocking)}. Take it out and ask again.",
            policies=tuple(f"screens/{name}" for name in blocking),
        )


def blocks(policy: ScreensPolicy, screen: str) -> bool:
    """Whether a hit of this screen blocks, or is only a fact."""
    if screen == "secrets":
        return policy.secrets == "block"
    if screen == "prompt_injection":
        return policy.prompt_injection == "block"
    return True


def personal_data(config: PiiConfig, scans: Iterable[Scan]) -> None:
    """Refuse personal data whose mode is `block`.

    Raises:
        PiiBlocked: names the entities.
    """
    found = {each.entity for scan in scans for each in scan.findings}
    blocking = sorted(entity for entity in found if config.mode_of(entity) is Mode.BLOCK)
    if blocking:
        raise PiiBlocked(
            f"The request holds personal data that may not be sent: {_and(blocking)}. Take it out and ask again.",
            policies=tuple(f"pii/{name}" for name in blocking),
        )


_CROWDED = (
    "Your key has as much new text waiting to be scanned as one key may. Wait for the calls under way, then ask again."
)


def not_scanned(policy: Policy, failed: ScanFailed) -> GovernanceError | None:
    """The refusal of a call whose text could not be scanned; None where policy.yaml lets it through by name."""
    if failed.reason == "crowded":  # no fault of the scanner's, so that no policy lets it through
        return TooManyRequests(_CROWDED)
    pii, screens = policy.pii, policy.screens
    pii_denies = pii is not None and pii.on_error == "deny"
    if not pii_denies and (screens is None or screens.on_error != "deny"):
        return None
    if failed.reason == "too_long":
        why = "A text of the request is too long to be scanned. Send it in parts."
    elif failed.reason == "timeout":
        why = "A text of the request could not be scanned in time. Send it in parts."
    else:
        return GovernanceUnavailable("The scanner is not there. Try again soon.")
    return PiiBlocked(why, policies=("pii",)) if pii_denies else ContentBlocked(why, policies=("screens",))


def masked(
    texts: Sequence[TextPart], scans: Sequence[Scan], config: PiiConfig, placeholders: Placeholders
) -> tuple[dict[Path, str], Mask]:
    """The texts that change when personal data is masked, and the way back.

    Raises:
        PlaceholdersCollide: two values would have one placeholder.
    """
    mask = Mask(placeholders)
    now = mask.mask([(part.text, scan.findings) for part, scan in zip(texts, scans, strict=True)], config)
    return {part.path: text for part, text in zip(texts, now, strict=True) if text != part.text}, mask


# How a request names a conversation that the provider keeps.
_CONVERSATIONS = ("previous_response_id", "conversation")


def kept_by_provider(body: Mapping[str, Any]) -> None:
    """Refuse to mask a turn of a conversation that the provider keeps: what the turns before it hold could not be
    turned back, for the way back from their placeholders ended with their calls.

    Raises:
        PiiBlocked: names the field.
    """
    named = next((name for name in _CONVERSATIONS if body.get(name) is not None), None)
    if named is not None:
        raise PiiBlocked(
            f"{named}: the provider keeps the turns before this one, so the personal data in it cannot be masked "
            "safely. Send the whole conversation with each request, or take the personal data out.",
            policies=("pii",),
            param=named,
        )


def oblige(body: MutableMapping[str, Any], obligation: Obligation, call_type: str) -> None:
    """Change the request to what the rules ask for: the model, and the longest answer."""
    if obligation.downgrade_to is not None:
        body["model"] = obligation.downgrade_to
    most = obligation.max_tokens
    if most is None:
        return
    below = body.get("extra_body")
    for place in (body, below if isinstance(below, MutableMapping) else {}):
        for name in LENGTHS:
            if name in place and not (_is_count(place[name]) and place[name] <= most):
                place[name] = most
    said = _ANSWER_LENGTH.get(call_type if call_type in _ANSWER_LENGTH else call_type.removeprefix("a"))
    if said and not any(name in body for name in LENGTHS):
        body[said] = most


def edit(request: CanonicalRequest, edit: Edit) -> CanonicalRequest:
    """Change a request to what an approver made of it.

    Raises:
        PolicyDenied: the length of its answer cannot be set.
    """
    obligation = Obligation(downgrade_to=edit.model, max_tokens=edit.max_tokens)
    edited = request.limited(partial(oblige, obligation=obligation, call_type=request.call_type))
    if edit.max_tokens is not None:
        most = edited.requested.tokens
        if most is None or most > edit.max_tokens:
            raise PolicyDenied("An approver shortened the answer, which this route cannot. Ask for another approval.")
    return edited


def changed_by(request: CanonicalRequest, obligation: Obligation) -> bool:
    """Whether an obligation would change the request, which stays as it is."""
    body = request.fields
    probe = dict(body)
    if isinstance(below := body.get("extra_body"), Mapping):
        probe["extra_body"] = dict(below)
    oblige(probe, obligation, request.call_type)
    return probe != body


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
        where = shown(first.path)
        raise ContentBlocked(
            f"{where}: this names {first.what} that the provider holds, so the people who must approve the request "
            "cannot be shown what it is. Send its content in the request instead.",
            policies=rules,
            param=where,
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
