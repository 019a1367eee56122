"""LiteLLM's call type for each governed route."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

# The start of paths that also name the model.
_DEPLOYMENT = r"(?:/engines/[^/]+|/openai/deployments/[^/]+)"

# The call type whose answers providers store.
RESPONSES: Final = "aresponses"
# The call type whose texts may come as tokens.
EMBEDDING: Final = "aembedding"
# The call type whose route takes a form.
TRANSCRIPTION: Final = "atranscription"

# By path, without its prefix: the call type as LiteLLM's hooks name it.
CALL_TYPES: Final[Mapping[str, str]] = {
    "/chat/completions": "acompletion",
    "/completions": "atext_completion",
    "/messages": "anthropic_messages",
    "/responses": RESPONSES,
    "/embeddings": EMBEDDING,
    "/moderations": "amoderation",
    "/rerank": "arerank",
    "/v2/rerank": "arerank",
    "/images/generations": "aimage_generation",
    "/audio/speech": "aspeech",
}

_BEFORE_CALL_TYPE = re.compile(rf"\A(?:{_DEPLOYMENT}|(?:/openai)?/v1)")


def call_type_of(path: str) -> str | None:
    """Return LiteLLM's call type for a governed JSON route, such as `/v1/chat/completions`; None for others."""
    return CALL_TYPES.get(_BEFORE_CALL_TYPE.sub("", path))
