"""What a directory believes about one service. Pure: time comes as an argument.

An answer that says "nobody is left", and any removal in the first answers after the registry was
lost, is doubted for a grace period: a registry that restarts empty must not empty a cluster, and
instances need a moment to come back to it. While in doubt the known and the answered instances
are both believed. While the registry is lost nothing is ever dropped.

Swaps are damped by a token bucket, so that one flapping instance cannot make every caller rebuild
its choices all day, while the first changes after a quiet time show at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from chassis.discovery.registry import Instance

_ROUNDING = 1e-9


class RosterConfig(Struct, frozen=True):
    """`grace_s` of doubt; `burst` swaps at once, then `swaps_per_s`."""

    grace_s: float = 10.0
    burst: int = 10
    swaps_per_s: float = 1.0


class Roster:
    """The believed instances of one service, ordered by id."""

    def __init__(self, config: RosterConfig, remembered: Iterable[Instance] = ()) -> None:
        self.config = config
        self.instances: tuple[Instance, ...] = tuple(remembered)
        self.answered = False
        self._answer: tuple[Instance, ...] = self.instances
        self._lost = False
        self._doubt_until = 0.0
        self._tokens = float(config.burst)
        self._refilled = 0.0

    @property
    def heard(self) -> bool:
        """Whether there was an answer at all, be it a refusal."""
        return self.answered or self._lost

    def lost(self) -> None:
        """The registry did not answer."""
        self._lost = True

    def answer(self, instances: Iterable[Instance], now: float) -> bool:
        """Takes the registry's answer; True when the believed list changed."""
        answer = tuple(sorted(instances, key=lambda instance: instance.id))
        returned = self._lost and self.answered
        vanished = bool(self.instances) and bool(self._answer) and not answer
        if returned or vanished:
            self._doubt_until = now + self.config.grace_s
        self._lost, self.answered = False, True
        self._answer = answer
        return self.reconsider(now)

    def reconsider(self, now: float) -> bool:
        """Applies what has fallen due; True when the believed list changed."""
        believed = self._believed(now)
        if believed == self.instances or not self._may_swap(now):
            return False
        self.instances = believed
        return True

    def due_s(self, now: float) -> float | None:
        """Seconds until `reconsider` can change something by itself; None: never."""
        if self._answer == self.instances or self._lost:
            return None
        if self._believed(now) != self.instances:
            return max(0.0, (1.0 - self._refill(now)) / self.config.swaps_per_s)
        return max(0.0, self._doubt_until - now)

    def _believed(self, now: float) -> tuple[Instance, ...]:
        if self._lost or now < self._doubt_until:
            both = {i.id: i for i in (*self.instances, *self._answer)}
            return tuple(both[name] for name in sorted(both))
        return self._answer

    def _may_swap(self, now: float) -> bool:
        self._tokens = self._refill(now)
        self._refilled = now
        if self._tokens < 1.0 - _ROUNDING:
            return False
        self._tokens -= 1.0
        return True

    def _refill(self, now: float) -> float:
        earned = (now - self._refilled) * self.config.swaps_per_s
        return min(float(self.config.burst), self._tokens + earned)

    def __repr__(self) -> str:
        state = "lost" if self._lost else "following" if self.answered else "unanswered"
        return f"Roster({state}, {len(self.instances)} instances)"
