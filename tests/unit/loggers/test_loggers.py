"""Loggers work as LiteLLM itself calls them, in a program and through the hooks of its proxy."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from textwrap import dedent
from typing import Any

import litellm
import pytest
from fastapi import HTTPException
from gatehouse.loggers import BaseCustomLogger, ContentFilter, RequestLogger, ResponseModifier
from gatehouse.providers import BaseCustomProvider, EchoProvider, MockAPIProvider, get_registry, register_provider
from hypothesis import given
from hypothesis import strategies as st
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.utils import ProxyLogging

MESSAGES = [{"role": "user", "content": "no spam today"}]
WAIT_S = 30


@pytest.fixture(autouse=True)
async def alone(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    for name in ("custom_provider_map", "callbacks", "input_callback", "success_callback", "failure_callback"):
        monkeypatch.setattr(litellm, name, [])
    for name in ("_async_success_callback", "_async_failure_callback", "_async_input_callback"):
        monkeypatch.setattr(litellm, name, [])
    monkeypatch.setattr(get_registry(), "_providers", {})
    register_provider("echo", EchoProvider)
    register_provider("mock_api", MockAPIProvider)
    register_provider("painter", Painter)
    yield
    await GLOBAL_LOGGING_WORKER.flush()  # or the next test's callbacks hear of this one's calls


def said(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def through_the_proxy(stream: bool = False) -> str:
    """Return the answer after the hooks that LiteLLM's proxy runs, found as the proxy finds them."""
    proxy = ProxyLogging(user_api_key_cache=litellm.DualCache())
    key = UserAPIKeyAuth(api_key="sk-test")
    data = {"model": "echo/m", "messages": MESSAGES}
    data = await proxy.pre_call_hook(user_api_key_dict=key, data=data, call_type="completion")
    answer = await litellm.acompletion(**data, stream=stream, proxy_server_request={"url": "/"})
    if not stream:
        answer = await proxy.post_call_success_hook(data=data, response=answer, user_api_key_dict=key)
        return str(answer.choices[0].message.content)
    hooked = proxy.async_post_call_streaming_iterator_hook(response=answer, user_api_key_dict=key, request_data=data)
    return said([chunk async for chunk in hooked])


class Shouting(BaseCustomLogger):
    async def async_pre_call_hook(self, user_api_key_dict: Any, cache: Any, data: Any, call_type: Any) -> Any:
        return {**data, "messages": [{"role": "user", "content": data["messages"][-1]["content"].upper()}]}

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: Any
    ) -> AsyncIterator[Any]:
        async for chunk in response:
            if chunk.choices[0].delta.content:
                chunk.choices[0].delta.content += "!"
            yield chunk


class Inheriting(Shouting):
    pass


class Mixin:
    async def async_pre_call_hook(self, user_api_key_dict: Any, cache: Any, data: Any, call_type: Any) -> Any:
        changed = await super().async_pre_call_hook(user_api_key_dict, cache, data, call_type)  # type: ignore[misc]
        return {**changed, "messages": [{"role": "user", "content": changed["messages"][-1]["content"] + "?"}]}


class Cooperating(Mixin, Inheriting):
    pass


async def test_an_inherited_hook_runs() -> None:
    litellm.callbacks = [Inheriting()]
    assert await through_the_proxy() == "echo: NO SPAM TODAY"
    assert await through_the_proxy(stream=True) == "echo:! NO! SPAM! TODAY!"


async def test_an_inherited_hook_follows_the_order_of_the_classes() -> None:
    litellm.callbacks = [Cooperating()]
    assert await through_the_proxy() == "echo: NO SPAM TODAY?"


async def test_litellm_itself_leaves_an_inherited_hook_out() -> None:
    """LiteLLM still has this trap; when it is gone, our workaround may go too."""
    from litellm.integrations.custom_logger import CustomLogger

    class Plain(CustomLogger):  # type: ignore[misc]
        async_pre_call_hook = Shouting.async_pre_call_hook

    class Child(Plain):
        pass

    litellm.callbacks = [Child()]
    assert await through_the_proxy() == "echo: no spam today"


class Sync(BaseCustomLogger):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.seen.append("success")

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.seen.append("failure")


class Async(BaseCustomLogger):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.seen.append("success")

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.seen.append("failure")


class Painter(BaseCustomProvider):
    def image_generation(self, model: str, prompt: str, model_response: Any, **call: Any) -> Any:
        if prompt == "fail":
            raise self.error(400, "no", model)
        model_response.data = [litellm.ImageObject(url="https://images.invalid/")]
        return model_response


def sync_calls() -> None:
    litellm.completion(model="echo/m", messages=MESSAGES)
    list(litellm.completion(model="echo/m", messages=MESSAGES, stream=True))
    with pytest.raises(litellm.NotFoundError):
        litellm.embedding(model="painter/m", input=["a"])
    litellm.image_generation(model="painter/m", prompt="a")
    with pytest.raises(litellm.BadRequestError):
        litellm.image_generation(model="painter/m", prompt="fail")


