"""What was admitted of one call, to be compared with what is about to leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gatehouse.dialects.requested import Requested


@dataclass(frozen=True, slots=True)
class Admitted:
    """What was admitted of one call; it lives as long as the call does.

    Attributes:
        dialect: the API that the caller speaks, as LiteLLM's call type.
        texts: all that a model may read, in the order of the body; some of them more than once.
        known: the same, to be looked up.
        tools: the tools that are offered, as canonical JSON.
        requested: how long and how many answers may be asked for.
        beside: what LiteLLM itself had put beside the request by then, of what steers it.
        said: names of the caller's that no API has, and that they may not say.
    """

    dialect: str
    texts: tuple[str, ...] = field(repr=False)
    known: frozenset[str] = field(repr=False)
    tools: frozenset[str] = field(repr=False)
    requested: Requested
    beside: Mapping[str, Any] = field(repr=False)
    said: frozenset[str] = field(repr=False)
