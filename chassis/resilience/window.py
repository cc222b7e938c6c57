"""Outcomes of the recent past in constant time: the last N calls, or the last N buckets of time.

Both keep running sums, so reading a rate costs nothing. Pure: time comes as an argument.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol

FAILED = 1
SLOW = 2


class Window(Protocol):
    """What a breaker judges by."""

    calls: int
    failures: int
    slows: int

    def add(self, now: float, outcome: int) -> None:
        """Records one call: 0, or FAILED and SLOW or-ed."""
        ...

    def turn(self, now: float) -> None:
        """Forgets what is too old by `now`; `add` does so by itself."""
        ...

    def clear(self) -> None: ...


class CountWindow:
    """The last `size` calls."""

    __slots__ = ("_outcomes", "calls", "failures", "size", "slows")

    def __init__(self, size: int, outcomes: Iterable[int] = ()) -> None:
        self.size = size
        self._outcomes: deque[int] = deque()
        self.calls = self.failures = self.slows = 0
        for outcome in outcomes:
            self.add(0.0, outcome)

    def add(self, now: float, outcome: int) -> None:
        outcomes = self._outcomes
        outcomes.append(outcome)
        if self.calls < self.size:
            self.calls += 1
        else:
            oldest = outcomes.popleft()
            if oldest:
                self.failures -= oldest & FAILED
                self.slows -= oldest >> 1
        if outcome:
            self.failures += outcome & FAILED
            self.slows += outcome >> 1

    def turn(self, now: float) -> None:
        """Calls do not age here."""

    def clear(self) -> None:
        self._outcomes.clear()
        self.calls = self.failures = self.slows = 0

    def outcomes(self) -> Iterator[int]:
        """Oldest first."""
        return iter(self._outcomes)


class TimeWindow:
    """The last `buckets` buckets of `width_s` seconds each, the present one included."""

    __slots__ = (
        "_buckets",
        "_ends",
        "_now",
        "_tick",
        "buckets",
        "calls",
        "failures",
        "slows",
        "width_s",
    )

    def __init__(self, buckets: int, width_s: float) -> None:
        self.buckets = buckets
        self.width_s = width_s
        self._tick = 0
        self.clear()

    def add(self, now: float, outcome: int) -> None:
        if now >= self._ends:
            self.turn(now)
        bucket = self._now
        bucket[0] += 1
        self.calls += 1
        if outcome:
            bucket[1] += outcome & FAILED
            bucket[2] += outcome >> 1
            self.failures += outcome & FAILED
            self.slows += outcome >> 1

    def turn(self, now: float) -> None:
        tick = int(now / self.width_s)
        passed, self._tick = tick - self._tick, tick
        self._ends = (tick + 1) * self.width_s
        for _ in range(min(passed, self.buckets)):
            self._now = [0, 0, 0]
            self._buckets.append(self._now)
            calls, failures, slows = self._buckets.popleft()
            self.calls -= calls
            self.failures -= failures
            self.slows -= slows

    def clear(self) -> None:
        self.calls = self.failures = self.slows = 0
        self._buckets: deque[list[int]] = deque([0, 0, 0] for _ in range(self.buckets))
        self._now = self._buckets[-1]
        self._ends = 0.0
        self._tick = 0
