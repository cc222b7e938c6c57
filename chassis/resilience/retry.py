"""Further attempts after a failure: tenacity's strategy objects, driven by a loop of our own.

tenacity's `wait_*`, `stop_*` and `retry_if_*` objects are the configuration. Its own drivers are
not used: they cost 12-17 us a call that never retries, and one shared by several tasks mixes
their attempts up. Here nothing is built before the first failure, and what an attempt needs to
know lives in the call, so one `Retry` is safe under any concurrency.

Local refusals are never retried. The caller gets the last real error, at once when waiting would
outlast the deadline.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import tenacity
from tenacity.retry import retry_base
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from chassis.clock import SYSTEM, Clock
from chassis.deadline import Deadline
from chassis.errors import Refusal, Retryable, StagedoorError
from chassis.resilience.budget import Budget

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """`idempotent`: repeating the call is harmless. `retry` replaces what failures say of
    themselves with a tenacity predicate."""

    stop: stop_base = field(default_factory=lambda: tenacity.stop_after_attempt(3))
    wait: wait_base = field(
        default_factory=lambda: tenacity.wait_random_exponential(multiplier=0.05, max=1.0)
    )
    retry: retry_base | None = None
    idempotent: bool = True

    @classmethod
    def of(cls, retrying: tenacity.BaseRetrying, *, idempotent: bool = True) -> RetryConfig:
        """The strategy of any tenacity object."""
        return cls(retrying.stop, retrying.wait, retrying.retry, idempotent)  # type: ignore[arg-type]


class Outcome:
    """An attempt's failure, as tenacity's strategies expect to find it."""

    __slots__ = ("_failure", "attempt_number")
    failed = True

    def __init__(self, failure: BaseException, attempt_number: int) -> None:
        self._failure = failure
        self.attempt_number = attempt_number

    def exception(self) -> BaseException:
        return self._failure

    def result(self) -> Any:
        raise self._failure


class CallState:
    """One call's attempts so far: the part of tenacity.RetryCallState that strategies read."""

    def __init__(self, fn: Callable[[], Awaitable[Any]], started: float) -> None:
        self.fn = fn
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        self.start_time = started
        self.attempt_number = 1
        self.idle_for = 0.0
        self.upcoming_sleep = 0.0
        self.seconds_since_start = 0.0
        self.outcome: Outcome | None = None
        self.outcome_timestamp = started

    def failed(self, failure: Exception, now: float) -> None:
        self.outcome = Outcome(failure, self.attempt_number)
        self.outcome_timestamp = now
        self.seconds_since_start = now - self.start_time


class Retry:
    """The gate; `in_flight` and `p50` tell it of the calls it belongs to."""

    def __init__(
        self,
        name: str,
        config: RetryConfig | None = None,
        budget: Budget | None = None,
        *,
        clock: Clock = SYSTEM,
        in_flight: Callable[[], int] = lambda: 0,
        p50: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.name = name
        self.config = config or RetryConfig()
        self.budget = budget or Budget()
        self.retries = 0
        self.exhausted = 0
        self._clock = clock
        self._in_flight = in_flight
        self._p50 = p50

    async def call(
        self, fn: Callable[..., Awaitable[T]], *args: Any, deadline: Deadline | None = None
    ) -> T:
        started = self._clock.monotonic()
        self.budget.deposit(started)
        try:
            return await fn(*args)
        except Exception as failure:
            first = failure
        return await self.again(first, lambda: fn(*args), started, deadline)

    async def again(
        self,
        failure: Exception,
        attempt: Callable[[], Awaitable[T]],
        started: float,
        deadline: Deadline | None,
    ) -> T:
        """The attempts after the first, which began at `started` and ended with `failure`."""
        state = CallState(attempt, started)
        while True:
            wait = self._wait_s(failure, state, deadline)
            if wait is None or not self.budget.withdraw(self._clock.monotonic(), self._in_flight()):
                self.exhausted += 1
                raise failure
            try:
                if wait > 0:
                    await self._clock.sleep(wait)
                state.attempt_number += 1
                state.idle_for += wait
                self.retries += 1
                return await attempt()
            except Refusal:  # of our own side: it must not hide what the callee answered
                self.exhausted += 1
                raise failure from None
            except Exception as again:
                failure = again
            finally:
                self.budget.ended()

    def _wait_s(
        self, failure: Exception, state: CallState, deadline: Deadline | None
    ) -> float | None:
        """Seconds before the next attempt; None: there is none."""
        config: Any = self.config
        state.failed(failure, self._clock.monotonic())
        if not self._retryable(failure, state):
            return None
        wait = float(config.wait(state))
        after = getattr(failure, "retry_after_s", None)
        wait = max(wait, after or 0.0)
        state.upcoming_sleep = wait
        if config.stop(state):
            return None
        if deadline is not None and wait + self._p50() >= deadline.remaining():
            return None
        return wait

    def _retryable(self, failure: Exception, state: CallState) -> bool:
        if isinstance(failure, Refusal):
            return False
        if self.config.retry is not None:
            predicate: Any = self.config.retry
            return bool(predicate(state))
        if not isinstance(failure, StagedoorError):
            return False
        allowed = (
            (Retryable.ALWAYS, Retryable.IDEMPOTENT)
            if self.config.idempotent
            else (Retryable.ALWAYS,)
        )
        return failure.retryable in allowed

    def __repr__(self) -> str:
        return f"Retry({self.name}: {self.retries} retries, {self.budget!r})"