async def async_calls() -> None:
    await litellm.acompletion(model="echo/m", messages=MESSAGES)
    async for _ in await litellm.acompletion(model="echo/m", messages=MESSAGES, stream=True):
        pass
    with pytest.raises(litellm.NotFoundError):
        await litellm.aembedding(model="painter/m", input=["a"])
    await litellm.aimage_generation(model="painter/m", prompt="a")
    with pytest.raises(litellm.BadRequestError):
        await litellm.aimage_generation(model="painter/m", prompt="fail")


async def until(condition: Any) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await GLOBAL_LOGGING_WORKER.flush()
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)  # and nothing more comes


@pytest.mark.parametrize("written", [Sync, Async])
async def test_one_form_of_an_event_hears_of_every_call_once(written: Any) -> None:
    logger = written()
    litellm.callbacks = [logger]
    await asyncio.to_thread(sync_calls)
    await until(lambda: len(logger.seen) >= 5)
    assert sorted(logger.seen) == ["failure"] * 2 + ["success"] * 3
    await async_calls()
    await until(lambda: len(logger.seen) >= 10)
    assert sorted(logger.seen) == ["failure"] * 4 + ["success"] * 6


async def test_the_request_logger_writes_one_line_for_each_call_and_no_content(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "gatehouse.requests")
    litellm.callbacks = [RequestLogger()]
    await async_calls()

    def lines() -> list[dict[str, Any]]:
        return [json.loads(each.getMessage()) for each in caplog.records if each.name == "gatehouse.requests"]

    await until(lambda: len(lines()) >= 5)
    assert sorted(line["status"] for line in lines()) == ["failure"] * 2 + ["success"] * 3
    success = next(line for line in lines() if line["status"] == "success")
    assert success["model"] == "m"
    assert success["provider"] == "echo"
    assert success["completion_tokens"] > 0
    assert success["seconds"] >= 0
    assert {line["error"] for line in lines() if line["status"] == "failure"} == {"NotFoundError", "BadRequestError"}
    assert "spam" not in caplog.text


async def test_the_request_logger_writes_content_when_it_is_told_to(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gatehouse.requests")
    litellm.callbacks = [RequestLogger(verbose=True)]
    await litellm.acompletion(model="echo/m", messages=[{"role": "user", "content": "line\nbreak"}])
    await until(lambda: "gatehouse.requests" in caplog.text)
    (line,) = [each.getMessage() for each in caplog.records if each.name == "gatehouse.requests"]
    assert json.loads(line)["messages"][0]["content"] == "line\nbreak"
    assert "\n" not in line


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prefix_is_written_once_in_the_proxy(stream: bool) -> None:
    litellm.callbacks = [ResponseModifier(prefix="[Verified] ")]
    assert await through_the_proxy(stream) == "[Verified] echo: no spam today"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_blocked_word_does_not_leave_the_proxy(stream: bool) -> None:
    litellm.callbacks = [ContentFilter(["Spam", "a longer phrase"])]
    assert await through_the_proxy(stream) == "echo: no [FILTERED] today"


async def test_two_modifiers_follow_each_other() -> None:
    litellm.callbacks = [ResponseModifier("spam: "), ContentFilter(["spam"])]
    assert await through_the_proxy() == "[FILTERED]: echo: no [FILTERED] today"
    assert await through_the_proxy(stream=True) == "[FILTERED]: echo: no [FILTERED] today"


async def test_in_a_program_acompletion_is_changed_and_apply_does_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    modifier = ResponseModifier()
    litellm.callbacks = [modifier]
    answer = await litellm.acompletion(model="echo/m", messages=MESSAGES)
    assert answer.choices[0].message.content == "[Verified] echo: no spam today"
    assert modifier.apply(answer).choices[0].message.content == "[Verified] echo: no spam today"  # not twice
    answer = litellm.completion(model="echo/m", messages=MESSAGES)
    assert modifier.apply(answer).choices[0].message.content == "[Verified] echo: no spam today"
    stream = litellm.completion(model="echo/m", messages=MESSAGES, stream=True)
    assert said(list(modifier.apply(stream))) == "[Verified] echo: no spam today"
    stream = await litellm.acompletion(model="echo/m", messages=MESSAGES, stream=True)
    assert said([chunk async for chunk in modifier.apply(stream)]) == "[Verified] echo: no spam today"
    assert "apply()" not in caplog.text


async def test_a_modifier_says_when_litellm_does_not_let_it(caplog: pytest.LogCaptureFixture) -> None:
    litellm.callbacks = [ContentFilter(["spam"])]
    await asyncio.to_thread(litellm.completion, model="echo/m", messages=MESSAGES)
    await until(lambda: "Pass it through apply()" in caplog.text)


def chunks_of(pieces: list[str], finish: bool = True) -> list[Any]:
    made = [
        litellm.ModelResponseStream(
            choices=[litellm.types.utils.StreamingChoices(index=0, delta=litellm.types.utils.Delta(content=piece))]
        )
        for piece in pieces
    ]
    if finish:
        last = litellm.types.utils.StreamingChoices(index=0, delta=litellm.types.utils.Delta(), finish_reason="stop")
        made.append(litellm.ModelResponseStream(choices=[last]))
    return made


WORDS = ["spam", "very bad thing", "x"]
TEXTS = st.lists(
    st.sampled_from([*WORDS, "SPAM", "spa", "m", " ", ",", "bad", "very", " thing", "ham", "é"]), max_size=12
)


@given(parts=TEXTS, cuts=st.lists(st.integers(0, 80), max_size=8), finish=st.booleans())
def test_a_stream_is_filtered_like_the_whole_answer_wherever_it_is_cut(
    parts: list[str], cuts: list[int], finish: bool
) -> None:
    text = "".join(parts)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[begin:end] for begin, end in pairwise(edges)]
    word_filter = ContentFilter(WORDS)
    whole = litellm.ModelResponse(choices=[litellm.Choices(message=litellm.Message(content=text))])
    streamed = said(list(word_filter.apply(iter(chunks_of(pieces, finish)))))
    assert streamed == word_filter.apply(whole).choices[0].message.content


