"""The facts about a deployment that an estimate needs."""

from __future__ import annotations

from dataclasses import dataclass

from gatehouse.pricing.tariffs import Tariff


@dataclass(frozen=True, slots=True)
class Deployment:
    """Describe one model that may answer: its prices and its way of counting.

    Attributes:
        name: provider and model as the provider calls it.
        encoding: the tokenizer to count with.
        factor: how many tokens the model may count for one token of `encoding`.
        id: LiteLLM's id; empty where the router has none.
    """

    name: str
    tariff: Tariff
    encoding: str
    factor: float
    id: str = ""
