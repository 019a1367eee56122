"""A provider written in one form answers in every form that can be derived, as LiteLLM itself calls it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import litellm
import pytest
from gatehouse.providers import BaseCustomProvider, EchoProvider, get_registry, register_provider

MESSAGES = [{"role": "user", "content": "you there"}]
TRACE: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="none")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "custom_provider_map", [])
    monkeypatch.setattr(litellm, "callbacks", [])
    monkeypatch.setattr(get_registry(), "_providers", {})


def answer(text: str) -> Any:
    message = litellm.Message(content=text)
    usage = litellm.Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5)
    return litellm.ModelResponse(choices=[litellm.Choices(message=message, finish_reason="stop")], usage=usage)


class Blocking(BaseCustomProvider):
    def completion(self, model: str, messages: list[Any], **call: Any) -> Any:
        assert "stream" not in call["optional_params"]
        return answer(f"{model}: {messages[-1]['content']}")

    def embedding(self, model: str, input: list[str], model_response: Any, **call: Any) -> Any:  # noqa: A002
        model_response.data = [{"object": "embedding", "index": 0, "embedding": [float(len(input[0]))]}]
        return model_response

    def image_generation(self, model: str, prompt: str, model_response: Any, **call: Any) -> Any:
        model_response.data = [litellm.ImageObject(url=f"https://images.invalid/{prompt}")]
        return model_response


class Awaiting(BaseCustomProvider):
    async def acompletion(self, model: str, messages: list[Any], **call: Any) -> Any:
        await asyncio.sleep(0)
        return Blocking().completion(model, messages, **call)

    async def aembedding(self, **call: Any) -> Any:
        await asyncio.sleep(0)
        return Blocking().embedding(**call)

    async def aimage_generation(self, **call: Any) -> Any:
        await asyncio.sleep(0)
        return Blocking().image_generation(**call)


def texts(chunks: list[Any]) -> list[str]:
    return [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]


def in_both_ways() -> list[Any]:
    """Return what every synchronous form gives."""
    chat = litellm.completion(model="it/m", messages=MESSAGES)
    stream = litellm.completion(model="it/m", messages=MESSAGES, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    vectors = litellm.embedding(model="it/m", input=["four"])
    image = litellm.image_generation(model="it/m", prompt="cat")
    return [
        chat.choices[0].message.content,
        chat.usage.total_tokens,
        texts(chunks),
        chunks[-1].usage.total_tokens,
        vectors.data[0]["embedding"],
        image.data[0].url,
    ]


EXPECTED = ["m: you there", 5, ["m: you there"], 5, [4.0], "https://images.invalid/cat"]


@pytest.mark.parametrize("written", [Blocking, Awaiting])
async def test_one_form_of_each_kind_is_enough(written: type[BaseCustomProvider]) -> None:
    register_provider("it", written)
    assert await asyncio.to_thread(in_both_ways) == EXPECTED
    assert in_both_ways() == EXPECTED  # inside a running loop too
    chat = await litellm.acompletion(model="it/m", messages=MESSAGES)
    stream = await litellm.acompletion(
        model="it/m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    vectors = await litellm.aembedding(model="it/m", input=["four"])
    image = await litellm.aimage_generation(model="it/m", prompt="cat")
    assert [
        chat.choices[0].message.content,
        chat.usage.total_tokens,
        texts(chunks),
        chunks[-1].usage.total_tokens,
        vectors.data[0]["embedding"],
        image.data[0].url,
    ] == EXPECTED


def test_tool_calls_survive_the_derived_stream() -> None:
    class Caller(BaseCustomProvider):
        def completion(self, **call: Any) -> Any:
            function = {"name": "pay", "arguments": '{"eur": 5}'}
            message = litellm.Message(
                content=None, tool_calls=[{"id": "call_1", "type": "function", "function": function}]
            )
            return litellm.ModelResponse(choices=[litellm.Choices(message=message, finish_reason="tool_calls")])

    register_provider("it", Caller)
    chunks = list(litellm.completion(model="it/m", messages=MESSAGES, stream=True))
    whole = litellm.stream_chunk_builder(chunks)
    assert whole.choices[0].finish_reason == "tool_calls"
    assert whole.choices[0].message.tool_calls[0].function.name == "pay"
    assert whole.choices[0].message.tool_calls[0].function.arguments == '{"eur": 5}'


def chunk(text: str) -> dict[str, Any]:
    return {"text": text, "is_finished": not text, "finish_reason": "" if text else "stop", "usage": None, "index": 0}


async def test_a_stream_in_one_form_streams_in_the_other() -> None:
    class Threaded(BaseCustomProvider):
        def streaming(self, **call: Any) -> Iterator[Any]:
            for word in ("a", "b", ""):
                yield chunk(word)

    class Async(BaseCustomProvider):
        async def astreaming(self, **call: Any) -> AsyncIterator[Any]:
            async with asyncio.timeout(30):  # belongs to one task: the stream must be read in one
                for word in ("a", "b", ""):
                    await asyncio.sleep(0)
                    yield chunk(word)

    register_provider("threaded", Threaded)
    register_provider("async", Async)
    stream = await litellm.acompletion(model="threaded/m", messages=MESSAGES, stream=True)
    assert texts([each async for each in stream]) == ["a", "b"]
    assert texts(list(litellm.completion(model="async/m", messages=MESSAGES, stream=True))) == ["a", "b"]
    with pytest.raises(litellm.NotFoundError, match="async: offers no chat without stream"):
        await litellm.acompletion(model="async/m", messages=MESSAGES)


async def test_what_is_not_offered_is_named() -> None:
    register_provider("empty", BaseCustomProvider)
    with pytest.raises(litellm.NotFoundError, match="empty: offers no chat"):
        await litellm.acompletion(model="empty/m", messages=MESSAGES)
    with pytest.raises(litellm.NotFoundError, match="empty: offers no embeddings"):
        await litellm.aembedding(model="empty/m", input=["a"])
    with pytest.raises(litellm.NotFoundError, match="empty: offers no images"):
        litellm.image_generation(model="empty/m", prompt="a")


class Slow(BaseCustomProvider):
    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.free = threading.Event()
        self.ended = ""

    def completion(self, **call: Any) -> Any:
        self.begun.set()
        self.free.wait(60)
        return answer("late")


async def test_cancelling_ends_the_wait_for_a_thread_at_once() -> None:
    slow = register_provider("slow", Slow)
    task = asyncio.create_task(litellm.acompletion(model="slow/m", messages=MESSAGES))
    await asyncio.to_thread(slow.begun.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)
    slow.free.set()


async def test_a_derived_form_keeps_to_the_timeout() -> None:
    slow = register_provider("slow", Slow)
    with pytest.raises(litellm.Timeout, match="slow: no answer in time"):
        await litellm.acompletion(model="slow/m", messages=MESSAGES, timeout=0.2)
    slow.free.set()


async def test_many_blocking_calls_leave_the_loops_own_threads_free() -> None:
    slow = register_provider("slow", Slow)
    calls = [asyncio.create_task(litellm.acompletion(model="slow/m", messages=MESSAGES)) for _ in range(40)]
    await asyncio.to_thread(slow.begun.wait, 30)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 30) == "free"
    slow.free.set()
    assert {each.choices[0].message.content for each in await asyncio.gather(*calls)} == {"late"}


def test_a_synchronous_stream_that_is_given_up_ends_the_work() -> None:
    ended = threading.Event()

    class Endless(BaseCustomProvider):
        async def astreaming(self, **call: Any) -> AsyncIterator[Any]:
            try:
                while True:
                    yield chunk("more ")
                    await asyncio.sleep(0)
            finally:
                ended.set()

    stream = Endless().streaming(model="m", messages=MESSAGES)
    assert next(stream)["text"] == "more "
    stream.close()  # type: ignore[attr-defined]
    assert ended.wait(30)


async def test_an_asynchronous_stream_that_is_given_up_closes_the_generator_in_its_thread() -> None:
    ended = threading.Event()

    class Endless(BaseCustomProvider):
        def streaming(self, **call: Any) -> Iterator[Any]:
            try:
                while True:
                    yield chunk("more ")
            finally:
                ended.set()

    stream = Endless().astreaming(model="m", messages=MESSAGES)
    assert (await anext(stream))["text"] == "more "
    await stream.aclose()  # type: ignore[attr-defined]
    assert await asyncio.to_thread(ended.wait, 30)


def test_an_error_in_an_asynchronous_stream_reaches_a_synchronous_reader() -> None:
    class Breaking(BaseCustomProvider):
        async def astreaming(self, model: str, **call: Any) -> AsyncIterator[Any]:
            try:
                yield chunk("one ")
                raise self.error(503, "broke off", model)
            finally:
                await asyncio.sleep(0.05)  # it takes its time to end

    stream = Breaking().streaming(model="m", messages=MESSAGES)
    assert next(stream)["text"] == "one "
    with pytest.raises(litellm.ServiceUnavailableError, match="Breaking: broke off"):
        next(stream)


def test_a_provider_may_call_another_one_synchronously_from_inside() -> None:
    register_provider("inner", Awaiting)

    class Outer(BaseCustomProvider):
        async def acompletion(self, **call: Any) -> Any:
            return litellm.completion(model="inner/m", messages=MESSAGES)

    register_provider("outer", Outer)
    assert litellm.completion(model="outer/m", messages=MESSAGES).choices[0].message.content == "m: you there"


async def test_context_variables_reach_the_author_s_code() -> None:
    class Tracing(BaseCustomProvider):
        def completion(self, **call: Any) -> Any:
            return answer(TRACE.get())

    TRACE.set("call-7")
    register_provider("it", Tracing)
    assert (await litellm.acompletion(model="it/m", messages=MESSAGES)).choices[0].message.content == "call-7"


def test_synchronous_calls_share_one_loop() -> None:
    loops = set()

    class Noting(BaseCustomProvider):
        async def acompletion(self, **call: Any) -> Any:
            loops.add(asyncio.get_running_loop())
            return answer("ok")

    register_provider("it", Noting)
    before = threading.active_count()
    threads = [
        threading.Thread(target=litellm.completion, kwargs={"model": "it/m", "messages": MESSAGES}) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(loops) == 1
    assert threading.active_count() <= before + 5  # none stays behind for each call


def test_the_author_s_own_error_is_the_same_in_every_form() -> None:
    class Busy(BaseCustomProvider):
        def completion(self, model: str, **call: Any) -> Any:
            raise self.error(429, "try later", model)

    register_provider("busy", Busy)
    with pytest.raises(litellm.RateLimitError, match="busy: try later"):
        litellm.completion(model="busy/m", messages=MESSAGES, num_retries=0)
    with pytest.raises(litellm.RateLimitError, match="busy: try later"):
        asyncio.run(litellm.acompletion(model="busy/m", messages=MESSAGES, num_retries=0))


def test_a_method_may_be_called_directly() -> None:
    said = EchoProvider().completion(model="m", messages=MESSAGES)
    assert said.choices[0].message.content == "echo: you there"
    assert EchoProvider().completion("m", MESSAGES).choices[0].message.content == "echo: you there"
