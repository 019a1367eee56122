"""The conversations that real clients have with a provider, directly and through the gateway, and what they see of it.

What a client's program sees is written down as JSON: objects with the names of their types, events in their order,
exceptions with what programs read of them. Two such records are compared place by place.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import agents
import anthropic
import httpx
import openai
from langchain_core.tools import tool as langchain_tool
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.support.codex import FOLDER, codex_node
from tests.support.strict_turns import OVERLOADED, Call, Failure, Turn, echo

GPT, CLAUDE = "gpt-4o", "claude-sonnet-4-20250514"
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
READS = Turn(text="I read it.", calls=(Call("read_file", {"path": "a.txt"}),))

LIMITED = Failure(429, "Slow down.", "rate_limit_error", "rate_limit_exceeded", None, {"retry-after": "3"})
WRONG = Failure(400, "Unknown value.", "invalid_request_error", "invalid_value", "temperature")
NO_KEY = Failure(401, "Incorrect API key provided.", "invalid_request_error", "invalid_api_key")
GONE = Failure(404, "The model does not exist.", "invalid_request_error", "model_not_found", "model")
BROKEN = Failure(500, "The server had an error.", "server_error")
FAILURES = (WRONG, NO_KEY, GONE, LIMITED, BROKEN, OVERLOADED)
BREAKS_OFF = Turn(text="A long text of which half arrives.", breaks_off=OVERLOADED)


@dataclass(frozen=True)
class Place:
    """Says where a client finds its provider.

    Attributes:
        url: without a path.
        masking: a gateway that masks stands in between.
    """

    url: str
    key: str
    masking: bool = False


@dataclass(frozen=True)
class Conversation:
    """What one client does.

    Attributes:
        client: as the documentation names it.
        name: what it does.
        turns: what the provider does meanwhile.
        run: returns what the client's program sees.
    """

    client: str
    name: str
    turns: tuple[Turn, ...]
    run: Callable[[Place], Any]

    def __str__(self) -> str:
        return f"{self.client}: {self.name}"


def seen(run: Callable[[Place], Any], place: Place) -> Any:
    """Return what a program sees, as JSON: an answer, or what was raised."""
    try:
        return json.loads(json.dumps(run(place), default=_plain))
    except Exception as error:
        return json.loads(json.dumps(raised(error), default=_plain))


def raised(error: Exception) -> dict[str, Any]:
    """Return what programs read of an exception."""
    response = getattr(error, "response", None)
    return {
        "raised": type(error).__name__,
        "message": str(error),
        **{name: getattr(error, name, None) for name in ("status_code", "code", "param", "type", "body")},
        "has_request_id": getattr(error, "request_id", None) is not None,
        "retry_after": response.headers.get("retry-after") if response is not None else None,
    }


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return {"is": type(value).__name__} | value.model_dump(mode="json", exclude_unset=True, warnings=False)
    return str(value)


# OpenAI's client.


def _openai(place: Place) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{place.url}/v1", api_key=place.key, max_retries=0)


CHAT_TOOLS: Any = [{"type": "function", "function": {"name": "read_file", "parameters": SCHEMA}}]
RESPONSES_TOOLS: Any = [{"type": "function", "name": "read_file", "parameters": SCHEMA, "strict": False}]


# Data that is masked on its way to the model, which says it again.
PERSONAL = "Write to margaret.hamilton@example.com, and to +49 30 901820."


def chat(said: str = "Say hello.", **fields: Any) -> Callable[[Place], Any]:
    def run(place: Place) -> Any:
        asked: Any = {"model": GPT, "messages": [{"role": "user", "content": said}], **fields}
        answer = _openai(place).chat.completions.create(**asked)
        return list(_until_raised(answer)) if fields.get("stream") else answer

    return run


def chat_with_tools(place: Place) -> Any:
    """Let the model call a tool, and send the result."""
    client, messages = _openai(place), list[Any]([{"role": "user", "content": "Read a.txt."}])
    first = client.chat.completions.create(model=GPT, messages=messages, tools=CHAT_TOOLS)
    called = first.choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "its text"} for call in called.tool_calls or ()]
    messages += [called.model_dump(exclude_unset=True), *results]
    return [first, client.chat.completions.create(model=GPT, messages=messages, tools=CHAT_TOOLS)]


def responses(said: str = "Say hello.", **fields: Any) -> Callable[[Place], Any]:
    def run(place: Place) -> Any:
        answer = _openai(place).responses.create(model=GPT, input=said, **fields)
        return list(_until_raised(answer)) if fields.get("stream") else answer

    return run


def together(run: Callable[[Place], Any]) -> Callable[[Place], Any]:
    """Put the pieces of a stream's text together, because with masking it is cut at other places."""

    def joined(place: Place) -> Any:
        return "".join(text for event in run(place) for text in _texts(event))

    return joined


