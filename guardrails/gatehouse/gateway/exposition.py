"""Bounds what `/metrics` shows: labels of LiteLLM's that callers could make up show only configured values.

LiteLLM counts by model, route and user agent as a request names them, even before authentication. Promises: each such
label has a configured or known value, or `other`, so that no request creates a series or puts a text into one; counts
stay complete, because series that become one are added up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol

from prometheus_client import Metric
from prometheus_client.samples import Sample

OTHER: Final = "other"
_LITELLMS: Final = "litellm_"
_NOTHING: Final = frozenset(("", "None", OTHER))
# A current state, or a start time, cannot be added up.
_CREATED: Final = "_created"

Shown = Callable[[str], str]


class Registry(Protocol):
    """Collect metrics."""

    def collect(self) -> Iterable[Metric]: ...


class Exposition:
    """Show the metrics of a registry with bounded labels; itself a registry.

    Args:
        shown: by label, a function that returns the value to show.
    """

    def __init__(self, registry: Registry, shown: Mapping[str, Shown]) -> None:
        self._registry = registry
        self._shown = shown

    def collect(self) -> Iterator[Metric]:
        values: dict[tuple[str, str], str] = {}  # for one collection, because the configuration may change
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
