"""Whatever OpenAI's own client can send to /v1/responses is understood; the client's types say what that is."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

import pytest
from gatehouse.dialects import request_view
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from openai.types.responses.response_input_item_param import ResponseInputItemParam
from openai.types.responses.tool_param import ToolParam

PLAIN: dict[Any, Any] = {str: "two words", int: 12, float: 1.5, bool: True, object: "two words", Any: "two words"}
FIELDS = get_type_hints(ResponseCreateParamsNonStreaming)


def examples(of: Any) -> list[Any]:
    """Return values of a type: one with every field of an object, and one for each alternative of a field."""
    origin, inner = get_origin(of), get_args(of)
    if origin in (Required, NotRequired, Annotated):
        return examples(inner[0])
    if origin is Literal:
        return [inner[0]]
    if origin in (Union, types.UnionType):
        return [each for alternative in inner if alternative is not type(None) for each in examples(alternative)]
    if inner:  # an object by name, or a list under one of its many names
        return [{"name": each} if len(inner) == 2 else [each] for each in examples(inner[-1])]
    if of in PLAIN:
        return [PLAIN[of]]
    known = {name: found for name, hint in get_type_hints(of).items() if (found := examples(hint))}
    first = {name: found[0] for name, found in known.items()}
    return [first, *(first | {name: other} for name, found in known.items() for other in found[1:])]


CASES = [
    *(
        pytest.param({"input": [each]}, id=kind.__name__)
        for kind in get_args(ResponseInputItemParam)
        for each in examples(kind)
    ),
    *(pytest.param({"tools": [each]}, id=kind.__name__) for kind in get_args(ToolParam) for each in examples(kind)),
    *(
        pytest.param({name: each}, id=name)
        for name, hint in FIELDS.items()
        if name not in ("input", "tools")
        for each in examples(hint)
    ),
]


@pytest.mark.parametrize("asked", CASES)
def test_it_is_understood(asked: dict[str, Any]) -> None:
    request_view("aresponses", asked)
