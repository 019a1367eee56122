"""What an approval is bound to: one digest over who asks, where, for what exactly, and under which policy.

Promises: a request that would be answered otherwise has another digest, and what has no single canonical form has none.
Pure. The form is JSON Canonicalization Scheme (RFC 8785), in which 1 and 1.0 are one number, as in JSON.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import rfc8785

from gatehouse.approvals.values import Edit


class Unbindable(Exception):
    """The request has no canonical JSON (NaN, an integer over 2^53, a lone surrogate, a file): refuse it."""


def digest(*, caller: Mapping[str, str], route: str, body: Mapping[str, Any], policy_version: str) -> str:
    """SHA-256, as 64 lower-case hex characters, of one request by one caller under one policy.

    Args:
        caller: who LiteLLM says it is: key hash, user, team and so on.
        body: the canonical request as it would go upstream, after masking and obligations.

    Raises:
        Unbindable: as it says.
    """
    bound: dict[str, Any] = {
        "caller": dict(caller),
        "route": route,
        "body": dict(body),
        "policy_version": policy_version,
    }
    try:
        return hashlib.sha256(rfc8785.dumps(bound)).hexdigest()
    except (rfc8785.CanonicalizationError, UnicodeError, ValueError, TypeError, RecursionError) as error:
        raise Unbindable(f"the request has no canonical form ({type(error).__name__})") from None


def edited_digest(asked: str, edit: Edit) -> str:
    """The digest of a request as an approver edited it, which what was asked and the edit say together.

    Args:
        asked: `digest` of the request before.
    """
    return hashlib.sha256(rfc8785.dumps({"asked": asked, "edit": edit.row})).hexdigest()
