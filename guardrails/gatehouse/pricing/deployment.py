"""What the estimate knows of a deployment."""

from __future__ import annotations

from dataclasses import dataclass

from gatehouse.pricing.tariffs import Tariff


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model that may answer: what it charges and how it counts.

    Attributes:
        name: provider and model as the provider calls it.
        encoding: the tokenizer to count with.
        factor: how many tokens it may make of one.
    """

    name: str
    tariff: Tariff
    encoding: str
    factor: float
