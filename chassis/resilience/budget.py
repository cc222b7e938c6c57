"""What extra attempts (retries, hedges, probes) may cost: one windowed budget for all of them.

Finagle's retry budget: every call deposits a share of an attempt, every extra attempt withdraws
one, deposits expire with the window, and a small reserve keeps quiet services able to retry. On
top, the extra attempts in flight are bounded by a share of the calls in flight, with a floor: a
token bucket alone lets a burst of hung retries pile up. Denial only suppresses the extra attempt.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from chassis.errors import ConfigurationFault


class BudgetConfig(Struct, frozen=True):
    """`share` of the calls of the last `window_s`, plus `reserve_per_s`; `floor` in flight."""

    share: float = 0.2
    reserve_per_s: float = 10.0
    floor: int = 3
    window_s: float = 10.0
    buckets: int = 10

    def __post_init__(self) -> None:
        if not (0 <= self.share <= 1 and self.window_s > 0 and self.buckets > 0):
            raise ConfigurationFault(
                ["share must be from 0 to 1, window_s and buckets above 0"], what="the budget"
            )


class Budget:
    """Shared by everything that makes extra attempts on one callee. Pure: time is an argument."""

    def __init__(self, config: BudgetConfig | None = None) -> None:
        self.config = config or BudgetConfig()
        self.extra_in_flight = 0
        self.granted = 0
        self.denied = 0
        self._width_s = self.config.window_s / self.config.buckets
        self._reserve = self.config.reserve_per_s * self.config.window_s
        self._balance = 0.0
        self._tick = 0
        self._ends = 0.0
        self._share = self.config.share
        self._buckets: deque[float] = deque([0.0] * self.config.buckets)

    def deposit(self, now: float) -> None:
        """A call's first attempt is made."""
        if now >= self._ends:
            self._turn(now)
        self._buckets[-1] += self._share
        self._balance += self._share

    def withdraw(self, now: float, in_flight: int) -> bool:
        """Asks for one extra attempt; granted ones are given back with `ended`."""
        if now >= self._ends:
            self._turn(now)
        most = max(self.config.floor, self.config.share * in_flight)
        if self.extra_in_flight >= most or self._balance + self._reserve < 1.0:
            self.denied += 1
            return False
        self._buckets[-1] -= 1.0
        self._balance -= 1.0
        self.extra_in_flight += 1
        self.granted += 1
        return True

    def ended(self) -> None:
        """A granted extra attempt is over, however it ended."""
        self.extra_in_flight -= 1

    @property
    def balance(self) -> float:
        """Extra attempts that may still be made, as of the last question."""
        return self._balance + self._reserve

    def _turn(self, now: float) -> None:
        tick = int(now / self._width_s)
        passed, self._tick = tick - self._tick, tick
        for _ in range(min(passed, self.config.buckets)):
            self._buckets.append(0.0)
            self._buckets.popleft()
        self._ends = (tick + 1) * self._width_s
        self._balance = sum(self._buckets)

    def __repr__(self) -> str:
        return f"Budget({self.balance:.1f} left, {self.extra_in_flight} in flight)"
