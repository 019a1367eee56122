"""What `/metrics` shows: of LiteLLM's metrics, labels that callers could make up are shown as what is configured.

LiteLLM counts by model, route and user agent as a request says them, also before it knows who asks. Promises: each such
label has a configured or known value, or `other`, so that no request makes a series or puts a text into one; counts
stay whole, for series that become one are added up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol

from prometheus_client import Metric
from prometheus_client.samples import Sample

OTHER: Final = "other"
_LITELLMS: Final = "litellm_"
_NOTHING: Final = frozenset(("", "None", OTHER))
# What says how things stand, or when they began, cannot be added up.
_CREATED: Final = "_created"

Shown = Callable[[str], str]


class Registry(Protocol):
    """Where metrics are collected from."""

    def collect(self) -> Iterable[Metric]: ...


class Exposition:
    """The metrics of a registry as they may be shown; itself a registry.

    Args:
        shown: by label, what is shown of a value.
    """

    def __init__(self, registry: Registry, shown: Mapping[str, Shown]) -> None:
        self._registry = registry
        self._shown = shown

    def collect(self) -> Iterator[Metric]:
        values: dict[tuple[str, str], str] = {}  # of one look: what is configured may change
        for metric in self._registry.collect():
            yield self._bounded(metric, values) if metric.name.startswith(_LITELLMS) else metric

    def _bounded(self, metric: Metric, values: dict[tuple[str, str], str]) -> Metric:
        samples: dict[tuple[str, tuple[tuple[str, str], ...]], Sample] = {}
        for sample in metric.samples:
            labels: dict[str, str] = {}
            for pair in sample.labels.items():
                if pair not in values:
                    values[pair] = self._value(*pair)
                labels[pair[0]] = values[pair]
            key = (sample.name, tuple(labels.items()))
            before = samples.get(key)
            value = sample.value if before is None else _both(metric.type, before, sample)
            samples[key] = sample._replace(labels=labels, value=value)
        bounded = Metric(metric.name, metric.documentation, metric.type, metric.unit)
        bounded.samples = list(samples.values())
        return bounded

    def _value(self, name: str, value: str) -> str:
        shown = self._shown.get(name)
        return value if shown is None or value in _NOTHING else shown(value)


def _both(kind: str, one: Sample, other: Sample) -> float:
    if one.name.endswith(_CREATED):
        return min(one.value, other.value)
    return max(one.value, other.value) if kind == "gauge" else one.value + other.value
