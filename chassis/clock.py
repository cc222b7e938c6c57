"""The only place that reads the time, sleeps, or draws randomness.

`SystemClock` is what processes run on. `ManualClock` moves only when a test says so and wakes
its sleepers in the order of their times.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import random
import time
from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """A scheduled callback that can still be taken back."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Time, waiting and randomness. Seconds everywhere unless a name says otherwise."""

    def monotonic(self) -> float:
        """Seconds on a clock that never steps back; only differences mean anything."""
        ...

    def now(self) -> float:
        """Seconds since the UNIX epoch, UTC."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    def call_later(self, seconds: float, callback: Callable[..., Any], *args: Any) -> Timer: ...

    def random(self) -> float:
        """Uniform in [0, 1). Not for secrets."""
        ...

    def entropy(self, size: int) -> bytes:
        """`size` bytes fit for secrets and identifiers."""
        ...


class SystemClock:
    """The machine's own time and the running event loop's timers."""

    __slots__ = ()

    monotonic = staticmethod(time.monotonic)
    now = staticmethod(time.time)
    random = staticmethod(random.random)
    entropy = staticmethod(os.urandom)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[..., Any], *args: Any) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, callback, *args)


class _Entry:
    __slots__ = ("args", "callback", "cancelled")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.callback = callback
        self.args = args
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock:
    """Stands still until `advance` is called. Randomness comes from a seed."""

    def __init__(self, *, now: float = 1_700_000_000.0, seed: int = 0) -> None:
        self._elapsed = 0.0
        self._start = now
        self._random = random.Random(seed)
        self._order = itertools.count()
        self._due: list[tuple[float, int, _Entry]] = []

    def monotonic(self) -> float:
        return self._elapsed

    def now(self) -> float:
        return self._start + self._elapsed

    def random(self) -> float:
        return self._random.random()

    def entropy(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def call_later(self, seconds: float, callback: Callable[..., Any], *args: Any) -> Timer:
        entry = _Entry(callback, args)
        heapq.heappush(self._due, (self._elapsed + max(0.0, seconds), next(self._order), entry))
        return entry

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, self._wake, woken)
        try:
            await woken
        finally:
            timer.cancel()

    @staticmethod
    def _wake(woken: asyncio.Future[None]) -> None:
        if not woken.done():
            woken.set_result(None)

    def tick(self, seconds: float) -> None:
        """Move time and run what falls due, without letting tasks run in between."""
        target = self._elapsed + seconds
        while self._due and self._due[0][0] <= target:
            when, _, entry = heapq.heappop(self._due)
            self._elapsed = max(self._elapsed, when)
            if not entry.cancelled:
                entry.callback(*entry.args)
        self._elapsed = target

    def stall(self, seconds: float) -> None:
        """Move time as for a loop that stood still: what fell due meanwhile runs late."""
        self._elapsed += seconds
        self.tick(0)

    async def advance(self, seconds: float) -> None:
        """Move time and let every task that falls due run before time goes on."""
        target = self._elapsed + seconds
        await self._settle()
        while self._due and self._due[0][0] <= target:
            self.tick(self._due[0][0] - self._elapsed)
            await self._settle()
        self._elapsed = target

    @staticmethod
    async def _settle() -> None:
        for _ in range(20):
            await asyncio.sleep(0)


SYSTEM: Clock = SystemClock()
