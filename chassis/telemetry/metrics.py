"""Metrics as plain integers on the hot path, read by a prometheus-client collector at scrape.

A child is resolved once and then counted with `child.n += 1`. A family holds at most 2,000
children; whatever comes after is counted under `_other`, and `metrics_overflow_total` says so.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
SERIES_LIMIT = 2_000
OTHER = "_other"

Labels = tuple[str, ...]
F = TypeVar("F", "CounterFamily", "HistogramFamily", "ReadFamily", "ReadHistogramFamily")
GaugeRead = Callable[[], Iterable[tuple[Labels, float]]]
Cumulative = Sequence[tuple[float, int]]
ReadHistogram = Callable[[], Iterable[tuple[Labels, Cumulative, float]]]


class Counter:
    """One series. `n` only ever grows."""

    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


class Histogram:
    """One series of observations in seconds."""

    __slots__ = ("buckets", "counts", "total")

    def __init__(self, buckets: Sequence[float]) -> None:
        self.buckets = buckets
        self.counts = [0] * (len(buckets) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.buckets, value)] += 1
        self.total += value

    def cumulative(self) -> Cumulative:
        return list(zip((*self.buckets, math.inf), itertools.accumulate(self.counts), strict=True))


def _shown(buckets: Cumulative) -> list[tuple[str, float]]:
    """Buckets as the exposition wants them."""
    return [("+Inf" if bound == math.inf else repr(float(bound)), n) for bound, n in buckets]


class _Family:
    """The children of one metric, by label values."""

    def __init__(self, name: str, help_: str, labels: Labels) -> None:
        self.name = name
        self.help = help_
        self.labels = labels
        self.overflowed = 0

    def check(self, values: Labels) -> None:
        if len(values) != len(self.labels):
            raise ValueError(f"{self.name} has labels {self.labels}, got {values}")

    def key(self, values: Labels, children: dict[Labels, object]) -> Labels:
        """The key to count under, bounded in number."""
        self.check(values)
        if values in children or len(children) < SERIES_LIMIT:
            return values
        self.overflowed += 1
        return (OTHER,) * len(self.labels)


class CounterFamily(_Family):
    def __init__(self, name: str, help_: str, labels: Labels) -> None:
        super().__init__(name, help_, labels)
        self._children: dict[Labels, Counter] = {}

    def child(self, *values: str) -> Counter:
        found = self._children.get(values)
        if found is None:
            key = self.key(values, self._children)  # type: ignore[arg-type]
            found = self._children.setdefault(key, Counter())
        return found

    def collect(self) -> Metric:
        family = CounterMetricFamily(self.name, self.help, labels=self.labels)
        for values, child in self._children.items():
            family.add_metric(values, child.n)
        return family


class HistogramFamily(_Family):
    def __init__(
        self, name: str, help_: str, labels: Labels, buckets: Sequence[float] = BUCKETS
    ) -> None:
        super().__init__(name, help_, labels)
        self.buckets = tuple(buckets)
        self._children: dict[Labels, Histogram] = {}

    def child(self, *values: str) -> Histogram:
        found = self._children.get(values)
        if found is None:
            key = self.key(values, self._children)  # type: ignore[arg-type]
            found = self._children.setdefault(key, Histogram(self.buckets))
        return found

    def collect(self) -> Metric:
        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for values, child in self._children.items():
            family.add_metric(values, _shown(child.cumulative()), child.total)
        return family


class ReadFamily(_Family):
    """A metric whose series are read from their owner at scrape: a gauge, or its counters."""

    def __init__(
        self, name: str, help_: str, labels: Labels, read: GaugeRead, *, counter: bool
    ) -> None:
        super().__init__(name, help_, labels)
        self._read = read
        self._counter = counter

    def collect(self) -> Metric:
        family: CounterMetricFamily | GaugeMetricFamily
        made = CounterMetricFamily if self._counter else GaugeMetricFamily
        family = made(self.name, self.help, labels=self.labels)
        for values, value in self._read():
            self.check(values)
            family.add_metric(values, value)
        return family


class ReadHistogramFamily(_Family):
    """Histograms that their owner keeps: cumulative buckets, the last one infinite, and a total."""

    def __init__(self, name: str, help_: str, labels: Labels, read: ReadHistogram) -> None:
        super().__init__(name, help_, labels)
        self._read = read

    def collect(self) -> Metric:
        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for values, buckets, total in self._read():
            self.check(values)
            family.add_metric(values, _shown(buckets), total)
        return family


Family = CounterFamily | HistogramFamily | ReadFamily | ReadHistogramFamily


class Metrics(Collector):
    """One registry a process."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}
        self._before: list[Callable[[], None]] = []
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def counter(self, name: str, help_: str, labels: Labels = ()) -> CounterFamily:
        return self._add(CounterFamily(_counted(name), help_, labels))

    def histogram(
        self, name: str, help_: str, labels: Labels = (), buckets: Sequence[float] = BUCKETS
    ) -> HistogramFamily:
        return self._add(HistogramFamily(name, help_, labels, buckets))

    def gauge(self, name: str, help_: str, labels: Labels = (), *, read: GaugeRead) -> ReadFamily:
        return self._add(ReadFamily(name, help_, labels, read, counter=False))

    def counted(self, name: str, help_: str, labels: Labels = (), *, read: GaugeRead) -> ReadFamily:
        """Counters that another object keeps as plain integers."""
        return self._add(ReadFamily(_counted(name), help_, labels, read, counter=True))

    def timed(self, name: str, help_: str, labels: Labels = (), *, read: ReadHistogram) -> None:
        """Histograms that another object keeps."""
        self._add(ReadHistogramFamily(name, help_, labels, read))

    def before_scrape(self, look: Callable[[], None]) -> None:
        """Calls `look` before each scrape, for an owner whose metrics are read from one look."""
        self._before.append(look)

    def _add(self, family: F) -> F:
        if family.name in self._families:
            raise ValueError(f"the metric {family.name} is already there")
        self._families[family.name] = family
        return family

    def collect(self) -> Iterator[Metric]:
        for look in self._before:
            look()
        for family in list(self._families.values()):
            yield family.collect()
        yield self._overflow()

    def _overflow(self) -> Metric:
        family = CounterMetricFamily(
            "metrics_overflow", "Look-ups beyond a metric's series limit.", labels=("metric",)
        )
        for known in self._families.values():
            if known.overflowed:
                family.add_metric((known.name,), known.overflowed)
        return family

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self._registry)


def _counted(name: str) -> str:
    """A counter is exposed under a name that ends so; ours is the same, to be found by search."""
    if not name.endswith("_total"):
        raise ValueError(f"the counter {name} must be named {name}_total")
    return name
