"""What an approval is bound to: one digest over who asks, where, for what exactly, and under which policy.

Promises: a request that would be answered otherwise has another digest, and what has no single canonical form has none.
Pure. The form is JSON Canonicalization Scheme (RFC 8785), in which 1 and 1.0 are one number, as in JSON.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import rfc8785

from gatehouse.approvals.credentials import without_credentials
from gatehouse.approvals.model import Edit
from gatehouse.core.keys import DerivedKey


class Unbindable(Exception):
    """The request has no canonical JSON (NaN, an integer over 2^53, a lone surrogate, a file): refuse it."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A request as an approval binds it.

    Attributes:
        canonical: who asks, where, for what, under which policy, as RFC 8785 has it; no value behind a placeholder.
        digest: SHA-256 of that, 64 lower-case hex characters.
    """

    canonical: bytes = field(repr=False)
    digest: str


def bind(
    *,
    caller: Mapping[str, str],
    route: str,
    body: Mapping[str, Any],
    policy_version: str,
    values: Mapping[str, str] | None = None,
    key: DerivedKey | None = None,
) -> Bound:
    """Bind one request by one caller under one policy.

    Args:
        caller: who LiteLLM says it is: key hash, user, team and so on.
        body: the canonical request as it would go upstream, after masking and obligations.
        values: what each placeholder in it stands for; what is bound is a keyed hash, which does not tell them.
        key: makes that hash, and those of credentials for servers that the provider is to call. Where there are neither
            it is not used, so that a new secret ends no such approval.

    Raises:
        Unbindable: as it says.
    """

    def keyed(*parts: str) -> str:
        if key is None:
            raise Unbindable("there is no key to bind its personal data with")
        return key.mac(*parts).hex()

    try:
        bound: dict[str, Any] = {
            "caller": dict(caller),
            "route": route,
            "body": without_credentials(body, lambda secret: f"<CREDENTIAL_{keyed('credential', secret)}>"),
            "policy_version": policy_version,
        }
        if values:
            bound["values_mac"] = keyed("values", *(part for pair in sorted(values.items()) for part in pair))
        canonical = rfc8785.dumps(bound)
    except (rfc8785.CanonicalizationError, UnicodeError, ValueError, TypeError, RecursionError) as error:
        raise Unbindable(f"the request has no canonical form ({type(error).__name__})") from None
    return Bound(canonical, hashlib.sha256(canonical).hexdigest())


def edited_digest(asked: str, edit: Edit) -> str:
    """Return the digest of a request as an approver edited it, made of the asked digest and the edit.

    Args:
        asked: the digest of the request before.
    """
    return hashlib.sha256(rfc8785.dumps({"asked": asked, "edit": edit.row})).hexdigest()
