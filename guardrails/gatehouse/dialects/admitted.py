"""Holds what was admitted of one call, to compare it with what is about to leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gatehouse.dialects.requested import Requested


@dataclass(frozen=True, slots=True)
class Admitted:
    """Hold what was admitted of one call, for as long as the call lives.

    Attributes:
        dialect: the caller's API, as LiteLLM's call type.
        texts: all texts that a model may read, in the order of the body; some of them more than once.
        known: the same texts, for lookups.
        tools: the offered tools as canonical JSON.
        requested: how long and how many the answers may be.
        below: the API's fields that the request has in `extra_body`, because LiteLLM sends them on only there.
        beside: LiteLLM's own steering values beside the request at admission.
        forbidden: caller-given names that no API has, and that callers may not set.
    """

    dialect: str
    texts: tuple[str, ...] = field(repr=False)
    known: frozenset[str] = field(repr=False)
    tools: frozenset[str] = field(repr=False)
    requested: Requested
    below: Mapping[str, Any] = field(repr=False)
    beside: Mapping[str, Any] = field(repr=False)
    forbidden: frozenset[str] = field(repr=False)
