"""What an approval is bound to: one digest over who asks, where, for what exactly, and under which policy.

Promises: a request that would be answered otherwise has another digest, and what has no single canonical form has none.
Pure. The form is JSON Canonicalization Scheme (RFC 8785), in which 1 and 1.0 are one number, as in JSON.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import rfc8785

from gatehouse.approvals.values import Edit
from gatehouse.shapes.proxy import _INTERNAL

# Of LiteLLM's settings, those by which a caller who may set them chooses where a request goes, or what is sent of it.
_STEERING: Final = frozenset(
    """
    api_base api_key api_version organization custom_llm_provider deployment specific_deployment allowed_model_region
    drop_params additional_drop_params allowed_openai_params provider_specific_header headers tags enable_prompt_caching
    """.split()
)
_LEFT_OUT: Final = frozenset(_INTERNAL) - _STEERING | {"incoming_bearer_token"}

# Client headers that LiteLLM forwards where it is told to; these differ between a request and its repetition.
_PER_REQUEST: Final = (
    "x-gatehouse-",
    "x-litellm-trace-id",
    "x-litellm-session-id",
    "x-request-id",
    "x-correlation-id",
    "traceparent",
    "tracestate",
    "x-b3-",
)

# What LiteLLM adds to the caller's metadata before it takes its copy.
_ADDED_METADATA: Final = frozenset("headers used_client_oauth_token trace_id session_id agent_id".split())


class Unbindable(Exception):
    """The request has no canonical JSON (NaN, an integer over 2^53, a lone surrogate, a file): refuse it."""


def digest(*, caller: Mapping[str, str], route: str, body: Mapping[str, Any], policy_version: str) -> str:
    """SHA-256, as 64 lower-case hex characters, of one request by one caller under one policy.

    Args:
        caller: who LiteLLM says it is: key hash, user, team and so on.
        body: the request as it would go upstream, after masking and obligations.

    Raises:
        Unbindable: as it says.
    """
    bound: dict[str, Any] = {
        "caller": dict(caller),
        "route": route,
        "body": sent(body),
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


def sent(body: Mapping[str, Any]) -> dict[str, Any]:
    """What counts of a request's body: all of it but what LiteLLM laid beside it."""
    counts = {
        name: value for name, value in body.items() if name not in _LEFT_OUT and not str(name).startswith("_litellm_")
    }
    if "metadata" in counts:
        counts["metadata"] = _metadata(body)
    if isinstance(headers := counts.get("headers"), Mapping):
        counts["headers"] = {
            name: value for name, value in headers.items() if not str(name).lower().startswith(_PER_REQUEST)
        }
    return counts


def _metadata(body: Mapping[str, Any]) -> Any:
    """The caller's metadata.

    On some routes `metadata` is where LiteLLM keeps its own, with a copy of the caller's; on the others that is
    `litellm_metadata`. It lets no caller say anything under `user_api_key_*`, so those names tell.
    """
    metadata = body["metadata"]
    if not isinstance(metadata, Mapping) or "litellm_metadata" in body:
        return metadata
    if not any(str(name).startswith("user_api_key_") for name in metadata):
        return metadata
    asked = metadata.get("requester_metadata")
    if not isinstance(asked, Mapping):
        return {}
    return {name: value for name, value in asked.items() if name not in _ADDED_METADATA}
