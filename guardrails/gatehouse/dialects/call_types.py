"""LiteLLM's call type of each governed route."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

# Where a path names the model too.
_DEPLOYMENT = r"(?:/engines/[^/]+|/openai/deployments/[^/]+)"

# By path, without what stands before it: the call type as LiteLLM's hooks name it.
CALL_TYPES: Final[Mapping[str, str]] = {
    "/chat/completions": "acompletion",
    "/completions": "atext_completion",
    "/messages": "anthropic_messages",
    "/responses": "aresponses",
    "/embeddings": "aembedding",
    "/moderations": "amoderation",
    "/images/generations": "aimage_generation",
    "/audio/speech": "aspeech",
}

# The one that takes a form.
TRANSCRIPTION: Final = "atranscription"

_BEFORE_CALL_TYPE = re.compile(rf"\A(?:{_DEPLOYMENT}|(?:/openai)?/v1)")


def call_type_of(path: str) -> str | None:
    """LiteLLM's call type on a governed route that takes JSON, such as `/v1/chat/completions`; None on any other."""
    return CALL_TYPES.get(_BEFORE_CALL_TYPE.sub("", path))
