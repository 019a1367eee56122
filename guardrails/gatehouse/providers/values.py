"""The input and output of a provider as frozen values, without LiteLLM's types.

`settings` is the operator's (`model_info.provider_settings` in config.yaml): LiteLLM's router overwrites a request's
`model_info` with the deployment's, so a caller cannot set it. `params` is the caller's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """Describe the model's call of a tool: its name, and its arguments as a JSON object."""

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    id: str = "call_0"

    def as_openai(self, index: int) -> dict[str, object]:
        """Return the OpenAI shape of this call, as in a message or a delta."""
        function = {"name": self.name, "arguments": json.dumps(self.arguments)}
        return {"index": index, "id": self.id, "type": "function", "function": function}


Piece: TypeAlias = str | ToolCall
"""One step of an answer: some more text, or a whole tool call."""


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """Hold one chat request. `model` is the deployment's name without the provider; `timeout` is seconds per piece."""

    model: str
    messages: Sequence[Mapping[str, object]]
    params: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    timeout: float | None = None
    deployment: str = ""

    @property
    def last_user_text(self) -> str:
        """Return the text of the last user message, its text parts joined; empty where there is none."""
        for message in reversed(self.messages):
            if message.get("role") == "user":
                return text_of(message.get("content"))
        return ""


@dataclass(frozen=True, kw_only=True)
class EmbeddingRequest:
    """Hold one embedding request: every text to embed, in order.

    LiteLLM passes a custom provider neither `dimensions` nor `encoding_format` (it raises an error, or drops them with
    `drop_params`), so the operator sets the dimension.
    """

    model: str
    texts: Sequence[str]
    settings: Mapping[str, object] = field(default_factory=dict)
    timeout: float | None = None
    deployment: str = ""


def text_of(content: object) -> str:
    """Return the text of a message's `content`, which is a string, a list of parts, or null."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return " ".join(text for text in texts if isinstance(text, str))
    return ""
