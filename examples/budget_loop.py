"""A plain loop with tools and a budget, on gatehouse-adapter: it makes a step only while there is money for it.

    pip install ./adapter
    python examples/budget_loop.py 0.01 'get_weather {"city": "Lisbon"}' 'get_time {"city": "Oslo"}'

The first argument is the budget of the whole run, in US dollars; each other one is a task.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from gatehouse_adapter import Completion, GatehouseError, LiteLLMAdapter, SafetyConfig

MODEL = "demo"
STEPS = 5
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = {"get_weather": lambda city: f"18 °C and clear in {city}", "get_time": lambda city: f"12:00 in {city}"}
OFFERED = [{"type": "function", "function": {"name": name, "parameters": CITY}} for name in TOOLS]


class OutOfBudget(Exception):
    pass


class Purse:
    """Ask the model while the highest cost of a step still fits into the rest of `budget_usd`."""

    def __init__(self, adapter: LiteLLMAdapter, budget_usd: float) -> None:
        self.adapter, self.left = adapter, budget_usd

    async def ask(self, messages: list[dict[str, Any]]) -> Completion:
        options: dict[str, Any] = {"tools": OFFERED, "max_tokens": 200}
        estimate = await self.adapter.get_cost_estimate(messages, MODEL, **options)
        if estimate.estimated_cost_usd > self.left:
            cost = f"{estimate.estimated_cost_usd} dollars" if estimate.has_price else "any amount, for it has no price"
            raise OutOfBudget(f"a step may cost {cost}, and {self.left:.6f} dollars are left")
        answer: Completion = await self.adapter.complete_chat(messages, MODEL, **options)
        self.left -= estimate.estimated_cost_usd if answer.cost_usd is None else answer.cost_usd
        return answer


async def work(purse: Purse, task: str) -> str | None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": task}]
    for _ in range(STEPS):
        answer = await purse.ask(messages)
        if not answer.tool_calls:
            return answer.content
        messages.append(answer.raw["choices"][0]["message"])
        for call in answer.tool_calls:
            result = TOOLS[call.name](**json.loads(call.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return None


async def main(budget_usd: float, tasks: list[str]) -> int:
    # The key may have its own budget, and the gateway its own limits: the strictest counts.
    async with LiteLLMAdapter(safety=SafetyConfig(max_budget_per_request=0.05, rate_limit_per_minute=60)) as adapter:
        purse = Purse(adapter, budget_usd)
        try:
            if not (await adapter.check_budget_limit()).within_budget:
                raise OutOfBudget("the key has no budget left")
            for task in tasks:
                print(await work(purse, task))
        except (OutOfBudget, GatehouseError) as error:
            print(f"stopped: {error}", file=sys.stderr)
            return 1
        print(f"{purse.left:.6f} dollars are left")
        return 0


if __name__ == "__main__":
    budget, *tasks = sys.argv[1:] or ["0.01", 'get_weather {"city": "Lisbon"}']
    sys.exit(asyncio.run(main(float(budget), tasks)))
