"""The isolation metrics: one look a scrape, and what it shows."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from chassis.clock import ManualClock
from chassis.errors import OriginStatus
from chassis.http.isolation import STATES, Isolation
from chassis.resilience import BreakerConfig, Policy, PolicySnapshot, policy
from chassis.telemetry import Metrics


class Looked(Policy):
    """A policy that counts how often it was looked at."""

    looks = 0

    def snapshot(self) -> PolicySnapshot:
        self.looks += 1
        return super().snapshot()


def samples(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Sample by (name, its last label's value)."""
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name != "command"}
            found[sample.name, next(iter(labels.values()), "")] = sample.value
    return found


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def guarded(clock: ManualClock) -> Policy:
    return policy(
        "rights.decide",
        timeout_s=1,
        bulkhead=7,
        breaker=BreakerConfig(size=2, min_calls=2),
        clock=clock,
    )


@pytest.fixture
def metrics(guarded: Policy) -> Metrics:
    metrics = Metrics()
    Isolation({guarded.name: guarded}, metrics)
    return metrics


async def fail() -> None:
    raise OriginStatus(500)


async def test_results_are_counted_by_what_became_of_a_call(
    guarded: Policy, metrics: Metrics
) -> None:
    await guarded.call(asyncio.sleep, 0)
    with pytest.raises(OriginStatus):
        await guarded.call(fail)
    shown = samples(metrics)
    assert shown["breaker_calls_total", "success"] == 1
    assert shown["breaker_calls_total", "failure"] == 1
    assert shown["breaker_calls_total", "timeout"] == 0
    assert shown["breaker_limit", ""] == 7


async def test_exactly_one_state_is_the_present_one_and_changes_are_counted(
    guarded: Policy, metrics: Metrics
) -> None:
    for _ in range(2):
        with pytest.raises(OriginStatus):
            await guarded.call(fail)
    shown = samples(metrics)
    assert {state: shown["breaker_state", state] for state in STATES if state != "open"} == {
        state: 0 for state in STATES if state != "open"
    }
    assert shown["breaker_state", "open"] == 1
    assert shown["breaker_transitions_total", ""] == 1


async def test_a_call_under_way_is_shown(guarded: Policy, metrics: Metrics) -> None:
    task = asyncio.ensure_future(guarded.call(asyncio.Event().wait))
    await asyncio.sleep(0)
    assert samples(metrics)["breaker_inflight", ""] == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert samples(metrics)["breaker_inflight", ""] == 0


async def test_durations_are_a_histogram_whose_last_bucket_has_them_all(
    guarded: Policy, metrics: Metrics, clock: ManualClock
) -> None:
    for seconds in (0.00001, 0.003, 0.3, 100.0):
        guarded.latencies.observe(seconds)
    shown = samples(metrics)
    buckets = [
        (float(bound), value)
        for (name, bound), value in shown.items()
        if name == "breaker_duration_seconds_bucket"
    ]
    assert [value for _, value in buckets] == sorted(value for _, value in buckets)
    assert buckets[-1] == (float("inf"), 4)
    assert shown["breaker_duration_seconds_count", ""] == 4
    assert shown["breaker_duration_seconds_sum", ""] == pytest.approx(100.30301)
    under = dict(buckets)
    assert under[0.004096] == 2 and under[0.524288] == 3


def test_a_scrape_looks_once_at_each_policy(guarded: Policy, metrics: Metrics) -> None:
    guarded.__class__ = Looked
    assert isinstance(guarded, Looked)
    metrics.render()
    assert guarded.looks == 1


def test_a_policy_that_is_made_later_is_shown_as_well(clock: ManualClock) -> None:
    policies: dict[str, Policy] = {}
    metrics = Metrics()
    Isolation(policies, metrics)
    assert ("breaker_limit", "") not in samples(metrics)
    policies["a.b"] = policy("a.b", timeout_s=1, clock=clock)
    assert samples(metrics)["breaker_limit", ""] == 64
