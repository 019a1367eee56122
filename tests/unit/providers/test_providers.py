"""The providers work as LiteLLM's own router calls them, without proxy, network or a mock of LiteLLM."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from gatehouse.providers import ChatRequest, Piece, Provider, ToolCall, get_registry, register_provider
from gatehouse.providers.echo import provider as echo
from gatehouse.providers.mock_api import provider as mock_api

PRICE = {
    "input_cost_per_token": 1e-6,
    "output_cost_per_token": 2e-6,
    "cache_creation_input_token_cost": 0,
    "cache_read_input_token_cost": 0,
}
HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello there world"}]


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    import litellm

    monkeypatch.setattr(litellm, "custom_provider_map", [])
    monkeypatch.setattr(litellm, "callbacks", [])
    monkeypatch.setattr(get_registry(), "_providers", {})
    register_provider("echo", echo)
    register_provider("mock_api", mock_api)
    return litellm


def router_with(litellm: Any, model: str, *, settings: dict[str, Any] | None = None, **params: Any) -> Any:
    info = {**PRICE, "provider_settings": settings or {}}
    return litellm.Router(
        model_list=[{"model_name": "m", "litellm_params": {"model": model, **params}, "model_info": info}],
        num_retries=0,
        disable_cooldowns=True,
    )


async def text_of(stream: AsyncIterator[Any]) -> list[str]:
    return [chunk.choices[0].delta.content async for chunk in stream if chunk.choices[0].delta.content]


async def test_echo_answers_with_the_last_user_message_and_counts_tokens(litellm: Any) -> None:
    answer = await router_with(litellm, "echo/m").acompletion(model="m", messages=HELLO)
    assert answer.choices[0].message.content == "echo: hello there world"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == litellm.token_counter(text="echo: hello there world") > 0
    assert answer.usage.prompt_tokens == litellm.token_counter(messages=HELLO) > 0


async def test_echo_reads_text_parts(litellm: Any) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    answer = await router_with(litellm, "echo/m").acompletion(model="m", messages=[{"role": "user", "content": parts}])
    assert answer.choices[0].message.content == "echo: one two"


WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


async def test_echo_asks_for_the_tool_that_it_is_told_to_and_says_what_came_of_it(litellm: Any) -> None:
    router = router_with(litellm, "echo/m")
    messages: list[Any] = [{"role": "user", "content": 'get_weather {"city": "Lisbon"}'}]
    answer = await router.acompletion(model="m", messages=messages, tools=[WEATHER])
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Lisbon"})
    assert answer.choices[0].finish_reason == "tool_calls"

    messages += [answer.choices[0].message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "18 °C"}]
    answer = await router.acompletion(model="m", messages=messages, tools=[WEATHER])
    assert answer.choices[0].message.content == "echo: 18 °C"


@pytest.mark.parametrize("text", ["get_weather", "get_weather [1]", "get_weather " + "[" * 100_000, "other {}"])
async def test_echo_asks_for_no_tool_where_the_text_is_no_call_of_one(litellm: Any, text: str) -> None:
    asked = [{"role": "user", "content": text}]
    answer = await router_with(litellm, "echo/m").acompletion(model="m", messages=asked, tools=[WEATHER])
    assert answer.choices[0].message.content == f"echo: {text}"


async def test_a_stream_comes_word_by_word_and_ends_with_its_usage(litellm: Any) -> None:
    stream = await router_with(litellm, "echo/m").acompletion(
        model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert words == ["echo:", " hello", " there", " world"]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]
    assert chunks[-1].usage.total_tokens == litellm.token_counter(messages=HELLO) + chunks[-1].usage.completion_tokens


async def test_plain_and_streamed_calls_cost_what_the_configuration_says(litellm: Any) -> None:
    from litellm.integrations.custom_logger import CustomLogger

    seen: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    class Ledger(CustomLogger):  # type: ignore[misc]
        async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            await seen.put(kwargs["standard_logging_object"])

    litellm.callbacks = [Ledger()]
    router = router_with(litellm, "echo/m")
    await router.acompletion(model="m", messages=HELLO)
    await text_of(await router.acompletion(model="m", messages=HELLO, stream=True))
    for logged in [await asyncio.wait_for(seen.get(), 10) for _ in range(2)]:
        expected = logged["prompt_tokens"] * 1e-6 + logged["completion_tokens"] * 2e-6
        assert logged["response_cost"] == pytest.approx(expected)
        assert expected > 0


async def test_embeddings_are_deterministic_unit_vectors_in_the_order_asked(litellm: Any) -> None:
    router = router_with(litellm, "echo/m", settings={"dimensions": 8})
    both = await router.aembedding(model="m", input=["a", "b"])
    alone = await router.aembedding(model="m", input="b")
    assert [item["index"] for item in both.data] == [0, 1]
    assert both.data[1]["embedding"] == alone.data[0]["embedding"] != both.data[0]["embedding"]
    assert [len(item["embedding"]) for item in both.data] == [8, 8]
    assert math.hypot(*alone.data[0]["embedding"]) == pytest.approx(1)
    assert both.usage.prompt_tokens == 2
    assert both._hidden_params["response_cost"] == pytest.approx(2e-6)


async def test_tokens_embed_like_the_text_they_stand_for(litellm: Any) -> None:
    router = router_with(litellm, "echo/m")
    tokens = litellm.encode(text="a few words")
    as_text, as_tokens = [(await router.aembedding(model="m", input=[each])).data for each in ("a few words", tokens)]
    assert as_text[0]["embedding"] == as_tokens[0]["embedding"]


@pytest.mark.parametrize("junk", [[10**9], [-1], [[2**70]], [None], [{"a": 1}]])
async def test_input_that_is_no_text_is_the_callers_mistake(litellm: Any, junk: Any) -> None:
    with pytest.raises(litellm.BadRequestError, match="input must be text"):
        await router_with(litellm, "echo/m").aembedding(model="m", input=junk)


async def test_the_openai_clients_default_encoding_is_accepted_with_drop_params(litellm: Any) -> None:
    router = router_with(litellm, "echo/m", drop_params=True)
    answer = await router.aembedding(model="m", input="a", encoding_format="base64", dimensions=3)
    assert isinstance(answer.data[0]["embedding"], list)


async def test_sync_calls_work_inside_a_running_loop_and_outside(litellm: Any) -> None:
    def calls() -> tuple[str, list[str], int]:
        plain = litellm.completion(model="echo/m", messages=HELLO).choices[0].message.content
        stream = litellm.completion(model="echo/m", messages=HELLO, stream=True)
        words = [chunk.choices[0].delta.content for chunk in stream if chunk.choices[0].delta.content]
        return plain, words, len(litellm.embedding(model="echo/m", input=["a", "b"]).data)

    expected = ("echo: hello there world", ["echo:", " hello", " there", " world"], 2)
    assert calls() == expected
    assert await asyncio.to_thread(calls) == expected


async def test_mock_api_answers_what_it_is_told(litellm: Any) -> None:
    router = router_with(litellm, "mock_api/m", settings={"answer": "as you  wish\n"})
    assert (await router.acompletion(model="m", messages=HELLO)).choices[0].message.content == "as you  wish\n"
    assert "".join(await text_of(await router.acompletion(model="m", messages=HELLO, stream=True))) == "as you  wish\n"


async def test_mock_api_replays_a_recorded_answer(
    litellm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = {"id": "x", "type": "function", "function": {"name": "look_up", "arguments": '{"q": "x"}'}}
    message = {"role": "assistant", "content": "let me see", "tool_calls": [call]}
    (tmp_path / "answer.json").write_text(json.dumps({"choices": [{"index": 0, "message": message}]}))
    monkeypatch.setenv("GATEHOUSE_HOME", str(tmp_path))
    router = router_with(litellm, "mock_api/m", settings={"fixture": "answer.json"})
    choice = (await router.acompletion(model="m", messages=HELLO)).choices[0]
    assert choice.message.content == "let me see"
    assert choice.message.tool_calls[0].function.name == "look_up"


@pytest.mark.parametrize("stream", [False, True])
async def test_mock_api_calls_tools(litellm: Any, stream: bool) -> None:
    settings = {"tool_calls": [{"name": "pay", "arguments": {"eur": 5}}, {"name": "tell"}]}
    router = router_with(litellm, "mock_api/m", settings=settings)
    answer = await router.acompletion(model="m", messages=HELLO, stream=stream)
    if stream:
        answer = litellm.stream_chunk_builder([chunk async for chunk in answer])
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    called = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls]
    assert called == [("call_0", "pay", {"eur": 5}), ("call_1", "tell", {})]


async def test_mock_api_takes_its_time(litellm: Any) -> None:
    router = router_with(litellm, "mock_api/m", settings={"latency_ms": 80, "chunk_latency_ms": 40, "answer": "a b c"})
    start = time.monotonic()
    stamps = [
        time.monotonic() - start
        async for chunk in await router.acompletion(model="m", messages=HELLO, stream=True)
        if chunk.choices[0].delta.content
    ]
    assert stamps[0] >= 0.08
    assert stamps[2] - stamps[0] >= 0.08


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 422, 429, 500, 502, 503, 529])
@pytest.mark.parametrize("stream", [False, True])
async def test_mock_api_fails_with_the_status_it_is_told(litellm: Any, status: int, stream: bool) -> None:
    router = router_with(litellm, "mock_api/m", settings={"failure": {"status": status, "message": "as ordered"}})
    with pytest.raises(Exception, match="as ordered") as raised:
        await text_of(await router.acompletion(model="m", messages=HELLO, stream=stream))
    assert raised.value.status_code == status  # type: ignore[attr-defined]


async def test_mock_api_embeddings_fail_too(litellm: Any) -> None:
    router = router_with(litellm, "mock_api/m", settings={"failure": {"status": 429}})
    with pytest.raises(litellm.RateLimitError):
        await router.aembedding(model="m", input="a")


async def test_mock_api_fails_every_nth_call(litellm: Any) -> None:
    router = router_with(litellm, "mock_api/every", settings={"failure": {"status": 503, "every": 3}})
    outcomes = [
        type(each).__name__
        for each in [
            (await asyncio.gather(router.acompletion(model="m", messages=HELLO), return_exceptions=True))[0]
            for _ in range(6)
        ]
    ]
    assert outcomes == ["ModelResponse", "ModelResponse", "ServiceUnavailableError"] * 2


async def test_mock_api_fails_at_a_rate(litellm: Any) -> None:
    for rate, answered in ((0.0, True), (1.0, False)):
        router = router_with(litellm, "mock_api/m", settings={"failure": {"status": 500, "rate": rate}})
        (outcome,) = await asyncio.gather(router.acompletion(model="m", messages=HELLO), return_exceptions=True)
        assert isinstance(outcome, litellm.ModelResponse) is answered


@pytest.mark.parametrize("after", [1, 2, 99])
async def test_mock_api_breaks_in_the_middle_of_a_stream(litellm: Any, after: int) -> None:
    settings = {"answer": "one two three", "failure": {"status": 503, "after_chunks": after}}
    router = router_with(litellm, "mock_api/m", settings=settings)
    got: list[str] = []

    async def read() -> None:
        async for chunk in await router.acompletion(model="m", messages=HELLO, stream=True):
            got.append(chunk.choices[0].delta.content or "")  # noqa: PERF401  # what came before the break counts

    with pytest.raises(litellm.ServiceUnavailableError):
        await read()
    assert 0 < len([text for text in got if text]) <= after


@pytest.mark.parametrize("stream", [False, True])
async def test_a_slow_model_runs_into_the_configured_timeout(litellm: Any, stream: bool) -> None:
    router = router_with(litellm, "mock_api/m", settings={"latency_ms": 30_000}, timeout=0.1)
    start = time.monotonic()
    with pytest.raises(litellm.Timeout):
        await text_of(await router.acompletion(model="m", messages=HELLO, stream=stream))
    assert time.monotonic() - start < 5


async def test_a_caller_cannot_change_the_settings(litellm: Any) -> None:
    router = router_with(litellm, "mock_api/m", settings={"answer": "as configured"})
    hostile = {"answer": "as I like", "failure": {"status": 500}}
    answer = await router.acompletion(
        model="m",
        messages=HELLO,
        provider_settings=hostile,
        model_info={"provider_settings": hostile},
        metadata={"model_info": {"provider_settings": hostile}},
        extra_body={"provider_settings": hostile},
    )
    assert answer.choices[0].message.content == "as configured"


async def test_a_mistake_in_the_settings_is_named(litellm: Any) -> None:
    router = router_with(litellm, "mock_api/m", settings={"latencyms": 3})
    with pytest.raises(litellm.InternalServerError, match=r"provider_settings of m in config\.yaml: latencyms"):
        await router.acompletion(model="m", messages=HELLO)


class Sleeper(Provider):
    began = False
    ended = ""

    async def answer_in_pieces(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        try:
            yield "first"
            self.began = True
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        finally:
            self.ended = self.ended or "closed"


@pytest.mark.parametrize("stream", [False, True])
async def test_cancelling_a_call_cancels_the_work_at_once(litellm: Any, stream: bool) -> None:
    sleeper = Sleeper()
    register_provider("sleeper", sleeper)

    async def call() -> None:
        await text_of(await router_with(litellm, "sleeper/m").acompletion(model="m", messages=HELLO, stream=stream))

    task = asyncio.create_task(call())
    while not sleeper.began:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 2)
    assert sleeper.ended == "cancelled"


async def test_a_provider_is_one_method(litellm: Any) -> None:
    class Shout(Provider):
        async def answer(self, request: ChatRequest) -> str:
            return request.last_user_text.upper()

    register_provider("shout", Shout)
    router = router_with(litellm, "shout/m")
    assert (await router.acompletion(model="m", messages=HELLO)).choices[0].message.content == "HELLO THERE WORLD"
    assert await text_of(await router.acompletion(model="m", messages=HELLO, stream=True)) == ["HELLO THERE WORLD"]
    with pytest.raises(litellm.NotFoundError, match="shout: offers no embeddings"):
        await router.aembedding(model="m", input="a")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unexpected_exception_is_a_500_that_quotes_nothing(litellm: Any, stream: bool) -> None:
    class Broken(Provider):
        async def answer(self, request: ChatRequest) -> str:
            raise ValueError(f"cannot digest {request.last_user_text}")

    register_provider("broken", Broken)
    with pytest.raises(litellm.InternalServerError) as raised:
        await text_of(await router_with(litellm, "broken/m").acompletion(model="m", messages=HELLO, stream=stream))
    assert "failed with ValueError" in str(raised.value)
    assert "hello" not in str(raised.value)


async def test_other_api_shapes_reach_the_same_provider(litellm: Any) -> None:
    router = router_with(litellm, "echo/m")
    completion = await router.atext_completion(model="m", prompt="hi you")
    assert completion.choices[0].text == "echo: hi you"
    message = await router.aanthropic_messages(model="m", messages=HELLO[1:], max_tokens=9)
    assert message["content"][0]["text"] == "echo: hello there world"
    response = await router.aresponses(model="m", input="hi you")
    assert response.output[0].content[0].text == "echo: hi you"


def test_a_tool_call_has_the_openai_shape() -> None:
    call = ToolCall(name="pay", arguments={"eur": 5}, id="call_7").as_openai(1)
    function = {"name": "pay", "arguments": '{"eur": 5}'}
    assert call == {"index": 1, "id": "call_7", "type": "function", "function": function}
