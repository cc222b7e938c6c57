"""The isolation metrics: what the policies of prepared calls count, read at scrape."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from chassis.resilience import Policy, PolicySnapshot
from chassis.telemetry.metrics import Cumulative, Labels, Metrics

RESULTS = (
    "success",
    "failure",
    "timeout",
    "short_circuited",
    "rejected",
    "expired",
    "ignored",
    "abandoned",
)
STATES = ("closed", "open", "half-open", "forced-open", "disabled", "metrics-only")
_LEAST_S = 0.0002
_MOST_S = 20.0


class Isolation:
    """Looks once at every policy for each scrape; the dictionary may grow after this is made."""

    def __init__(self, policies: Mapping[str, Policy], metrics: Metrics) -> None:
        self._policies = policies
        self._seen: list[PolicySnapshot] = []
        metrics.before_scrape(self._look)
        metrics.counted(
            "breaker_calls_total", "Calls by result.", ("command", "result"), read=self._calls
        )
        metrics.gauge(
            "breaker_state", "1 for the present state.", ("command", "state"), read=self._states
        )
        metrics.counted(
            "breaker_transitions_total", "Changes of state.", ("command",), read=self._transitions
        )
        metrics.gauge("breaker_inflight", "Under way.", ("command",), read=self._in_flight)
        metrics.gauge("breaker_limit", "May be under way.", ("command",), read=self._limits)
        metrics.timed(
            "breaker_duration_seconds", "Calls that succeeded.", ("command",), read=self._durations
        )

    def _look(self) -> None:
        self._seen = [policy.snapshot() for policy in self._policies.values()]

    def _calls(self) -> Iterator[tuple[Labels, float]]:
        for one in self._seen:
            for result in RESULTS:
                yield (one.name, result), getattr(one, result)

    def _states(self) -> Iterator[tuple[Labels, float]]:
        for one in self._seen:
            for state in STATES:
                yield (one.name, state), float(state == one.state)

    def _transitions(self) -> Iterable[tuple[Labels, float]]:
        return [((one.name,), one.generation) for one in self._seen]

    def _in_flight(self) -> Iterable[tuple[Labels, float]]:
        return [((one.name,), one.in_flight) for one in self._seen]

    def _limits(self) -> Iterable[tuple[Labels, float]]:
        return [((one.name,), one.limit) for one in self._seen]

    def _durations(self) -> Iterator[tuple[Labels, Cumulative, float]]:
        for one in self._seen:
            yield (one.name,), buckets_of(one), one.latency_total_s


def buckets_of(seen: PolicySnapshot) -> Cumulative:
    """A policy's latencies without the bounds that no call comes near; the last one is infinite."""
    kept = [(bound, n) for bound, n in seen.latency if _LEAST_S <= bound <= _MOST_S]
    return [*kept, (math.inf, seen.latency[-1][1])]
