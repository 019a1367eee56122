"""Returns the provider's own id of what it stores.

LiteLLM writes a deployment into the ids of responses, and then encrypts them with the caller's user and team: anew,
with another result, each time that it names the same response.
"""

from __future__ import annotations

from litellm.proxy.hooks.responses_id_security import ResponsesIDSecurity
from litellm.responses.utils import ResponsesAPIRequestUtils

from gatehouse.dialects.conversations import Kind, StoredId

_SECURITY = ResponsesIDSecurity()


def provider_id(stored: StoredId) -> str:
    """Return the id as the provider writes it; another text than LiteLLM's ids comes back as it is."""
    if stored.kind is Kind.CONVERSATION:
        return stored.id
    if stored.kind is Kind.ITEM:
        item = ResponsesAPIRequestUtils.decode_encrypted_item_id(stored.id)
        return str(item["item_id"]) if item else stored.id
    decrypted, _, _ = _SECURITY._decrypt_response_id(stored.id)
    decoded = ResponsesAPIRequestUtils.decode_responses_api_response_id(decrypted)
    return str(decoded.get("response_id") or decrypted)
