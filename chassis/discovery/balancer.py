"""Which instance takes the next attempt. Pure: time and chance come as arguments.

`pick` two at random, take the one with the lower cost (power of two choices, Mitzenmacher 2001);
cost is requests in flight times a peak-sensitive moving average of latency (Finagle's peak EWMA:
a rise counts at once, a fall decays, an idle instance's memory fades so that it is tried again).
Whoever joins instances that are warm already is drawn less often at first (slow start).

Where instances report how busy they are, cost is multiplied by 1 / (1 - u), at most by 20; u is
their utilisation from 0 to 1, smoothed over five seconds. Reports are late and every balancer has
the same ones, so they only tip the scales: where nothing but its load speaks against the one that
is otherwise cheaper, that one is taken still with the probability (the other's cost / its own).
What an instance gets falls in proportion as it fills, instead of all or nothing, and balancers do
not chase one another. It is drawn as often as any other whatever it reports: twice an equal part
is the most that can be had by lying. Who does not report, or did so more than ten seconds ago,
counts as the (geometric) mean of those who do, and gets an equal part within a fifth of it. Where
nobody reports, only one, or all the same, nothing changes.

Passive ejection as Envoy does it: after five failures in a row, or with a success rate far below
the others', an instance is left out for 30 s times the number of its ejections, 300 s at most;
never more than a tenth of the instances but always one may be out; and when fewer than half are
left, ejections are ignored (panic). Where nobody can be reached at all nothing is to be spared:
such an instance is left out however many there are, and looked at again after a second, then two,
up to thirty, unless no other is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence

from chassis.discovery.registry import Instance
from chassis.discovery.standing import (
    NO_LATENCY_YET_S,
    BalancerConfig,
    Standing,
    outliers,
    weigh,
)

__all__ = ["Balancer", "BalancerConfig", "Standing"]

_FADE_EVERY_S = 0.1
_TENTHS = 10


class Balancer:
    """Chooses among the instances it is shown; learns from `started` and `finished`."""

    def __init__(self, config: BalancerConfig | None = None) -> None:
        self.config = config or BalancerConfig()
        self._decay_s = self.config.decay_s
        self._known: Sequence[Instance] = ()
        self._all: list[Standing] = []
        self._fit: list[Standing] = []
        self._by_id: dict[str, Standing] = {}
        self._look_at = 0.0
        self._sweep_at = 0.0

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
        ids already tried; they are used again only when nothing else is left. Whoever asks so has
        met a failure: it is not sent where the last attempt failed too, if there is anybody else.
        """
        if instances is not self._known:
            self._adopt(instances, now)
        if now >= self._look_at:
            self._look(now)
        choices = self._fit
        if exclude:
            choices = _not_tried(choices, exclude) or choices
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
        if one.burden != other.burden:
            return _less_burdened(one, cost, other, other_cost, random())
        return one if cost <= other_cost else other

    def spare(self, exclude: Container[str]) -> Standing | None:
        """The least busy of those left out for how they answered, though somebody is there:
        for an attempt that reached nobody and has nowhere else to go."""
        left = [s for s in self._all if s.ejected and not s.is_absent]
        return min(_not_tried(left, exclude), key=lambda s: s.in_flight, default=None)

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

    def ended(
        self,
        standing: Standing,
        latency_s: float,
        ok: bool | None,
        now: float,
        *,
        reached: bool = True,
    ) -> None:
        """The same, of a standing that was chosen. No failure is quicker than what is known.

        `reached` is False where no connection could be made: nobody is there.
        """
        if standing.in_flight > 0:
            standing.in_flight -= 1
        if ok is None:
            return
        mean = standing.latency_s
        if latency_s < mean:
            age = (now - standing.seen) / self._decay_s if ok else 0.0
            kept = 1.0 - age if age < 0.02 else math.exp(-age)
            latency_s += (mean - latency_s) * kept
        elif not mean:
            self._look_at = 0.0
        standing.latency_s = latency_s
        standing.seen = now
        known = latency_s > NO_LATENCY_YET_S
        standing.weight_s = latency_s if known else NO_LATENCY_YET_S
        standing.weight_until = now + _FADE_EVERY_S
        if ok:
            standing.good += 1
            if standing.failures:
                standing.failures = standing.unreached = standing.absences = 0
        else:
            self._failed(standing, now, reached)

    def superseded(self, standing: Standing, waited_s: float, now: float) -> None:
        """Another instance answered first: this one takes at least as long as it was waited for."""
        if standing.in_flight > 0:
            standing.in_flight -= 1
        if waited_s > standing.latency_s:
            standing.latency_s, standing.seen = waited_s, now
            self._fade(standing, now)

    def reported(self, standing: Standing, utilisation: float, now: float) -> None:
        """The head of its answer says how busy it is: 0 idle, 1 full."""
        if standing.utilisation is None:
            self._look_at = 0.0
        standing.report(self.config, utilisation, now)

    def checked(self, instance_id: str, healthy: bool) -> None:
        """What active checks found, where it has changed."""
        standing = self._by_id.get(instance_id)
        if standing is not None and standing.healthy is not healthy:
            standing.healthy = healthy
            self._look_at = 0.0

    def standings(self) -> Mapping[str, Standing]:
        """Every instance's standing by id."""
        return self._by_id

    def _failed(self, standing: Standing, now: float, reached: bool) -> None:
        standing.bad += 1
        standing.failures += 1
        standing.unreached = 0 if reached else standing.unreached + 1
        after = self.config.eject_after
        if standing.failures < after or standing.ejected:
            return
        if standing.unreached >= after:
            standing.leave_out(self.config, now)
            self._look_at = 0.0
        else:
            self._eject(standing, now, f"{standing.failures} failures in a row")

    def _fade(self, standing: Standing, now: float) -> None:
        if not standing.latency_s:
            standing.weight_s = self._hoped_s()
            standing.weight_until = now + _FADE_EVERY_S
            return
        faded = standing.latency_s * math.exp((standing.seen - now) / self._decay_s)
        standing.weight_s = max(faded, NO_LATENCY_YET_S)
        standing.weight_until = now + _FADE_EVERY_S

    def _hoped_s(self) -> float:
        """Of whom nothing is known yet: enough to be tried before the others, not to be flooded."""
        known = [s.weight_s for s in self._all if s.latency_s]
        return min(known) / 2 if known else NO_LATENCY_YET_S

    def _adopt(self, instances: Sequence[Instance], now: float) -> None:
        known, warm = self._by_id, bool(self._by_id)
        self._by_id = {i.id: self._carried(known.get(i.id), i, now, warm) for i in instances}
        self._all = list(self._by_id.values())
        self._known = instances
        self._look_at = 0.0

    def _carried(
        self, standing: Standing | None, instance: Instance, now: float, warm: bool
    ) -> Standing:
        if standing is None or standing.instance.address != instance.address:
            standing = Standing(instance)
            if warm:
                standing.ramp(self.config, now)
        standing.instance = instance
        return standing

    def _eject(self, standing: Standing, now: float, why: str) -> None:
        out = sum(s.ejected and not s.is_absent for s in self._all)
        if out >= max(1, int(len(self._all) * self.config.eject_share)):
            return
        standing.eject(self.config, now, why)
        self._look_at = 0.0

    def _look(self, now: float) -> None:
        """Lets back whose time has come, compares the success rates, sorts out who may be chosen,
        and says when to look again."""
        for standing in self._all:
            if standing.ejected and now >= standing.ejected_until:
                standing.readmit(self.config, now)
            if not standing.latency_s:
                self._fade(standing, now)
        if now >= self._sweep_at:
            self._sweep(now)
        self._sort_out(now)
        ends = [s.ejected_until for s in self._all if s.ejected]
        moving = weigh(self._all, self.config, now) or any(now < s.ramps_until for s in self._all)
        self._look_at = min([self._sweep_at, *ends, *([now + _FADE_EVERY_S] if moving else ())])

    def _sweep(self, now: float) -> None:
        self._sweep_at = now + self.config.sweep_s
        for standing in outliers([s for s in self._all if not s.ejected], self.config):
            share = standing.good / (standing.good + standing.bad)
            self._eject(standing, now, f"success rate {share:.2f}, far below the others'")
        for standing in self._all:
            standing.good = standing.bad = 0

    def _sort_out(self, now: float) -> None:
        """Who may be chosen; while some warm up, by tenths of an equal part."""
        there = [s for s in self._all if not s.is_absent] or self._all
        fit = [s for s in there if s.healthy and not s.ejected]
        if len(fit) < len(there) * self.config.panic_share:
            fit = there
        if any(now < s.ramps_until for s in fit):
            fit = [s for s in fit for _ in range(max(1, int(s.share(now) * _TENTHS)))]
        self._fit = fit


def _less_burdened(
    one: Standing, cost: float, other: Standing, other_cost: float, chance: float
) -> Standing:
    """The one that is cheaper but for its load, as often as its load allows."""
    if other_cost < cost:
        one, cost, other, other_cost = other, other_cost, one, cost
    return one if chance * cost * one.burden <= other_cost * other.burden else other


def _not_tried(choices: list[Standing], exclude: Container[str]) -> list[Standing]:
    others = [s for s in choices if s.instance.id not in exclude]
    return [s for s in others if not s.failures] or others
