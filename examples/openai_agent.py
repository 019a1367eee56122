"""An agent with the plain OpenAI client: a loop with a tool, which prints the gateway's refusals.

    python examples/openai_agent.py 'get_weather {"city": "Lisbon"}'

The model `demo` calls a tool for these words; ask a real model (AGENT_MODEL) as you like.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from openai import APIStatusError, OpenAI

MODEL = os.environ.get("AGENT_MODEL", "demo")
STEPS = 5  # ends an agent that repeats itself
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city, now.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def get_weather(city: str) -> str:
    return f"18 °C and clear in {city}"


def answer(client: OpenAI, question: str) -> str | None:
    """Return the model's final answer; None if it still calls tools after the last step."""
    messages: list[Any] = [{"role": "user", "content": question}]
    for _ in range(STEPS):
        # A limit on the answer keeps the estimate, and the reserved part of the key's budget, small.
        reply = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS, max_tokens=200)
        message = reply.choices[0].message
        messages.append(message)
        if not message.tool_calls:
            return message.content
        for call in message.tool_calls:
            if call.type == "function":
                print(f"tool: {call.function.name} {call.function.arguments}")
                result = get_weather(**json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return None


def main(question: str) -> int:
    client = OpenAI(
        base_url=os.environ["LITELLM_BASE_URL"] + "/v1",
        api_key=os.environ["LITELLM_MASTER_KEY"],
        # Recorded with every call.
        default_headers={"X-Gatehouse-Agent": "weather-agent"},
    )
    try:
        print(answer(client, question))
    except APIStatusError as error:
        # `code` is the reason: policy_denied, pii_blocked, limit_exceeded, approval_required, budget_exceeded, ...
        print(f"refused: {error.code}: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else 'get_weather {"city": "Lisbon"}'))
