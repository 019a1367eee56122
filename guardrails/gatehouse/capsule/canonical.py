"""The canonical bytes of a capsule (Capsule Protocol Specification 1.0, sections 1 and 2): what is hashed and signed.

Promises: one document has one form; what the protocol does not allow (NaN, a confidence without a decimal point, a
timestamp ending in Z, a missing field) is refused and never mended, so the same rules serve sealing and verifying.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

TYPES: Final = frozenset({"agent", "tool", "system", "kill", "workflow", "chat", "vault", "auth"})
STATUSES: Final = frozenset({"pending", "success", "failure", "partial", "blocked"})

_NULL = type(None)
_TEXT, _TEXT_OR_NULL = (str,), (str, _NULL)
_ANY = (str, int, float, bool, dict, list, _NULL)

# Field by field the tables of sections 1 to 1.6. `type(x) in`, not isinstance: a bool is not an integer here.
_TOP: Final[dict[str, tuple[type, ...]]] = {
    "id": _TEXT,
    "type": _TEXT,
    "domain": _TEXT,
    "parent_id": _TEXT_OR_NULL,
    "sequence": (int,),
    "previous_hash": _TEXT_OR_NULL,
    "spec_version": _TEXT,
}
_SECTIONS: Final[dict[str, dict[str, tuple[type, ...]]]] = {
    "trigger": {
        "type": _TEXT,
        "source": _TEXT,
        "timestamp": _TEXT,
        "request": _TEXT,
        "correlation_id": _TEXT_OR_NULL,
        "user_id": _TEXT_OR_NULL,
    },
    "context": {"agent_id": _TEXT, "session_id": _TEXT_OR_NULL, "environment": (dict,)},
    "reasoning": {
        "analysis": _TEXT,
        "options": (list,),
        "options_considered": (list,),
        "selected_option": _TEXT,
        "reasoning": _TEXT,
        "confidence": (float,),
        "model": _TEXT_OR_NULL,
        "prompt_hash": _TEXT_OR_NULL,
    },
    "authority": {
        "type": _TEXT,
        "approver": _TEXT_OR_NULL,
        "policy_reference": _TEXT_OR_NULL,
        "chain": (list,),
        "escalation_reason": _TEXT_OR_NULL,
    },
    "execution": {"tool_calls": (list,), "duration_ms": (int,), "resources_used": (dict,)},
    "outcome": {
        "status": _TEXT,
        "result": _ANY,
        "summary": _TEXT,
        "error": _TEXT_OR_NULL,
        "side_effects": (list,),
        "metrics": (dict,),
    },
}
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
# ensure_ascii=False writes raw UTF-8, sort_keys sorts by code point: sections 2.1, 2.2, 2.6. Not RFC 8785.
_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class NotCanonical(ValueError):
    """A document or its bytes break a rule of the protocol; the message names the field and the rule."""


def encode(document: Mapping[str, Any]) -> bytes:
    """Canonical JSON of any document, without looking at what it says.

    Raises:
        NotCanonical: it holds NaN, an infinity, a lone surrogate, or what JSON cannot say.
    """
    try:
        return _ENCODER.encode(document).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NotCanonical(f"cannot be written as JSON: {error}") from None


def canonical(document: Mapping[str, Any]) -> bytes:
    """The bytes that a seal covers.

    Raises:
        NotCanonical: the document is not a capsule that the protocol allows.
    """
    check(document)
    return encode(document)


def parse(data: bytes) -> dict[str, Any]:
    """The document of canonical bytes; the inverse of `canonical`.

    Raises:
        NotCanonical: these are not the canonical bytes of a capsule.
    """
    try:
        document = json.loads(data.decode())
    except (ValueError, RecursionError):
        raise NotCanonical("is not JSON in UTF-8") from None
    # Also finds a key that is there twice: the second writing has it once.
    if canonical(document) != data:
        raise NotCanonical("is not written in canonical form")
    return document  # type: ignore[no-any-return]


def check(document: object) -> None:
    """Raise `NotCanonical` unless the document has every field the protocol asks for, typed and written as it says."""
    if not isinstance(document, dict):
        raise NotCanonical("is not a JSON object")
    _check_fields(document, _TOP, "")
    for name, fields in _SECTIONS.items():
        section = document.get(name)
        if not isinstance(section, dict):
            raise NotCanonical(f"{name} is missing or not an object")
        _check_fields(section, fields, f"{name}.")
    _require(_UUID.fullmatch(document["id"]), "id is not a lower-case UUID")
    parent = document["parent_id"]
    _require(parent is None or _UUID.fullmatch(parent), "parent_id is not a lower-case UUID")
    _require(document["type"] in TYPES, "type is none of the protocol's")
    _require(document["spec_version"] == "1.0", "spec_version is not 1.0")
    sequence, previous = document["sequence"], document["previous_hash"]
    _require(sequence >= 0, "sequence is negative")
    _require((previous is None) == (sequence == 0), "previous_hash is null at sequence 0 and nowhere else")
    _require(previous is None or _DIGEST.fullmatch(previous), "previous_hash is not a SHA3-256 in lower-case hex")
    _require(document["outcome"]["status"] in STATUSES, "outcome.status is none of the protocol's")
    _require(_is_timestamp(document["trigger"]["timestamp"]), "trigger.timestamp is not UTC written as +00:00")
    _require(0.0 <= document["reasoning"]["confidence"] <= 1.0, "reasoning.confidence is not between 0.0 and 1.0")
    for option in document["reasoning"]["options"]:
        # Section 2.3: float-typed, like confidence; the only other field that is.
        _require(
            isinstance(option, dict) and type(option.get("feasibility")) is float,
            "reasoning.options[].feasibility has no decimal point",
        )


def _check_fields(section: dict[str, Any], fields: Mapping[str, tuple[type, ...]], path: str) -> None:
    for name, types in fields.items():
        try:
            value = section[name]
        except KeyError:
            raise NotCanonical(f"{path}{name} is missing") from None
        if type(value) not in types:
            raise NotCanonical(f"{path}{name} is a {type(value).__name__}")


def _is_timestamp(text: str) -> bool:
    try:
        return text.endswith("+00:00") and datetime.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _require(holds: object, rule: str) -> None:
    if not holds:
        raise NotCanonical(rule)
