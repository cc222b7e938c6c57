"""What retries and hedges may cost a cluster: one allowance for both, a fifth of its traffic.

Pure: time and the number of calls come as arguments. Calls are not counted here, but read from the
counters of the first attempts when the allowance is asked for, or once a second: a request that
needs no second attempt pays nothing.
"""

from __future__ import annotations

from collections import deque

SHARE = 0.2
FLOOR = 3
UNSENT_FLOOR = 10
"""Attempts that provably reached nobody: enough to get past a dead instance until it is ejected."""
WINDOW_S = 10


class RetryBudget:
    """Extra attempts of the last ten seconds: at most a fifth of the calls, but always a few."""

    __slots__ = ("_marks", "_tick", "denied", "granted")

    def __init__(self) -> None:
        self.granted = 0
        self.denied = 0
        self._tick = 0
        self._marks: deque[tuple[int, int]] = deque([(0, 0)] * WINDOW_S, WINDOW_S)
        """(calls, granted) at the beginning of each second of the window."""

    def settle(self, calls: int, now: float) -> None:
        """Closes the seconds that have passed; `calls` is how many there have been in all."""
        tick = int(now)
        passed, self._tick = tick - self._tick, tick
        for _ in range(min(passed, WINDOW_S)):
            self._marks.append((calls, self.granted))

    def withdraw(self, calls: int, now: float, floor: int = FLOOR) -> bool:
        """Asks for one extra attempt. A refusal suppresses only that."""
        self.settle(calls, now)
        if self._used() >= int(max(floor, self._allowed(calls))):
            self.denied += 1
            return False
        self.granted += 1
        return True

    def ratio(self, calls: int, now: float) -> float:
        """The part of the allowance that is used up: 1 when there is none left."""
        self.settle(calls, now)
        return self._used() / max(FLOOR, self._allowed(calls))

    def _used(self) -> int:
        return self.granted - self._marks[0][1]

    def _allowed(self, calls: int) -> float:
        return SHARE * (calls - self._marks[0][0])

    def __repr__(self) -> str:
        return f"RetryBudget({self._used()} used, {self.granted} granted, {self.denied} denied)"