def _texts(event: Any) -> Iterator[str]:
    delta = getattr(event, "delta", None)
    for choice in getattr(event, "choices", ()):
        yield choice.delta.content or ""
    if isinstance(delta, str):
        yield delta
    elif getattr(delta, "type", None) == "text_delta":
        yield delta.text


def _until_raised(events: Any) -> Iterator[Any]:
    """Yield the events of a stream, and what it raises as the last."""
    try:
        yield from events
    except Exception as error:
        yield raised(error)


# Anthropic's client.


def messages(said: str = "Say hello.", **fields: Any) -> Callable[[Place], Any]:
    def run(place: Place) -> Any:
        client = anthropic.Anthropic(base_url=place.url, api_key=place.key, max_retries=0)
        asked: Any = [{"role": "user", "content": said}]
        answer: Any = client.messages.create(model=CLAUDE, max_tokens=100, messages=asked, **fields)
        return list(_until_raised(answer)) if fields.get("stream") else answer

    return run


MESSAGES_TOOLS: Any = [{"name": "read_file", "input_schema": SCHEMA}]


def messages_with_tools(place: Place) -> Any:
    """Let the model call a tool, and send the result."""
    client = anthropic.Anthropic(base_url=place.url, api_key=place.key, max_retries=0)
    said: list[Any] = [{"role": "user", "content": "Read a.txt."}]
    asked: Any = {"model": CLAUDE, "max_tokens": 100, "tools": MESSAGES_TOOLS}
    first = client.messages.create(messages=said, **asked)
    calls = [block for block in first.content if block.type == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "its text"} for call in calls]
    content = [block.model_dump(exclude_unset=True) for block in first.content]
    said += [{"role": "assistant", "content": content}, {"role": "user", "content": results}]
    return [first, client.messages.create(messages=said, **asked)]


# Claude Code, whose requests are imitated: its package is under commercial terms.


