"""All protections of one call in one coroutine, outermost first:

    deadline -> bulkhead -> breaker permit -> per-try timeout -> call

What is refused before the breaker never counts against it; the breaker's permit is taken last, so
nothing after it can refuse and leave a probe's place empty. Each await can be cancelled and gives
everything back. With a `Retry` the whole row is one attempt of its loop.

The row is written out in a single coroutine, not composed from the gates, because every frame in
between would cost as much as a policy. Counters are plain integers; `snapshot()` reads them.
"""

from __future__ import annotations

import math
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from msgspec import Struct

from chassis.clock import SYSTEM, Clock
from chassis.deadline import Deadline
from chassis.errors import DeadlineExceeded, OriginTimeout
from chassis.resilience.breaker import Breaker, BreakerConfig
from chassis.resilience.budget import Budget
from chassis.resilience.bulkhead import Bulkhead, BulkheadConfig
from chassis.resilience.latency import Latencies
from chassis.resilience.refusals import BreakerOpen, BulkheadFull
from chassis.resilience.retry import Retry, RetryConfig
from chassis.resilience.switch import Permit
from chassis.resilience.timeout import TimeoutConfig, TimerWheel, late
from chassis.resilience.verdict import Verdict, verdict_of

T = TypeVar("T")


class PolicySnapshot(Struct, frozen=True):
    """A policy's state and counts since its start. Rates are None below the minimum volume.

    `success` includes answers that are the caller's fault; `failure` excludes `timeout`;
    `rejected` is the bulkhead's, `short_circuited` the breaker's, `expired` the deadline's;
    `late` are outcomes of an earlier state; `latency` is (seconds, calls below them).
    """

    name: str
    state: str
    generation: int
    in_flight: int
    limit: int
    success: int
    failure: int
    timeout: int
    short_circuited: int
    rejected: int
    expired: int
    ignored: int
    abandoned: int
    late: int
    retries: int
    failure_rate: float | None
    slow_rate: float | None
    latency: tuple[tuple[float, int], ...]
    latency_total_s: float


