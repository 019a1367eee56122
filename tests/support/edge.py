"""Makes the edge of a gateway for tests of what is inside it."""

from __future__ import annotations

from gatehouse.gateway.edge import Edge
from gatehouse.gateway.request_body import BodyReader
from gatehouse.proxy.control_fields import control_fields


def edge(max_bytes: int = 1_000_000, **options: float) -> Edge:
    """Return an edge as `gatehouse.asgi` makes it, with LiteLLM's own defaults."""
    return Edge(BodyReader(max_bytes, **options), control_fields())  # type: ignore[arg-type]
