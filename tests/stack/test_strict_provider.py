"""The imitation of strict providers takes what the providers' own clients send back, and refuses what was altered."""

from __future__ import annotations

import copy
from typing import Any

import anthropic
import openai
import pytest

from tests.support.strict_conversations import AnthropicConversation, ResponsesConversation
from tests.support.strict_provider import StrictProvider
from tests.support.strict_turns import OVERLOADED, Call, Failure, Turn, echo

each_way = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
READS = Call("read_file", {"path": "a.txt"})


@pytest.fixture
def provider(strict: StrictProvider) -> StrictProvider:
    return strict


def of_anthropic(provider: StrictProvider, stream: bool) -> AnthropicConversation:
    client = anthropic.Anthropic(base_url=provider.url, api_key="sk-x", max_retries=0)
    return AnthropicConversation(client, "claude-x", stream)


def of_openai(provider: StrictProvider) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-x", max_retries=0)


@each_way
def test_thoughts_and_tools_of_messages_come_back(provider: StrictProvider, stream: bool) -> None:
    provider.plays(
        Turn(thinking=("I read it.",), redacted=("hidden",), calls=(READS,)),
        Turn(thinking=(lambda body: f"It says {echo(body)}",), text="Done.", searches="pages"),
        Turn(compaction="They spoke of files.", text=echo),
    )
    talk = of_anthropic(provider, stream)
    talk.work("read a.txt", lambda name, arguments: f"{name} {arguments['path']}")
    talk.say("and now?")
    assert [block.type for block in talk.answers[1].content] == [
        "thinking",
        "server_tool_use",
        "web_search_tool_result",
        "text",
    ]
    assert talk.answers[1].content[0].thinking == "It says read_file a.txt"  # type: ignore[union-attr]
    assert talk.answers[2].content[1].text == "and now?"  # type: ignore[union-attr]
    assert provider.refusals == []


def altered(messages: list[dict[str, Any]], kind: str, name: str) -> list[dict[str, Any]]:
    messages = copy.deepcopy(messages)
    (block,) = [block for block in messages[1]["content"] if block["type"] == kind]
    block[name] = block[name].replace("a", "b", 1)
    return messages


@pytest.mark.parametrize(
    ("kind", "name"), [("thinking", "thinking"), ("thinking", "signature"), ("redacted_thinking", "data")]
)
def test_one_altered_character_of_a_thought_is_refused(provider: StrictProvider, kind: str, name: str) -> None:
    provider.plays(Turn(thinking=("I have a plan.",), redacted=("hidden",)))
    talk = of_anthropic(provider, stream=False)
    talk.say("hello")
    talk.messages = altered(talk.messages, kind, name)
    with pytest.raises(anthropic.BadRequestError, match="cannot be modified"):
        talk.say("go on")


def test_a_tool_call_without_its_result_is_refused(provider: StrictProvider) -> None:
    provider.plays(Turn(thinking=("hm",), calls=(READS,)))
    talk = of_anthropic(provider, stream=False)
    talk.say("read a.txt")
    with pytest.raises(anthropic.BadRequestError, match="without `tool_result` blocks"):
        talk.say("go on")


@each_way
def test_encrypted_reasoning_comes_back_and_is_refused_when_it_was_altered(
    provider: StrictProvider, stream: bool
) -> None:
    provider.plays(
        Turn(thinking=("I read it.",), calls=(READS,)),
        Turn(thinking=("So far.",), compaction="a summary", text="Done."),
    )
    talk = ResponsesConversation(of_openai(provider), "gpt-x", stream)
    talk.work("read a.txt", lambda name, arguments: "its text")
    talk.send([{"role": "user", "content": "more"}])
    assert provider.refusals == []
    for item in talk.items:
        if item.get("type") == "compaction":
            item["encrypted_content"] = item["encrypted_content"].swapcase()
    with pytest.raises(openai.BadRequestError, match="could not be verified") as raised:
        talk.send([{"role": "user", "content": "more"}])
    assert raised.value.code == "invalid_encrypted_content"


def test_a_stream_of_several_choices_has_its_usage_behind_them(provider: StrictProvider) -> None:
    provider.plays(Turn(text=echo))
    chunks = list(
        of_openai(provider).chat.completions.create(
            model="gpt-x",
            messages=[{"role": "user", "content": "say this"}],
            n=2,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    for index in (0, 1):
        said = [each.choices[0].delta.content for each in chunks if each.choices and each.choices[0].index == index]
        assert "".join(filter(None, said)) == "say this"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None


def test_it_fails_as_the_script_says(provider: StrictProvider) -> None:
    limited = Failure(429, "Slow down.", "rate_limit_error", "rate_limit_exceeded", "model", {"retry-after": "3"})
    provider.plays(Turn(failure=OVERLOADED), Turn(failure=limited))
    with pytest.raises(anthropic.APIStatusError) as busy:
        of_anthropic(provider, stream=False).say("hello")
    assert busy.value.status_code == 529
    assert busy.value.response.headers["retry-after"] == "7"
    assert busy.value.request_id is not None
    with pytest.raises(openai.RateLimitError) as raised:
        of_openai(provider).chat.completions.create(model="gpt-x", messages=[{"role": "user", "content": "x"}])
    assert (raised.value.code, raised.value.param) == ("rate_limit_exceeded", "model")
    assert raised.value.request_id is not None
