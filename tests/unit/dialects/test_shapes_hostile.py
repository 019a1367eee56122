"""No body, however hostile, raises anything but the refusal; and no field of today's SDKs is refused as unknown."""

from __future__ import annotations

import copy
import importlib
import json
import pkgutil
import typing
from typing import Any

import pytest
from gatehouse.dialects import event_view
from gatehouse.dialects.parts import UnknownShape
from gatehouse.dialects.writing import write_back
from hypothesis import given, settings
from hypothesis import strategies as st
from litellm.types.utils import CallTypes
from openai.types import (
    completion_create_params,
    embedding_create_params,
    image_generate_params,
    moderation_create_params,
)
from openai.types.audio import speech_create_params, transcription_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params, response_input_item_param
from typing_extensions import get_type_hints

from tests.support.parts import answer_parts, request_parts
from tests.unit.dialects.test_shapes import ANSWERS, REQUESTS
from tests.unit.dialects.test_shapes_stream import STREAMS

CALL_TYPES = sorted({call_type for call_type, _ in REQUESTS.values()})
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["user", "tool", "text", "tool_use", "function_call", '{"a": "\\u0040"}', "[1", "data:x,y"])
    | st.builds(object)
    | st.binary(max_size=3)
)
NAMES = st.sampled_from(
    """messages role content type text input prompt tools function arguments tool_calls name image_url url source data
    system output choices message delta index item part response extra_body mcp_arguments fallbacks""".split()
) | st.text(max_size=4)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)


def survives(read: Any, call_type: Any, body: Any) -> None:
    """Check that a body that is not refused is written back as it was."""
    try:
        parts = read(call_type, body)
    except UnknownShape:
        return
    parts = parts if isinstance(parts, list) else [*parts.deltas, *parts.texts]
    before = repr(body)
    write_back(body, {part.path: part.text for part in parts})
    assert repr(body) == before


@given(call_type=st.sampled_from(CALL_TYPES), body=st.dictionaries(NAMES, VALUES, max_size=5) | VALUES)
@settings(max_examples=300)
def test_any_value_is_read_or_refused(call_type: str, body: Any) -> None:
    survives(request_parts, call_type, body)
    survives(answer_parts, call_type, body)
    survives(event_view, call_type, body)


WHOLE = [(request_parts, *case) for case in REQUESTS.values()]
WHOLE += [(answer_parts, *case) for case in ANSWERS.values()]
WHOLE += [(event_view, call_type, event) for call_type, events, _ in STREAMS.values() for event in events]


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for step, below in inner for place in places(below, (*at, step)))]


@given(data=st.data(), case=st.sampled_from(WHOLE), junk=VALUES)
@settings(max_examples=500)
def test_a_good_body_with_something_else_in_one_place_is_read_or_refused(data: Any, case: Any, junk: Any) -> None:
    read, call_type, good = case
    body = copy.deepcopy(good)
    *way, last = data.draw(st.sampled_from(places(body)[1:]))
    holder = body
    for step in way:
        holder = holder[step]
    holder[last] = junk
    survives(read, call_type, body)


@given(
    arguments=st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=8,
        ),
        max_size=4,
    ),
    compact=st.booleans(),
)
@settings(max_examples=200)
def test_every_string_in_arguments_is_found_and_can_be_masked(arguments: dict[str, Any], compact: bool) -> None:
    written = json.dumps(arguments, separators=(",", ":") if compact else None)
    call = {"function": {"name": "f", "arguments": written}}
    body = {"messages": [{"role": "assistant", "tool_calls": [call]}]}
    parts = [part for part in request_parts("acompletion", body) if "arguments" in part.path]
    write_back(body, {part.path: part.text for part in parts})
    assert call["function"]["arguments"] == written
    write_back(body, {part.path: f"\ue000{number}" for number, part in enumerate(parts)})
    left = [part.text for part in request_parts("acompletion", body) if "arguments" in part.path]
    assert all(text.startswith("\ue000") for text in left)
    assert len(left) == len(parts)


def test_the_call_types_are_litellms() -> None:
    named = {member.value for member in CallTypes}
    assert {*CALL_TYPES, *(call_type for call_type, _ in ANSWERS.values())} <= named | {"responses"}


def test_a_wrong_call_type_is_refused() -> None:
    for call_type in (None, 3, [], "", "amessages", "aretrieve_batch"):
        for read in (request_parts, answer_parts, event_view):
            with pytest.raises(UnknownShape):
                read(call_type, {})  # type: ignore[operator]


SDK = {
    "acompletion": chat_create_params.CompletionCreateParamsStreaming,
    "atext_completion": completion_create_params.CompletionCreateParamsStreaming,
    "aembedding": embedding_create_params.EmbeddingCreateParams,
    "amoderation": moderation_create_params.ModerationCreateParams,
    "aimage_generation": image_generate_params.ImageGenerateParamsStreaming,
    "aspeech": speech_create_params.SpeechCreateParams,
    "atranscription": transcription_create_params.TranscriptionCreateParamsStreaming,
    "aresponses": response_create_params.ResponseCreateParamsStreaming,
}


def is_unknown(call_type: str, body: dict[str, Any], field: str) -> bool:
    """Tell whether the field is refused because no table names it, and not for its value."""
    try:
        request_parts(call_type, body)
    except UnknownShape as refusal:
        return f"{field}: this field is not known" in str(refusal)
    return False


@pytest.mark.parametrize("call_type", SDK)
def test_every_field_of_the_sdk_is_known(call_type: str) -> None:
    fields = typing.get_type_hints(SDK[call_type], include_extras=True)
    assert [name for name in fields if is_unknown(call_type, {name: {"x": "y"}}, name)] == []


def sdk_items() -> dict[str, Any]:
    """Return every input item of the responses API, by type, with its fields."""
    shapes = typing.get_args(response_input_item_param.ResponseInputItemParam)
    return {kind: fields for shape in shapes for kind, fields in _typed(shape)}


def _typed(shape: Any) -> list[tuple[str, list[str]]]:
    hints = get_type_hints(shape)
    return [(kind, list(hints)) for kind in typing.get_args(hints.get("type", str)) if isinstance(kind, str)]


@pytest.mark.parametrize("kind", sdk_items())
def test_every_item_of_the_responses_sdk_is_known(kind: str) -> None:
    item = {"type": kind, "role": "user"} if kind == "message" else {"type": kind}
    for name in sdk_items()[kind]:
        assert not is_unknown("aresponses", {"input": [{name: {"x": "y"}} | item]}, f"input[0].{name}"), name
    assert is_unknown("aresponses", {"input": [item | {"aside": "x"}]}, "input[0].aside")


def sdk_messages() -> list[Any]:
    """Return the messages and content parts of chat completions."""
    package = importlib.import_module("openai.types.chat")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    modules = [importlib.import_module(f"openai.types.chat.{name}") for name in names if name.endswith("message_param")]
    return [
        shape
        for module in modules
        for name, shape in vars(module).items()
        if name.endswith("MessageParam") and "role" in getattr(shape, "__annotations__", {})
    ]


@pytest.mark.parametrize("shape", sdk_messages(), ids=lambda shape: shape.__name__)
def test_every_field_of_the_sdks_messages_is_known(shape: Any) -> None:
    hints = get_type_hints(shape)
    role = typing.get_args(hints["role"])[0]
    for name in hints:
        assert not is_unknown("acompletion", {"messages": [{name: {"x": "y"}, "role": role}]}, f"messages[0].{name}")


def test_the_sdk_was_looked_at() -> None:
    assert len(sdk_items()) > 25
    assert len(sdk_messages()) >= 6