def test_what_is_filtered_is_a_word_by_itself_and_text_without_it_is_unchanged() -> None:
    word_filter = ContentFilter(["spam", "スパム"])
    texts = {
        "Spammer": "Spammer",
        "spam": "[FILTERED]",
        "a SPAM.": "a [FILTERED].",
        "antispam": "antispam",
        "これはスパムです": "これは[FILTERED]です",
        "": "",
    }
    for text, expected in texts.items():
        whole = litellm.ModelResponse(choices=[litellm.Choices(message=litellm.Message(content=text))])
        assert word_filter.apply(whole).choices[0].message.content == expected


@pytest.mark.parametrize("words", [[], [""], ["a", " "], "spam"])
def test_a_filter_without_words_is_a_mistake(words: Any) -> None:
    with pytest.raises(ValueError, match="blocked_words"):
        ContentFilter(words)


@pytest.mark.parametrize("stream", [False, True])
async def test_arguments_of_tool_calls_are_filtered(stream: bool) -> None:
    settings = {"tool_calls": [{"name": "send", "arguments": {"text": "buy spam"}}, {"name": "log", "arguments": {}}]}
    router = litellm.Router(
        model_list=[
            {
                "model_name": "m",
                "litellm_params": {"model": "mock_api/m"},
                "model_info": {"provider_settings": settings},
            }
        ]
    )
    answer = ContentFilter(["spam"]).apply(await router.acompletion(model="m", messages=MESSAGES, stream=stream))
    if stream:
        answer = litellm.stream_chunk_builder([chunk async for chunk in answer])
    calls = [call.function for call in answer.choices[0].message.tool_calls]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("send", {"text": "buy [FILTERED]"}),
        ("log", {}),
    ]


async def test_text_completions_are_filtered() -> None:
    word_filter = ContentFilter(["spam"])
    answer = await litellm.atext_completion(model="echo/m", prompt="no spam")
    assert word_filter.apply(answer).choices[0].text == "echo: no [FILTERED]"
    stream = await litellm.atext_completion(model="echo/m", prompt="no spam", stream=True)
    assert "".join([c.choices[0].text or "" async for c in word_filter.apply(stream)]) == "echo: no [FILTERED]"


async def test_the_filter_refuses_an_answer_that_it_cannot_read() -> None:
    word_filter = ContentFilter(["spam"])
    with pytest.raises(HTTPException):
        await word_filter.async_post_call_success_hook({}, None, {"content": [{"type": "text", "text": "spam"}]})
    vectors = litellm.EmbeddingResponse()
    assert await word_filter.async_post_call_success_hook({}, None, vectors) is vectors


def test_the_last_call_of_a_program_is_logged_when_its_loop_closes() -> None:
    program = """
        import asyncio, logging, sys, litellm
        from gatehouse.loggers import RequestLogger
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s %(message)s")
        litellm.callbacks = [RequestLogger()]
        ask = [{"role": "user", "content": "Hi"}]
        asyncio.run(litellm.acompletion(model="gpt-4o", messages=ask, mock_response="Hello"))
    """
    run = [sys.executable, "-c", dedent(program)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert 'gatehouse.requests {"status": "success"' in done.stdout
    assert "cannot schedule" not in done.stdout + done.stderr
