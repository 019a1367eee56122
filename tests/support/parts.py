"""Returns the texts of a request, an answer or an event for tests that look at nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatehouse.dialects import answer_view, event_view, request_view
from gatehouse.dialects.parts import DeltaPart, TextPart


def request_parts(call_type: str, body: Mapping[str, Any]) -> list[TextPart]:
    return request_view(call_type, body).texts


def answer_parts(call_type: str, answer: Mapping[str, Any]) -> list[TextPart]:
    return answer_view(call_type, answer).texts


def delta_parts(call_type: str, event: Mapping[str, Any]) -> list[DeltaPart]:
    return event_view(call_type, event).deltas