def claude_code(place: Place) -> Any:
    """Send what Claude Code sends on a turn: messages before system and tools, in a stream; return its bytes."""
    history: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": "<system-reminder>Today is a day.</system-reminder>"}]},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "toolu_01", "name": "Bash", "input": {}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_01", "content": "a.txt"}]},
    ]
    body = {
        "model": CLAUDE,
        "messages": history,
        "system": [{"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}}],
        "tools": [{"name": "Bash", "description": "Runs a command.", "input_schema": SCHEMA}],
        "metadata": {"user_id": json.dumps({"device_id": "a" * 64, "session_id": "b" * 36})},
        "max_tokens": 32000,
        "stream": True,
    }
    headers = {
        "authorization": f"Bearer {place.key}",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
        "user-agent": "claude-cli/2.1.197 (external, cli)",
        "x-app": "cli",
        "x-stainless-retry-count": "0",
    }
    answer = httpx.post(f"{place.url}/v1/messages?beta=true", headers=headers, json=body, timeout=60)
    kept = ("content-type", "retry-after", "x-should-retry")
    head = {name: answer.headers.get(name, "").partition(";")[0] for name in kept}
    return {"status": answer.status_code, **head, "body": answer.text.splitlines()}


# LangChain.


@langchain_tool
def read_file(path: str) -> str:
    """Reads a file."""
    return f"what {path} holds"


def langchain(*, stream: bool = False, tools: bool = False, **fields: Any) -> Callable[[Place], Any]:
    def run(place: Place) -> Any:
        model: Any = ChatOpenAI(
            model=GPT, base_url=f"{place.url}/v1", api_key=SecretStr(place.key), max_retries=0, **fields
        )
        model = model.bind_tools([read_file]) if tools else model
        return list(_until_raised(model.stream("Say hello."))) if stream else model.invoke("Say hello.")

    return run


# OpenAI's Agents SDK.


@agents.function_tool(name_override="read_file")
def read_file_of_agents(path: str) -> str:
    """Reads a file."""
    return f"what {path} holds"


def agent(kind: type[Any], *, stream: bool) -> Callable[[Place], Any]:
    def run(place: Place) -> Any:
        return asyncio.run(_agent(kind, place, stream=stream))

    return run


async def _agent(kind: type[Any], place: Place, *, stream: bool) -> Any:
    async with openai.AsyncOpenAI(base_url=f"{place.url}/v1", api_key=place.key, max_retries=0) as client:
        made = agents.Agent(name="a", tools=[read_file_of_agents], model=kind(model=GPT, openai_client=client))
        config = agents.RunConfig(tracing_disabled=True)
        if not stream:
            result = await agents.Runner.run(made, "Read a.txt.", run_config=config)
            return result.to_input_list()
        running = agents.Runner.run_streamed(made, "Read a.txt.", run_config=config)
        events = [event.data async for event in running.stream_events() if event.type == "raw_response_event"]
        return [*events, running.to_input_list()]


_CHAT, _RESPONSES = "OpenAI's SDK, chat", "OpenAI's SDK, responses"
_MESSAGES, _LANGCHAIN, _AGENTS = "Anthropic's SDK", "LangChain", "OpenAI's Agents SDK"
_CLAUDE_CODE, VERCEL_CLIENT = "Claude Code's requests", "Vercel AI SDK"
_SAYS = Turn(text="Hello, how are you?")
_ECHOES = Turn(text=echo)
_USAGE: Any = {"include_usage": True}

CONVERSATIONS: tuple[Conversation, ...] = (
    Conversation(_CHAT, "an answer", (_SAYS,), chat()),
    Conversation(_CHAT, "two choices", (_SAYS,), chat(n=2)),
    Conversation(_CHAT, "a stream", (_SAYS,), chat(stream=True)),
    Conversation(_CHAT, "a stream with its usage", (_SAYS,), chat(stream=True, stream_options=_USAGE)),
    Conversation(_CHAT, "a stream of two choices", (_SAYS,), chat(stream=True, n=2)),
    Conversation(_CHAT, "a tool's call and its result", (READS, _SAYS), chat_with_tools),
    Conversation(_CHAT, "a streamed call of a tool", (READS,), chat(stream=True, tools=CHAT_TOOLS)),
    Conversation(_CHAT, "a stream that breaks off", (BREAKS_OFF,), chat(stream=True)),
    *(Conversation(_CHAT, f"error {each.status}", (Turn(failure=each),), chat()) for each in FAILURES),
    Conversation(_CHAT, "error 529 for a stream", (Turn(failure=OVERLOADED),), chat(stream=True)),
    Conversation(_RESPONSES, "an answer", (_SAYS,), responses()),
    Conversation(_RESPONSES, "a stream", (_SAYS,), responses(stream=True)),
    Conversation(_RESPONSES, "a call of a tool", (READS,), responses(tools=RESPONSES_TOOLS)),
    Conversation(_RESPONSES, "a streamed call of a tool", (READS,), responses(tools=RESPONSES_TOOLS, stream=True)),
    Conversation(_RESPONSES, "a stream that breaks off", (BREAKS_OFF,), responses(stream=True)),
    *(Conversation(_RESPONSES, f"error {each.status}", (Turn(failure=each),), responses()) for each in FAILURES),
    Conversation(_RESPONSES, "error 429 for a stream", (Turn(failure=LIMITED),), responses(stream=True)),
    Conversation(_MESSAGES, "an answer", (_SAYS,), messages()),
    Conversation(_MESSAGES, "a stream", (_SAYS,), messages(stream=True)),
    Conversation(_MESSAGES, "a tool's call and its result", (READS, _SAYS), messages_with_tools),
    Conversation(_MESSAGES, "a streamed call of a tool", (READS,), messages(tools=MESSAGES_TOOLS, stream=True)),
    Conversation(_MESSAGES, "a stream that breaks off", (BREAKS_OFF,), messages(stream=True)),
    *(Conversation(_MESSAGES, f"error {each.status}", (Turn(failure=each),), messages()) for each in FAILURES),
    Conversation(_MESSAGES, "error 529 for a stream", (Turn(failure=OVERLOADED),), messages(stream=True)),
    Conversation(_CLAUDE_CODE, "an answer", (READS,), claude_code),
    Conversation(_CLAUDE_CODE, "error 529", (Turn(failure=OVERLOADED),), claude_code),
    Conversation(_CLAUDE_CODE, "error 429", (Turn(failure=LIMITED),), claude_code),
    Conversation(_CLAUDE_CODE, "a stream that breaks off", (BREAKS_OFF,), claude_code),
    *(
        conversation
        for client, ask in ((_CHAT, chat), (_RESPONSES, responses), (_MESSAGES, messages))
        for conversation in (
            Conversation(client, "an answer with personal data", (_ECHOES,), ask(PERSONAL)),
            Conversation(client, "a stream with personal data", (_ECHOES,), together(ask(PERSONAL, stream=True))),
        )
    ),
    Conversation(_LANGCHAIN, "an answer", (_SAYS,), langchain()),
    Conversation(_LANGCHAIN, "a stream", (_SAYS,), langchain(stream=True)),
    Conversation(_LANGCHAIN, "a call of a tool", (READS,), langchain(tools=True)),
    Conversation(_LANGCHAIN, "a streamed call of a tool", (READS,), langchain(stream=True, tools=True)),
    Conversation(_LANGCHAIN, "an answer of responses", (_SAYS,), langchain(use_responses_api=True)),
    Conversation(_LANGCHAIN, "a stream that breaks off", (BREAKS_OFF,), langchain(stream=True)),
    Conversation(_LANGCHAIN, "error 429", (Turn(failure=LIMITED),), langchain()),
    Conversation(_LANGCHAIN, "error 529 for a stream", (Turn(failure=OVERLOADED),), langchain(stream=True)),
    *(
        Conversation(_AGENTS, f"{how} over {api}", (READS, _SAYS), agent(kind, stream=how == "a streamed run"))
        for api, kind in (
            ("chat", agents.OpenAIChatCompletionsModel),
            ("responses", agents.OpenAIResponsesModel),
        )
        for how in ("a run", "a streamed run")
    ),
    Conversation(_AGENTS, "error 429", (Turn(failure=LIMITED),), agent(agents.OpenAIResponsesModel, stream=False)),
)

# The conversations of tests/agents/vercel.mjs, in their order.
VERCEL = tuple(
    (f"{name} ({api}, {how})", turns)
    for api in ("chat", "responses", "messages")
    for how in ("whole", "streamed")
    for name, turns in (
        ("an answer", (_SAYS,)),
        ("a tool's call and its result", (READS, _SAYS)),
        ("error 429", (Turn(failure=LIMITED),)),
    )
)


def vercel(place: Place) -> list[Any]:
    """Return what programs see that use the Vercel AI SDK, for each of its conversations.

    Raises:
        RuntimeError: the program ended with an error.
    """
    node = codex_node()
    command = [node.executable, FOLDER / "vercel.mjs", place.url, place.key]
    done = subprocess.run(
        [*command, json.dumps({"openai": GPT, "anthropic": CLAUDE})],
        cwd=FOLDER,
        env=node.environment({"NO_PROXY": "127.0.0.1"}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    return list(json.loads(done.stdout))


# Identifiers, which differ with each call: a word of what it names, then many characters.
_ID = re.compile(r"\b([a-z]{2,8})[_-][\w=-]{16,}")
_UNIX_TIME = re.compile(r"1[789]\d{8}(?:\.\d+)?")


def flat(value: Any, place: str = "") -> dict[str, Any]:
    """Return the leaves of a record by their place, without identifiers and times."""
    if isinstance(value, dict) and value:
        return {k: v for name, inner in value.items() for k, v in flat(inner, f"{place}.{name}").items()}
    if isinstance(value, list) and value:
        return {k: v for at, inner in enumerate(value) for k, v in flat(inner, f"{place}[{at}]").items()}
    if isinstance(value, str):
        return {place: _ID.sub(r"\1_ID", value)}
    return {place: 0 if _UNIX_TIME.fullmatch(str(value)) else value}


def differences(directly: Any, through: Any) -> dict[str, tuple[Any, Any]]:
    """Return the places at which two records differ, with both values; positions in lists are left out."""
    one, two = flat(directly), flat(through)
    found = {}
    for place in sorted(one.keys() | two.keys()):
        pair = one.get(place, "nothing"), two.get(place, "nothing")
        if pair[0] != pair[1]:
            found.setdefault(re.sub(r"\[\d+\]", "[]", place), pair)
    return found
