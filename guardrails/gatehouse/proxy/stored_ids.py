"""Reads the ids of what a provider stores.

LiteLLM writes a deployment into the ids of responses, and then encrypts them with the caller's user and team: anew,
with another result, each time that it names the same response.
"""

from __future__ import annotations

from litellm.proxy.hooks.responses_id_security import ResponsesIDSecurity
from litellm.responses.utils import ResponsesAPIRequestUtils

from gatehouse.dialects.conversations import Kind, ReadId, StoredId

_SECURITY = ResponsesIDSecurity()


def read_id(stored: StoredId) -> ReadId:
    """Read an id; another text than LiteLLM's ids comes back as it is."""
    if stored.kind is Kind.CONVERSATION:
        return ReadId(stored.id, stored.id)
    if stored.kind is Kind.ITEM:
        item = ResponsesAPIRequestUtils.decode_encrypted_item_id(stored.id)
        return ReadId(stored.id, str(item["item_id"]) if item else stored.id)
    decrypted, _, _ = _SECURITY._decrypt_response_id(stored.id)
    decoded = ResponsesAPIRequestUtils.decode_responses_api_response_id(decrypted)
    return ReadId(decrypted, str(decoded.get("response_id") or decrypted))


def deployment_of(routed: str) -> str | None:
    """Return the deployment in an id that LiteLLM routes by."""
    found = ResponsesAPIRequestUtils.get_model_id_from_response_id(routed)
    return None if found is None else str(found)
