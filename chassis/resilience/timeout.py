"""Timeouts of single attempts on one shared timer wheel.

`asyncio.timeout` costs 3.3 us, most of it the timer of its own. A wheel keeps all expiries of one
10 ms tick in a list and one real timer for the earliest tick, so arming is an append and disarming
a flag. Below 50 ms, where a tick would be coarse, an expiry gets a real timer after all.

Cancellation follows asyncio.timeout's protocol: the expiry cancels the task, and who armed it
takes that cancellation back with `uncancel`. Only when no other request to cancel is left was the
CancelledError the expiry's own; a cancellation from outside is never turned into a timeout.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError, current_task
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from msgspec import Struct

from chassis.clock import SYSTEM, Clock, Timer
from chassis.errors import ConfigurationFault, OriginTimeout

T = TypeVar("T")

_TICK_S = 0.01
_PRECISE_BELOW_S = 0.05


class TimeoutConfig(Struct, frozen=True):
    """How long one attempt may take, in seconds."""

    timeout_s: float = 1.0

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise ConfigurationFault(["timeout_s must be above 0"], what="the timeout")


class Alarm(Struct, eq=False):
    """Something that `fire`s at its time unless it is disarmed before, which every way out does."""

    due: set[Alarm] | None = None
    """What falls due with it: it leaves as soon as it is disarmed, so that what it holds is used
    again while it is still in the cache."""
    timer: Timer | None = None
    armed: bool = True

    def disarm(self) -> None:
        self.armed = False
        if self.due is not None:
            self.due.discard(self)
        if self.timer is not None:
            self.timer.cancel()

    def fire(self) -> None:
        raise NotImplementedError


class Expiry(Alarm, eq=False, kw_only=True):
    """A task's pending cancellation."""

    task: asyncio.Task[Any]
    requests: int
    fired: bool = False

    def take_back(self) -> bool:
        """After it fired: withdraws its request; True when no other request to cancel is left."""
        return self.fired and self.task.uncancel() <= self.requests

    def fire(self) -> None:
        if self.armed:
            self.armed = False
            self.fired = True
            self.task.cancel()


class TimerWheel:
    """All alarms of one event loop. Never early, late by a tick at most."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._monotonic = clock.monotonic
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticks: dict[int, set[Alarm]] = {}
        self._next = 0
        self._timer: Timer | None = None

    def arm(self, seconds: float, now: float) -> Expiry:
        """Cancels the running task in `seconds` from `now`, unless disarmed before."""
        task = current_task(self._loop or self._running_loop())
        assert task is not None
        expiry = Expiry(task=task, requests=task.cancelling())
        self.set(expiry, seconds, now)
        return expiry

    def set(self, alarm: Alarm, seconds: float, now: float) -> None:
        """Fires `alarm` in `seconds` from `now`, unless it is disarmed before."""
        if seconds < _PRECISE_BELOW_S:
            alarm.timer = self._clock.call_later(seconds, alarm.fire)
            return
        tick = int((now + seconds) / _TICK_S) + 1
        due = self._ticks.get(tick)
        if due is None:
            due = self._ticks[tick] = set()
            if self._timer is None or tick < self._next:
                self._sleep_until(tick, now)
        alarm.due = due
        due.add(alarm)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """Kept: asking asyncio for it costs a system call each time."""
        self._loop = asyncio.get_running_loop()
        return self._loop

    def _sleep_until(self, tick: int, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = tick
        self._timer = self._clock.call_later(max(0.0, tick * _TICK_S - now), self._turn)

    def _turn(self) -> None:
        now = self._monotonic()
        present = int(now / _TICK_S + 1e-6)
        for tick in sorted(tick for tick in self._ticks if tick <= present):
            for alarm in list(self._ticks.pop(tick)):
                alarm.fire()
        self._timer = None
        if self._ticks:
            self._sleep_until(min(self._ticks), now)

    @property
    def armed(self) -> int:
        """How many alarms may still fire."""
        return sum(alarm.armed for due in self._ticks.values() for alarm in due)

    def __repr__(self) -> str:
        return f"TimerWheel({self.armed} armed)"


class Timeout:
    """The gate on its own: `await timeout.call(fn, *args)` raises `OriginTimeout` when late."""

    def __init__(
        self,
        name: str,
        config: TimeoutConfig,
        clock: Clock = SYSTEM,
        wheel: TimerWheel | None = None,
    ) -> None:
        self.name = name
        self.config = config
        self.timeouts = 0
        self._monotonic = clock.monotonic
        self._wheel = wheel or TimerWheel(clock)

    async def call(self, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        expiry = self._wheel.arm(self.config.timeout_s, self._monotonic())
        try:
            result = await fn(*args)
        except CancelledError:
            if not expiry.take_back():
                raise
            self.timeouts += 1
            raise OriginTimeout(late(self.name, self.config.timeout_s)) from None
        except BaseException:
            expiry.take_back()
            raise
        finally:
            expiry.disarm()
        expiry.take_back()
        return result

    def __repr__(self) -> str:
        return f"Timeout({self.name}: {self.config.timeout_s:g} s, {self.timeouts} passed)"


def late(name: str, seconds: float) -> str:
    return f"{name} did not answer within {seconds * 1000:.0f} ms"
