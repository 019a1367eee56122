"""A LangChain agent behind the gateway: `ChatOpenAI` needs only its address and a key.

pip install langchain-openai
python examples/langchain_agent.py 'get_weather {"city": "Lisbon"}'
"""

from __future__ import annotations

import os
import sys

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import APIStatusError

STEPS = 5


@tool
def get_weather(city: str) -> str:
    """The weather in a city, now."""
    return f"18 °C and clear in {city}"


def main(question: str) -> int:
    model = ChatOpenAI(
        model=os.environ.get("AGENT_MODEL", "demo"),
        base_url=os.environ["LITELLM_BASE_URL"] + "/v1",
        api_key=os.environ["LITELLM_MASTER_KEY"],
        default_headers={"X-Gatehouse-Agent": "weather-agent"},
        max_tokens=200,
        # No retries: the gateway's refusals are final, and the gateway itself tries other deployments.
        max_retries=0,
    ).bind_tools([get_weather])
    messages: list[BaseMessage] = [HumanMessage(question)]
    try:
        for _ in range(STEPS):
            answer = model.invoke(messages)
            messages.append(answer)
            if not answer.tool_calls:
                print(answer.text)
                return 0
            for call in answer.tool_calls:
                print(f"tool: {call['name']} {call['args']}")
                messages.append(get_weather.invoke(call))
    except APIStatusError as error:
        print(f"refused: {error.code}: {error.message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else 'get_weather {"city": "Lisbon"}'))
