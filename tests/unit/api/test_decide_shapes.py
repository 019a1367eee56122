"""Library mode takes only bodies of its own shapes."""

from __future__ import annotations

import json

import pytest
from gatehouse.api import decide_shapes
from gatehouse.api.decide_shapes import ToDecide
from gatehouse.core.errors import InvalidRequest

ASKED = json.dumps({"route": "/v1/chat/completions", "body": {"model": "demo"}})


def test_utf_8_is_read() -> None:
    assert decide_shapes._read(bytearray(ASKED.encode()), ToDecide).body == {"model": "demo"}


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_other_encodings_are_refused_as_the_gateway_refuses_them(coding: str) -> None:
    with pytest.raises(InvalidRequest):
        decide_shapes._read(bytearray(ASKED.encode(coding)), ToDecide)
