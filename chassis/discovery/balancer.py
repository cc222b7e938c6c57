"""Which instance takes the next attempt. Pure: time and chance come as arguments.

`pick` two at random, take the one with the lower cost (power of two choices, Mitzenmacher 2001);
cost is requests in flight times a peak-sensitive moving average of latency (Finagle's peak EWMA:
a rise counts at once, a fall decays, an idle instance's memory fades so that it is tried again).
Passive ejection as Envoy does it: after five failures in a row an instance is left out for 30 s
times the number of its ejections, 300 s at most; never more than a tenth of the instances but
always one may be out; and when fewer than half are left, ejections are ignored (panic).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct

from chassis.discovery.registry import Instance

_NO_LATENCY_YET_S = 0.0005
_FADE_EVERY_S = 0.1


class BalancerConfig(Struct, frozen=True):
    """Seconds and counts of choosing and ejecting."""

    decay_s: float = 10.0
    eject_after: int = 5
    eject_s: float = 30.0
    eject_max_s: float = 300.0
    eject_share: float = 0.1
    forgive_s: float = 10.0
    panic_share: float = 0.5


@dataclass(slots=True)
class Standing:
    """What is known of one instance: live, read by the admin pages.

    `weight_s` is its latency faded by the time without news, worked out again from `weight_until`.
    """

    instance: Instance
    in_flight: int = 0
    latency_s: float = 0.0
    seen: float = 0.0
    failures: int = 0
    ejected: bool = False
    ejected_until: float = 0.0
    ejections: int = 0
    weight_s: float = _NO_LATENCY_YET_S
    weight_until: float = 0.0


class Balancer:
    """Chooses among the instances it is shown; learns from `started` and `finished`."""

    def __init__(self, config: BalancerConfig | None = None) -> None:
        self.config = config or BalancerConfig()
        self._decay_s = self.config.decay_s
        self._known: Sequence[Instance] = ()
        self._all: list[Standing] = []
        self._fit: list[Standing] = []
        self._by_id: dict[str, Standing] = {}
        self._return_at = math.inf

    def pick(
        self,
        instances: Sequence[Instance],
        now: float,
        random: Callable[[], float],
        exclude: Container[str] = (),
    ) -> Instance | None:
        """The instance for the next attempt, or None when there is none; see `choose`."""
        standing = self.choose(instances, now, random, exclude)
        return None if standing is None else standing.instance

    def choose(
        self,
        instances: Sequence[Instance],
        now: float,
        random: Callable[[], float],
        exclude: Container[str] = (),
    ) -> Standing | None:
        """Its standing, for whoever counts `in_flight` up by itself and then tells `ended`.

        `instances` is a directory's tuple: the same object until the list changes. `exclude` holds
        ids already tried; they are used again only when nothing else is left.
        """
        if instances is not self._known:
            self._adopt(instances)
        if now >= self._return_at:
            self._readmit(now)
        choices = self._fit
        if exclude:
            choices = [s for s in choices if s.instance.id not in exclude] or choices
        count = len(choices)
        if count < 2:
            return choices[0] if choices else None
        first = int(random() * count)
        second = int(random() * (count - 1))
        if second >= first:
            second += 1
        one, other = choices[first], choices[second]
        if now >= one.weight_until:
            self._fade(one, now)
        if now >= other.weight_until:
            self._fade(other, now)
        cost, other_cost = (
            (one.in_flight + 1) * one.weight_s,
            (other.in_flight + 1) * other.weight_s,
        )
        return one if cost <= other_cost else other

    def started(self, instance: Instance) -> None:
        """An attempt on `instance` begins."""
        standing = self._by_id.get(instance.id)
        if standing is not None:
            standing.in_flight += 1

    def finished(self, instance: Instance, latency_s: float, ok: bool | None, now: float) -> None:
        """An attempt has ended. `ok` None: neither good nor bad (cancelled): only gives it back."""
        standing = self._by_id.get(instance.id)
        if standing is not None:
            self.ended(standing, latency_s, ok, now)

    def ended(self, standing: Standing, latency_s: float, ok: bool | None, now: float) -> None:
        """The same, of a standing that was chosen. No failure is quicker than what is known."""
        if standing.in_flight > 0:
            standing.in_flight -= 1
        if ok is None:
            return
        mean = standing.latency_s
        if latency_s < mean:
            kept = math.exp((standing.seen - now) / self._decay_s) if ok else 1.0
            latency_s += (mean - latency_s) * kept
        standing.latency_s = latency_s
        standing.seen = now
        known = latency_s > _NO_LATENCY_YET_S
        standing.weight_s = latency_s if known else _NO_LATENCY_YET_S
        standing.weight_until = now + _FADE_EVERY_S
        if ok:
            standing.failures = 0
        else:
            self._failed(standing, now)

    def _failed(self, standing: Standing, now: float) -> None:
        standing.failures += 1
        if standing.failures >= self.config.eject_after and not standing.ejected:
            self._eject(standing, now)

    def standings(self) -> Mapping[str, Standing]:
        """Every instance's standing by id."""
        return self._by_id

    def _fade(self, standing: Standing, now: float) -> None:
        faded = standing.latency_s * math.exp((standing.seen - now) / self.config.decay_s)
        standing.weight_s = max(faded, _NO_LATENCY_YET_S)
        standing.weight_until = now + _FADE_EVERY_S

    def _adopt(self, instances: Sequence[Instance]) -> None:
        known = self._by_id
        self._by_id = {i.id: self._carried(known.get(i.id), i) for i in instances}
        self._all = list(self._by_id.values())
        self._known = instances
        self._sort_out()

    @staticmethod
    def _carried(standing: Standing | None, instance: Instance) -> Standing:
        if standing is None or standing.instance.address != instance.address:
            return Standing(instance)
        standing.instance = instance
        return standing

    def _eject(self, standing: Standing, now: float) -> None:
        out = sum(s.ejected for s in self._all)
        if out >= max(1, int(len(self._all) * self.config.eject_share)):
            return
        forgiven = int(max(0.0, now - standing.ejected_until) / self.config.forgive_s)
        standing.ejections = max(0, standing.ejections - forgiven) + 1
        wait = min(self.config.eject_s * standing.ejections, self.config.eject_max_s)
        standing.ejected, standing.ejected_until = True, now + wait
        self._sort_out()

    def _readmit(self, now: float) -> None:
        for standing in self._all:
            if standing.ejected and now >= standing.ejected_until:
                standing.ejected, standing.failures = False, 0
        self._sort_out()

    def _sort_out(self) -> None:
        """Recomputes who may be chosen and when the next ejection ends."""
        fit = [s for s in self._all if not s.ejected]
        panic = len(fit) < len(self._all) * self.config.panic_share
        self._fit = self._all if panic else fit
        self._return_at = min((s.ejected_until for s in self._all if s.ejected), default=math.inf)
