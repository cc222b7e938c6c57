"""Wrong attempts, counted for each key over a window of time."""

from __future__ import annotations

import math
from collections.abc import Hashable

import msgspec

from chassis.errors import RateLimited


class AttemptLimit(msgspec.Struct, frozen=True):
    wrong: int
    window_s: float


SIGN_IN = AttemptLimit(5, 900.0)
"""Wrong passwords for one account from one address."""
ADDRESS = AttemptLimit(100, 900.0)
"""Wrong passwords from one address, whatever the account."""
USER_CODE = AttemptLimit(10, 900.0)
"""Wrong device codes typed in by one account."""


class Attempts:
    """After `limit.wrong` wrong ones the key is refused until the window since the first ends.

    Bounded: beyond `capacity` keys, those that began longest ago are forgotten.
    """

    def __init__(self, limit: AttemptLimit, *, capacity: int = 50_000) -> None:
        self._limit = limit
        self._capacity = capacity
        self._counts: dict[Hashable, tuple[float, int]] = {}

    def __repr__(self) -> str:
        return f"Attempts(keys={len(self._counts)}, {self._limit!r})"

    def check(self, key: Hashable, now: float) -> None:
        """`RateLimited` with the time to wait when the key has used up its attempts."""
        since, count = self._live(key, now)
        if count >= self._limit.wrong:
            wait_s = since + self._limit.window_s - now
            raise RateLimited(
                f"too many wrong attempts; try again in {math.ceil(wait_s)} s",
                code="too_many_attempts",
                retry_after_s=wait_s,
            )

    def wrong(self, key: Hashable, now: float) -> None:
        since, count = self._live(key, now)
        self._counts.pop(key, None)
        self._counts[key] = (since, count + 1)
        if len(self._counts) > self._capacity:
            self._shrink(now)

    def right(self, key: Hashable) -> None:
        self._counts.pop(key, None)

    def _live(self, key: Hashable, now: float) -> tuple[float, int]:
        since, count = self._counts.get(key, (now, 0))
        return (since, count) if now < since + self._limit.window_s else (now, 0)

    def _shrink(self, now: float) -> None:
        for key in [key for key in self._counts if self._live(key, now)[1] == 0]:
            del self._counts[key]
        while len(self._counts) > self._capacity:
            del self._counts[next(iter(self._counts))]
