"""Talks to a strict provider, or to a gateway before it, as agents do: each turn sends back what the turns before said.

The clients are the providers' own, so that what they keep of an answer is what real agents send back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import anthropic
import openai

TOOL_SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}
Results = Callable[[str, dict[str, Any]], str]
"""What a tool answers, from its name and its arguments."""


@dataclass
class AnthropicConversation:
    """Holds a conversation with /v1/messages, with extended thinking and one tool.

    Attributes:
        messages: what the next turn sends before its own text.
        answers: the messages that came, as Anthropic's client read them.
    """

    client: anthropic.Anthropic
    model: str
    stream: bool
    messages: list[dict[str, Any]] = field(default_factory=list)
    answers: list[anthropic.types.Message] = field(default_factory=list)

    def say(self, text: str) -> anthropic.types.Message:
        """Say something; return the model's answer, and put both into the conversation."""
        return self.send([{"type": "text", "text": text}])

    def work(self, text: str, results: Results) -> anthropic.types.Message:
        """Say something, and answer the model's tool calls until it makes none."""
        answer = self.say(text)
        while calls := [block for block in answer.content if block.type == "tool_use"]:
            answer = self.send(
                [
                    {"type": "tool_result", "tool_use_id": call.id, "content": results(call.name, dict(call.input))}
                    for call in calls
                ]
            )
        return answer

    def send(self, content: list[dict[str, Any]]) -> anthropic.types.Message:
        """Send a message of the user."""
        messages = [*self.messages, {"role": "user", "content": content}]
        settings: Any = {
            "model": self.model,
            "max_tokens": 4096,
            "messages": messages,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "tools": [{"name": "read_file", "description": "Reads a file.", "input_schema": TOOL_SCHEMA}],
        }
        if self.stream:
            with self.client.messages.stream(**settings) as events:
                answer: Any = events.get_final_message()
        else:
            answer = self.client.messages.create(**settings)
        said = answer.model_dump(mode="json", exclude_unset=True, warnings=False)["content"]
        self.messages = [*messages, {"role": "assistant", "content": said}]
        self.answers.append(answer)
        return answer  # type: ignore[no-any-return]


@dataclass
class ResponsesConversation:
    """Holds a conversation with /v1/responses that the provider does not store, with encrypted reasoning and one tool.

    Attributes:
        items: what the next turn sends before its own.
        answers: the responses that came, as OpenAI's client read them.
        done: the items that the last stream said were done.
    """

    client: openai.OpenAI
    model: str
    stream: bool
    items: list[Any] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    done: list[Any] = field(default_factory=list)

    def work(self, text: str, results: Results) -> Any:
        """Say something, and answer the model's tool calls until it makes none."""
        answer = self.send([{"role": "user", "content": text}])
        while calls := [item for item in answer.output if item.type == "function_call"]:
            answer = self.send(
                [
                    {"type": "function_call_output", "call_id": call.call_id, "output": results(call.name, {})}
                    for call in calls
                ]
            )
        return answer

    def send(self, items: list[Any]) -> Any:
        """Send more items."""
        settings: Any = {
            "model": self.model,
            "input": [*self.items, *items],
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "tools": [{"type": "function", "name": "read_file", "parameters": TOOL_SCHEMA, "strict": False}],
            "reasoning": {"effort": "low"},
        }
        if self.stream:
            answer = self._completed(self.client.responses.create(stream=True, **settings))
        else:
            answer = self.client.responses.create(**settings)
        said = [item.model_dump(mode="json", exclude_unset=True) for item in answer.output]
        self.items = [*settings["input"], *said]
        self.answers.append(answer)
        return answer

    def _completed(self, events: Any) -> Any:
        """Return the response that a stream ends with."""
        self.done, completed = [], None
        for event in events:
            if event.type == "response.output_item.done":
                self.done.append(event.item)
            if event.type == "response.completed":
                completed = event.response
        assert completed is not None, "the stream did not end"
        return completed


def texts_of(blocks: Sequence[Any], kind: str) -> Iterator[str]:
    """Yield the texts of an Anthropic message's blocks of one type."""
    return (getattr(block, kind) for block in blocks if block.type == kind)