class Policy:
    """One command's protections: `await policy.call(fn, *args, deadline=deadline)`."""

    retry: Retry | None = None

    def __init__(
        self,
        name: str,
        timeout: TimeoutConfig | None,
        bulkhead: BulkheadConfig,
        breaker: BreakerConfig,
        *,
        clock: Clock,
        wheel: TimerWheel | None,
        classify: Callable[[Exception], Verdict],
    ) -> None:
        self.name = name
        self.latencies = Latencies()
        self.bulkhead = Bulkhead(name, bulkhead, clock)
        self.breaker = Breaker(
            name, breaker, clock=clock, classify=classify, p99=self.latencies.p99
        )
        self.timeout_s = None if timeout is None else timeout.timeout_s
        self.success = self.failure = self.timeout = 0
        self.expired = self.ignored = self.abandoned = 0
        self._switch = self.breaker.switch
        self._wheel = wheel or TimerWheel(clock)
        self._monotonic = clock.monotonic

    async def call(
        self, fn: Callable[..., Awaitable[T]], *args: Any, deadline: Deadline | None = None
    ) -> T:
        """Awaits `fn(*args)` under the policy; raises its failures, or a refusal or timeout."""
        started = self._monotonic()
        timeout_s = self.timeout_s if deadline is None else self.within(deadline, started)
        permit = self.enter(started)
        expiry = None if timeout_s is None else self._wheel.arm(timeout_s, started)
        try:
            result = await fn(*args)
        except CancelledError:
            if expiry is None or not expiry.take_back():
                self.abandon(permit)
                raise
            raise self.late(permit, started, timeout_s or 0.0) from None
        except BaseException as failure:
            if expiry is not None:
                expiry.take_back()
            self.fail(permit, failure, started)
            raise
        finally:
            if expiry is not None:
                expiry.disarm()
        self.succeed(permit, started)
        if expiry is not None and expiry.fired:
            expiry.take_back()
        return result

    # the row's two ends, for whoever writes it out itself: `enter`, then one of the four others

    def within(self, deadline: Deadline, now: float) -> float | None:
        """Seconds that the attempt may take: its timeout, or what the deadline leaves of it."""
        left = deadline.at - now
        if left <= 0:
            self.expired += 1
            raise DeadlineExceeded(f"the deadline passed before {self.name} was called")
        timeout_s = self.timeout_s
        if timeout_s is not None and timeout_s <= left:
            return timeout_s
        return None if left == math.inf else left

    def enter(self, now: float) -> Permit:
        """Takes a place and a permit, or raises the refusal."""
        bulkhead = self.bulkhead
        if bulkhead.in_flight >= bulkhead.limit:
            bulkhead.rejected += 1
            raise BulkheadFull(bulkhead.reason, now)
        permit = self._switch.admit(now)
        if permit is None:
            self.breaker.not_permitted += 1
            raise BreakerOpen(self._switch.reason, now)
        bulkhead.in_flight += 1
        return permit

    def succeed(self, permit: Permit, started: float) -> None:
        now = self._monotonic()
        elapsed_s = now - started
        self.bulkhead.in_flight -= 1
        self.success += 1
        self.latencies.observe(elapsed_s)
        self._switch.succeeded(permit, now, elapsed_s)
        if self.breaker.heard:
            self.breaker.tell("success")

    def abandon(self, permit: Permit) -> None:
        """Cancelled from outside: as if the call had never been made."""
        self.bulkhead.in_flight -= 1
        self.abandoned += 1
        self._switch.abandoned(permit)

    def late(
        self, permit: Permit, started: float, given_s: float
    ) -> OriginTimeout | DeadlineExceeded:
        """What a call that had `given_s` fails with when they have passed.

        Our own timeout is the callee's failure. So is the caller's deadline, unless it left the
        callee less than half of its timeout: then it says nothing.
        """
        self.bulkhead.in_flight -= 1
        self.timeout += 1
        failure = OriginTimeout(late(self.name, given_s))
        full = self.timeout_s
        if full is not None and given_s < full / 2:
            self._switch.ignored(permit)
        else:
            self.breaker.failed(permit, failure, started)
        if full is not None and given_s >= full:
            return failure
        return DeadlineExceeded(f"the deadline passed while {self.name} was called")

    def fail(self, permit: Permit, failure: BaseException, started: float) -> None:
        self.bulkhead.in_flight -= 1
        verdict = self.breaker.failed(permit, failure, started)
        if verdict is Verdict.FAILURE:
            self.failure += 1
        elif verdict is Verdict.SUCCESS:
            self.success += 1
        elif verdict is Verdict.IGNORED:
            self.ignored += 1
        else:
            self.abandoned += 1

    def snapshot(self) -> PolicySnapshot:
        switch = self._switch
        switch.window.turn(self._monotonic())
        return PolicySnapshot(
            name=self.name,
            state=switch.state,
            generation=switch.generation,
            in_flight=self.bulkhead.in_flight,
            limit=self.bulkhead.limit,
            success=self.success,
            failure=self.failure,
            timeout=self.timeout,
            short_circuited=self.breaker.not_permitted,
            rejected=self.bulkhead.rejected,
            expired=self.expired,
            ignored=self.ignored,
            abandoned=self.abandoned,
            late=switch.late,
            retries=0 if self.retry is None else self.retry.retries,
            failure_rate=switch.failure_rate,
            slow_rate=switch.slow_rate,
            latency=self.latencies.cumulative(),
            latency_total_s=self.latencies.total_s,
        )

    def __repr__(self) -> str:
        share = f"{self.bulkhead.in_flight}/{self.bulkhead.limit} in flight"
        timeout = "no timeout" if self.timeout_s is None else f"timeout {self.timeout_s:g} s"
        return f"{type(self).__name__}({self._switch!r}, {share}, {timeout})"


class RetryingPolicy(Policy):
    """The same row as one attempt of a retry loop."""

    retry: Retry

    async def call(
        self, fn: Callable[..., Awaitable[T]], *args: Any, deadline: Deadline | None = None
    ) -> T:
        started = self._monotonic()
        self.retry.budget.deposit(started)
        try:
            return await Policy.call(self, fn, *args, deadline=deadline)
        except Exception as failure:
            first = failure

        def attempt() -> Awaitable[T]:
            return Policy.call(self, fn, *args, deadline=deadline)

        return await self.retry.again(first, attempt, started, deadline)


def policy(
    name: str,
    *,
    timeout_s: float | None,
    bulkhead: int | BulkheadConfig = 64,
    breaker: BreakerConfig | None = None,
    retry: RetryConfig | None = None,
    budget: Budget | None = None,
    clock: Clock = SYSTEM,
    wheel: TimerWheel | None = None,
    classify: Callable[[Exception], Verdict] = verdict_of,
) -> Policy:
    """One command's policy. Share `wheel` within an event loop and `budget` within a cluster."""
    made = (Policy if retry is None else RetryingPolicy)(
        name,
        None if timeout_s is None else TimeoutConfig(timeout_s),
        BulkheadConfig(bulkhead) if isinstance(bulkhead, int) else bulkhead,
        breaker or BreakerConfig(),
        clock=clock,
        wheel=wheel,
        classify=classify,
    )
    if retry is not None:
        made.retry = Retry(
            name,
            retry,
            budget,
            clock=clock,
            in_flight=lambda: made.bulkhead.in_flight,
            p50=made.latencies.p50,
        )
    return made
