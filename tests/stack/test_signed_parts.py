"""What a provider has signed or encrypted goes back to it byte for byte, with masking and without it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import anthropic
import openai
import pytest

from tests.support.gateway import Gateway
from tests.support.strict_conversations import AnthropicConversation, ResponsesConversation
from tests.support.strict_provider import StrictProvider
from tests.support.strict_turns import Call, Turn, echo

each_way = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
MAIL = "ada@example.com"
INVENTED = "The model thinks of grace.hopper@navy.example and of +1 202 555 0143."
TAG = "GHt1"


@dataclass
class Behind:
    """A gateway, and whether it masks."""

    gateway: Gateway
    masks: bool

    def anthropic(self, stream: bool, model: str = "strict-claude") -> AnthropicConversation:
        client = anthropic.Anthropic(base_url=self.gateway.url, api_key=self.gateway.new_key(), max_retries=0)
        return AnthropicConversation(client, model, stream)

    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.gateway.url}/v1", api_key=self.gateway.new_key(), max_retries=0)


@pytest.fixture(params=[True, False], ids=["masked", "open"])
def behind(request: pytest.FixtureRequest) -> Behind:
    masks: bool = request.param
    return Behind(request.getfixturevalue("governed" if masks else "upstream_gateway"), masks)


READS = Call("read_file", {"path": "a.txt"})
TURNS = [
    Turn(thinking=(INVENTED,), redacted=("hidden",), calls=(READS,)),
    Turn(thinking=(lambda body: f"It says {echo(body)}", "And so on."), text=echo, searches="pages"),
    Turn(thinking=(echo,), text="Done."),
    Turn(text="Really."),
]


def went_well(behind: Behind, strict: StrictProvider) -> None:
    assert strict.refusals == []
    assert TAG not in strict.received
    assert (MAIL in strict.received) is not behind.masks
    assert INVENTED in strict.received


@each_way
def test_four_turns_of_thinking_and_tools(behind: Behind, strict: StrictProvider, stream: bool) -> None:
    strict.plays(*TURNS)
    talk = behind.anthropic(stream)
    talk.work("read a.txt", lambda name, arguments: f"write to {MAIL}")
    talk.say(f"I am {MAIL}")
    talk.say("and now?")
    went_well(behind, strict)
    # What the model said to the user is turned back; what it thought stays as it was signed.
    texts = [block.text for block in talk.answers[1].content if block.type == "text"]
    assert texts == [f"write to {MAIL}"]
    thoughts = [block.thinking for block in talk.answers[1].content if block.type == "thinking"]
    assert (MAIL in thoughts[0]) is not behind.masks
    # Old messages may be dropped; what was signed later still comes back.
    talk.messages = talk.messages[4:]
    talk.say("go on")
    assert strict.refusals == []


@each_way
@pytest.mark.parametrize("model", ["strict-gpt", "strict-claude", "strict-gemini"])
def test_encrypted_reasoning_of_responses(behind: Behind, strict: StrictProvider, model: str, stream: bool) -> None:
    strict.plays(
        Turn(thinking=(INVENTED,), calls=(READS,)),
        Turn(thinking=(echo,), compaction="a summary" if model == "strict-gpt" else None, text=echo),
        Turn(thinking=("Well.",)),
    )
    talk = ResponsesConversation(behind.openai(), model, stream)
    talk.work("read a.txt", lambda name, arguments: f"write to {MAIL}")
    talk.send([{"role": "user", "content": "more"}])
    assert strict.refusals == []
    assert TAG not in strict.received
    assert (MAIL in strict.received) is not behind.masks
    assert talk.answers[1].output_text == f"write to {MAIL}"
    if model == "strict-gpt" and stream:  # LiteLLM's own streams say other things of an item at their end
        assert talk.done == talk.answers[-1].output


def chat(client: openai.OpenAI, model: str, messages: list[Any], stream: bool) -> dict[str, Any]:
    """The assistant's message, put together as LiteLLM's and other clients do."""
    settings: Any = {
        "model": model,
        "max_tokens": 2048,
        "messages": messages,
        "tools": [{"type": "function", "function": {"name": "read_file", "parameters": {"type": "object"}}}],
        "extra_body": {"thinking": {"type": "enabled", "budget_tokens": 1024}} if "claude" in model else {},
    }
    if not stream:
        answer = client.chat.completions.create(**settings).choices[0].message
        return answer.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    message: dict[str, Any] = {"role": "assistant", "content": "", "thinking_blocks": [], "tool_calls": []}
    for chunk in client.chat.completions.create(stream=True, **settings):
        for choice in chunk.choices:
            put_together(message, choice.delta.model_dump(mode="json", exclude_unset=True, exclude_none=True))
    return {name: value for name, value in message.items() if value}


def put_together(message: dict[str, Any], delta: dict[str, Any]) -> None:
    message["content"] += delta.get("content") or ""
    for block in delta.get("thinking_blocks") or ():
        blocks = message["thinking_blocks"]
        if block["type"] == "redacted_thinking" or not blocks or blocks[-1].get("signature") or "data" in blocks[-1]:
            blocks.append(block)
            continue
        blocks[-1]["thinking"] += block.get("thinking") or ""
        if block.get("signature"):
            blocks[-1]["signature"] = block["signature"]
    for call in delta.get("tool_calls") or ():
        calls = message["tool_calls"]
        if call.get("id"):
            calls.append(call)
        else:
            calls[-1]["function"]["arguments"] += call["function"]["arguments"]


@each_way
@pytest.mark.parametrize("model", ["strict-claude", "strict-gemini"])
def test_chat_that_is_translated(behind: Behind, strict: StrictProvider, model: str, stream: bool) -> None:
    strict.plays(Turn(thinking=(INVENTED,), calls=(READS,)), Turn(thinking=(echo,), text=echo), Turn(text="Done."))
    client = behind.openai()
    messages: list[Any] = [{"role": "user", "content": f"read a.txt, I am {MAIL}"}]
    asked = chat(client, model, messages, stream)
    (call,) = asked["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == READS.arguments
    messages += [asked, {"role": "tool", "tool_call_id": call["id"], "content": f"write to {MAIL}"}]
    said = chat(client, model, messages, stream)
    assert MAIL in said["content"]
    messages += [said, {"role": "user", "content": "and now?"}]
    assert chat(client, model, messages, stream)["content"] == "Done."
    assert strict.refusals == []
    assert TAG not in strict.received
    assert (MAIL in strict.received) is not behind.masks


@each_way
@pytest.mark.parametrize("model", ["strict-gpt", "strict-gemini"])
def test_messages_that_are_translated(behind: Behind, strict: StrictProvider, model: str, stream: bool) -> None:
    strict.plays(Turn(thinking=(INVENTED,), calls=(READS,)), Turn(thinking=(echo,), text=echo), Turn(text="Done."))
    talk = behind.anthropic(stream, model)
    talk.work("read a.txt", lambda name, arguments: f"write to {MAIL}")
    answer = talk.say("and now?")
    assert [block.text for block in answer.content if block.type == "text"] == ["Done."]
    assert strict.refusals == []
    assert TAG not in strict.received
    assert (MAIL in strict.received) is not behind.masks


def test_without_its_tag_what_is_found_in_signed_thinking_is_refused(governed: Gateway, strict: StrictProvider) -> None:
    strict.plays(Turn(thinking=(INVENTED,)))
    talk = Behind(governed, masks=True).anthropic(stream=False)
    talk.say("hello")
    (block, *_) = talk.messages[1]["content"]
    block["signature"] = block["signature"][44:]
    with pytest.raises(anthropic.BadRequestError) as refused:
        talk.say("go on")
    body: Any = refused.value.body
    assert body["error"]["code"] == "pii_blocked"
    assert body["error"]["gatehouse"]["where"] == "messages[1].content[0].thinking"
    assert len(strict.arrivals) == 1
    block["thinking"], block["signature"] = "Nothing is found in this.", "c2lnbmF0dXJl"
    with pytest.raises(anthropic.BadRequestError, match="cannot be modified"):
        talk.say("go on")  # as the provider has it
