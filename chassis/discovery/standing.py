"""What a balancer knows of one instance, and how long it is left out for what. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from msgspec import Struct

from chassis.discovery.registry import Instance

NO_LATENCY_YET_S = 0.0005
UNREACHABLE = "unreachable"
LEAST_FREE = 0.05
"""A part of an instance: whoever is fuller counts as if so much were left."""


class BalancerConfig(Struct, frozen=True):
    """Seconds and counts of choosing and ejecting."""

    decay_s: float = 10.0
    slow_start_s: float = 10.0
    eject_after: int = 5
    eject_s: float = 30.0
    eject_max_s: float = 300.0
    eject_share: float = 0.1
    forgive_s: float = 10.0
    panic_share: float = 0.5
    unreachable_s: float = 1.0
    unreachable_max_s: float = 30.0
    sweep_s: float = 10.0
    sweep_instances: int = 5
    sweep_requests: int = 100
    sweep_sigmas: float = 1.9
    report_s: float = 10.0
    """A report of load that is older counts for nothing."""
    report_smoothing_s: float = 5.0
    """No shorter than what instances measure over, or all balancers chase the last report."""


@dataclass(slots=True)
class Standing:
    """What is known of one instance: live, read by the admin pages.

    `weight_s` is its latency faded by the time without news, worked out again from `weight_until`.
    `failures` and `unreached` count in a row, `good` and `bad` since the last sweep. `why` says
    what it was last left out for, `healthy` what its active checks said. `utilisation` is its last
    report of its own load, 0 to 1, told at `reported` and smoothed in `load`; None where it does
    not report, or no more. `burden` is what its cost is multiplied by for it.
    """

    instance: Instance
    in_flight: int = 0
    latency_s: float = 0.0
    seen: float = 0.0
    failures: int = 0
    unreached: int = 0
    good: int = 0
    bad: int = 0
    healthy: bool = True
    ejected: bool = False
    ejected_until: float = 0.0
    ejections: int = 0
    absences: int = 0
    why: str = ""
    ramps_from: float = 0.0
    ramps_until: float = 0.0
    weight_s: float = NO_LATENCY_YET_S
    weight_until: float = 0.0
    utilisation: float | None = None
    reported: float = 0.0
    load: float = 0.0
    burden: float = 1.0

    @property
    def is_absent(self) -> bool:
        """Left out because nobody was there, not because of how it answered."""
        return self.ejected and self.why == UNREACHABLE

    def eject(self, config: BalancerConfig, now: float, why: str) -> None:
        """Leaves it out for longer each time; quiet time in between is forgiven."""
        forgiven = int(max(0.0, now - self.ejected_until) / config.forgive_s)
        self.ejections = max(0, self.ejections - forgiven) + 1
        wait_s = min(config.eject_s * self.ejections, config.eject_max_s)
        self.ejected, self.ejected_until, self.why = True, now + wait_s, why

    def leave_out(self, config: BalancerConfig, now: float) -> None:
        """Nobody is there: looks again soon, then ever later."""
        wait_s = min(config.unreachable_s * 2.0**self.absences, config.unreachable_max_s)
        self.absences = min(self.absences + 1, 16)
        self.ejected, self.ejected_until, self.why = True, now + wait_s, UNREACHABLE

    def readmit(self, config: BalancerConfig, now: float) -> None:
        """Back with a small share. One that was not there is out again at its first failure."""
        self.failures = self.unreached = config.eject_after - 1 if self.is_absent else 0
        self.ejected = False
        self.ramp(config, now)

    def ramp(self, config: BalancerConfig, now: float) -> None:
        self.ramps_from, self.ramps_until = now, now + config.slow_start_s

    def report(self, config: BalancerConfig, utilisation: float, now: float) -> None:
        """Takes a report: little of one that follows at once, most of one that was long awaited."""
        age = now - self.reported
        is_known = self.utilisation is not None and age < config.report_s
        kept = math.exp(-age / config.report_smoothing_s) if is_known else 0.0
        self.load = utilisation + (self.load - utilisation) * kept
        self.utilisation, self.reported = utilisation, now

    def share(self, now: float) -> float:
        """What it gets of an equal part: rises to 1 while it warms up."""
        if now >= self.ramps_until:
            return 1.0
        return (now - self.ramps_from) / (self.ramps_until - self.ramps_from)


def weigh(standings: Sequence[Standing], config: BalancerConfig, now: float) -> bool:
    """Sets what everybody's cost is multiplied by; whether anybody reports.

    Who does not report has the geometric mean of those who do: costs are compared by their ratio.
    """
    logarithms: list[float] = []
    for standing in standings:
        if standing.utilisation is None:
            continue
        if now - standing.reported >= config.report_s:
            standing.utilisation = None
            continue
        standing.burden = 1.0 / max(LEAST_FREE, 1.0 - standing.load)
        logarithms.append(math.log(standing.burden))
    usual = math.exp(fmean(logarithms)) if logarithms else 1.0
    for standing in standings:
        if standing.utilisation is None:
            standing.burden = usual
    return bool(logarithms)


def outliers(standings: Sequence[Standing], config: BalancerConfig) -> list[Standing]:
    """Those that answered well far less often than the others, the worst first."""
    rates = [
        (standing.good / (standing.good + standing.bad), standing)
        for standing in standings
        if standing.good + standing.bad >= config.sweep_requests
    ]
    if len(rates) < config.sweep_instances:
        return []
    known = [rate for rate, _ in rates]
    least = fmean(known) - config.sweep_sigmas * pstdev(known)
    found = sorted((one for one in rates if one[0] < least), key=lambda one: one[0])
    return [standing for _, standing in found]
