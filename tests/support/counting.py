"""Reads what processes count, at their admin ports."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.system import System

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(system: System, service: str) -> Series:
    """Every sample of every instance of a service, summed over the instances."""
    totals: Series = defaultdict(float)
    for target in system.targets():
        if target["labels"]["service"] == service:
            text = httpx.get(f"http://{target['targets'][0]}/metrics", timeout=5).text
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    totals[sample.name, frozenset(sample.labels.items())] += sample.value
    return totals


def total(series: Series, name: str, **labels: str) -> float:
    """The sum of the samples of `name` that carry these labels."""
    wanted = set(labels.items())
    return sum(value for (known, has), value in series.items() if known == name and wanted <= has)


def by_label(series: Series, name: str, label: str, **labels: str) -> Mapping[str, float]:
    """Sums of `name` by the values of one label."""
    sums: dict[str, float] = defaultdict(float)
    wanted = set(labels.items())
    for (known, has), value in series.items():
        if known == name and wanted <= has:
            sums[dict(has)[label]] += value
    return sums
