"""Does to a request what a decision, or an approver, asks for."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from functools import partial
from typing import Any

from gatehouse.approvals.model import Edit
from gatehouse.core.decision import Obligation
from gatehouse.core.errors import PolicyDenied
from gatehouse.dialects.canonical import CanonicalRequest
from gatehouse.dialects.requested import LENGTHS

# By call type: where a request that says nothing can be told how long its answer may be.
_ANSWER_LENGTH = {
    "completion": "max_tokens",
    "text_completion": "max_tokens",
    "anthropic_messages": "max_tokens",
    "responses": "max_output_tokens",
}


def apply_obligations(body: MutableMapping[str, Any], obligation: Obligation, call_type: str) -> None:
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
    edited = request.limited(partial(apply_obligations, obligation=obligation, call_type=request.call_type))
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
    apply_obligations(probe, obligation, request.call_type)
    return probe != body


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
