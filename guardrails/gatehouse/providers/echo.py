"""`echo`: answers with the last thing the user said. Deterministic, offline, and priced by config.yaml like any model.

Its embeddings are unit vectors taken from a hash of the text: equal texts are equal, others are close to orthogonal.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import AsyncGenerator, Sequence

from gatehouse.providers.provider import Provider
from gatehouse.providers.values import ChatRequest, EmbeddingRequest, Piece

DEFAULT_DIMENSIONS = 256
MAX_DIMENSIONS = 4096  # a caller chooses the dimension; this bounds the work that buys


class EchoProvider(Provider):
    """Settings: `dimensions`, of its embeddings (256); a request's own `dimensions` wins."""

    name = "echo"

    async def answer_in_pieces(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        for word in words(f"echo: {request.last_user_text}"):
            yield word

    async def embed(self, request: EmbeddingRequest) -> Sequence[Sequence[float]]:
        size = request.settings.get("dimensions", DEFAULT_DIMENSIONS)
        if not isinstance(size, int) or size < 1:
            raise self.error(500, f"provider_settings of {request.model}: dimensions must be 1 or more", request.model)
        return [hash_vector(text, size) for text in request.texts]


def words(text: str) -> list[str]:
    """`text` cut before each word's leading space; joined again it is `text`."""
    return re.findall(r"\s*\S+|\s+$", text)


def hash_vector(text: str, dimensions: int) -> list[float]:
    """The unit vector of `text`: SHAKE-256 read as 32-bit integers, scaled to length 1."""
    digest = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(4 * dimensions)
    raw = struct.unpack(f">{dimensions}i", digest)
    length = math.hypot(*raw) or 1.0
    return [number / length for number in raw]


provider = EchoProvider()
