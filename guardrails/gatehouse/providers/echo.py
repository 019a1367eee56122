"""`echo`: answers with the user's last message. Deterministic, offline, and priced by config.yaml like any model.

It uses tools, so that agents can be tried: for a message `NAME {JSON}`, where the request offers that tool, it calls
the tool and then answers with the result. Its embeddings are unit vectors made from a hash of the text: equal texts
have equal vectors, and others are close to orthogonal.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import AsyncGenerator, Sequence

from gatehouse.providers.provider import Provider
from gatehouse.providers.values import ChatRequest, EmbeddingRequest, Piece, ToolCall, text_of

DEFAULT_DIMENSIONS = 256


class EchoProvider(Provider):
    """Echo the request. Settings: `dimensions` of its embeddings (256); a request's own `dimensions` wins."""

    name = "echo"

    async def answer_in_pieces(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        last = request.messages[-1] if request.messages else {}
        if last.get("role") == "tool":
            text = text_of(last.get("content"))
        elif call := wanted_tool(request):
            yield call
            return
        else:
            text = request.last_user_text
        for word in words(f"echo: {text}"):
            yield word

    async def embed(self, request: EmbeddingRequest) -> Sequence[Sequence[float]]:
        size = request.settings.get("dimensions", DEFAULT_DIMENSIONS)
        if not isinstance(size, int) or size < 1:
            raise self.error(500, f"provider_settings of {request.model}: dimensions must be 1 or more", request.model)
        return [hash_vector(text, size) for text in request.texts]


def wanted_tool(request: ChatRequest) -> ToolCall | None:
    """Return the call that the last user message spells out, `NAME {JSON}`, for a tool that the request offers."""
    name, _, arguments = request.last_user_text.strip().partition(" ")
    tools = request.params.get("tools")
    offered = [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    if not any(isinstance(function, dict) and function.get("name") == name for function in offered):
        return None
    try:
        parsed = json.loads(arguments)
    except (ValueError, RecursionError):
        return None
    return ToolCall(name=name, arguments=parsed) if isinstance(parsed, dict) else None


def words(text: str) -> list[str]:
    """Split `text` before each word's leading space; the parts joined are `text` again."""
    return re.findall(r"\s*\S+|\s+$", text)


def hash_vector(text: str, dimensions: int) -> list[float]:
    """Return a unit vector for `text`: SHAKE-256 read as 32-bit integers, scaled to length 1."""
    digest = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(4 * dimensions)
    raw = struct.unpack(f">{dimensions}i", digest)
    length = math.hypot(*raw) or 1.0
    return [number / length for number in raw]


provider = EchoProvider()
