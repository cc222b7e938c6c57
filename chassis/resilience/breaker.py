"""The breaker: pybreaker's names, states, listeners and error, on a state machine of our own.

pybreaker 1.4 cannot be used under asyncio as it is: a decorated coroutine function never opens
it, `calling()` lets every concurrent half-open probe through and counts a cancellation as a
failure, `exclude` counts as success, and a lock is held for the whole call. So its class stays
for what users hold in their hands (isinstance checks, listeners, `state`, `open()`, decorators),
and `switch.Switch` decides. Do not use one from several threads' event loops at once; the
synchronous face is safe from any thread.

    breaker = Breaker("titles")
    answer = await breaker.acall(fetch, title)      # or @breaker on a function of either kind
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, TypeVar

import pybreaker

from chassis.clock import SYSTEM, Clock
from chassis.resilience.refusals import BreakerOpen
from chassis.resilience.switch import (
    CLOSED,
    DISABLED,
    FORCED_OPEN,
    HALF_OPEN,
    METRICS_ONLY,
    OPEN,
    BreakerConfig,
    Permit,
    Switch,
)
from chassis.resilience.verdict import Verdict, verdict_of

__all__ = ["Breaker", "BreakerConfig", "BreakerOpen"]

T = TypeVar("T")


class Breaker(pybreaker.CircuitBreaker):
    """A switch for calls to one callee. `exclude` (types or predicates) is ignored, not success."""

    def __init__(
        self,
        name: str,
        config: BreakerConfig | None = None,
        *,
        clock: Clock = SYSTEM,
        classify: Callable[[Exception], Verdict] = verdict_of,
        exclude: Iterable[type[BaseException] | Callable[[Any], bool]] = (),
        listeners: Sequence[pybreaker.CircuitBreakerListener] = (),
        p99: Callable[[], float] = lambda: 0.0,
    ) -> None:
        config = config or BreakerConfig()
        self.switch = Switch(name, config, clock.random, p99=p99, changed=self._changed)
        self.not_permitted = 0
        self.listener_faults = 0
        self._clock = clock
        self._monotonic = clock.monotonic
        self._classify = classify
        super().__init__(
            fail_max=config.min_calls,
            reset_timeout=config.open_s,
            success_threshold=config.probes,
            exclude=list(exclude),
            listeners=list(listeners),
            state_storage=_Storage(self.switch, clock),
            name=name,
            throw_new_error_on_trip=False,
        )

    # calling

    async def acall(self, fn: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        """Awaits `fn`; raises `BreakerOpen` instead when the breaker does not let it through."""
        started = self._monotonic()
        permit = self.switch.admit(started)
        if permit is None:
            raise self.refused(started)
        if self._listeners:
            self.tell("before_call", fn, *args, **kwargs)
        try:
            result = await fn(*args, **kwargs)
        except BaseException as failure:
            self.failed(permit, failure, started)
            raise
        now = self._monotonic()
        self.switch.succeeded(permit, now, now - started)
        if self._listeners:
            self.tell("success")
        return result

    def call(self, func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """The synchronous face; of a coroutine function it returns the awaitable of `acall`."""
        if inspect.iscoroutinefunction(func):
            return self.acall(func, *args, **kwargs)  # type: ignore[return-value]
        with self.calling():
            return func(*args, **kwargs)

    @contextlib.contextmanager
    def calling(self) -> Iterator[None]:
        """The block is one call; may contain awaits."""
        started = self._monotonic()
        with self._lock:
            permit = self.switch.admit(started)
        if permit is None:
            raise self.refused(started)
        try:
            yield
        except BaseException as failure:
            with self._lock:
                self.failed(permit, failure, started)
            raise
        with self._lock:
            now = self._monotonic()
            self.switch.succeeded(permit, now, now - started)
        self.tell("success")

    def call_async(self, func: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> Any:
        return self.acall(func, *args, **kwargs)

    def __call__(self, *call_args: Any, **_: Any) -> Callable[..., Any]:
        """`@breaker` or `@breaker()` on a function of either kind."""
        return self._wrapped(call_args[0]) if call_args else self._wrapped

    def _wrapped(self, func: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(func):

            @wraps(func)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                return await self.acall(func, *args, **kwargs)

            return awaited

        @wraps(func)
        def called(*args: Any, **kwargs: Any) -> Any:
            return self.call(func, *args, **kwargs)

        return called

    # the permit's two ends, for policies that fuse the call in

    def refused(self, now: float) -> BreakerOpen:
        self.not_permitted += 1
        return BreakerOpen(self.switch.reason, now)

    def failed(self, permit: Permit, failure: BaseException, started: float) -> Verdict | None:
        """Gives the permit back with what `failure` says; None: a cancellation says nothing."""
        if not isinstance(failure, Exception):
            self.switch.abandoned(permit)
            return None
        now = self._monotonic()
        verdict = self._verdict(failure)
        if verdict is Verdict.FAILURE:
            after = getattr(failure, "retry_after_s", None)
            self.switch.failed(permit, now, now - started, after)
            self.tell("failure", failure)
        elif verdict is Verdict.SUCCESS:
            self.switch.succeeded(permit, now, now - started)
            self.tell("success")
        else:
            self.switch.ignored(permit)
        return verdict

    def _verdict(self, failure: Exception) -> Verdict:
        if self._excluded_exceptions and not self.is_system_error(failure):
            return Verdict.IGNORED
        return self._classify(failure)

    # by hand

    def open(self) -> bool:
        self.switch.force(OPEN, self._monotonic())
        return False

    def half_open(self) -> None:
        self.switch.force(HALF_OPEN, self._monotonic())

    def close(self) -> None:
        self.switch.force(CLOSED, self._monotonic())

    def force_open(self) -> None:
        """Refuses everything until told otherwise."""
        self.switch.force(FORCED_OPEN, self._monotonic())

    def disable(self) -> None:
        """Lets everything through and counts nothing."""
        self.switch.force(DISABLED, self._monotonic())

    def metrics_only(self) -> None:
        """Counts, and never opens."""
        self.switch.force(METRICS_ONLY, self._monotonic())

    def configure(self, config: BreakerConfig) -> None:
        """Takes effect at once and keeps the window."""
        self.switch.configure(config)

    @property
    def heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    # pybreaker's inside

    @property
    def state(self) -> Any:
        """pybreaker's state object; its `name` is the state's."""
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        self.switch.force(state, self._monotonic())

    def _create_new_state(
        self, new_state: str, prev_state: Any = None, notify: bool = False
    ) -> Any:
        return _STATES[new_state](self, new_state)

    def _changed(self, old: str, new: str) -> None:
        before, self._state = self._state, self._create_new_state(new)
        self.tell("state_change", before, self._state)

    def tell(self, what: str, *args: Any, **kwargs: Any) -> None:
        """Calls every listener's `what`; what it raises is counted and never reaches the call."""
        for listener in self._listeners:
            try:
                getattr(listener, what)(self, *args, **kwargs)
            except Exception:
                self.listener_faults += 1

    def __repr__(self) -> str:
        return f"Breaker({self.switch!r})"


class _State(pybreaker.CircuitBreakerState):
    """A name; all decisions are the switch's."""

    def __init__(self, cb: Breaker, name: str) -> None:
        super().__init__(cb, name)

    def call(self, func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return self._breaker.call(func, *args, **kwargs)


class _Closed(_State, pybreaker.CircuitClosedState):
    def __init__(self, cb: Breaker, name: str) -> None:
        pybreaker.CircuitBreakerState.__init__(self, cb, name)


class _Open(_State, pybreaker.CircuitOpenState):
    def __init__(self, cb: Breaker, name: str) -> None:
        pybreaker.CircuitBreakerState.__init__(self, cb, name)


class _HalfOpen(_State, pybreaker.CircuitHalfOpenState):
    def __init__(self, cb: Breaker, name: str) -> None:
        pybreaker.CircuitBreakerState.__init__(self, cb, name)


_STATES: Mapping[str, type[_State]] = {
    CLOSED: _Closed,
    OPEN: _Open,
    HALF_OPEN: _HalfOpen,
    FORCED_OPEN: _Open,
    DISABLED: _Closed,
    METRICS_ONLY: _Closed,
}


class _Storage(pybreaker.CircuitBreakerStorage):
    """Answers pybreaker's questions from the switch; nothing is stored twice."""

    def __init__(self, switch: Switch, clock: Clock) -> None:
        super().__init__("switch")
        self._switch = switch
        self._clock = clock

    @property  # type: ignore[misc]  # the switch sets it
    def state(self) -> str:
        return self._switch.state

    @property
    def counter(self) -> int:
        return self._switch.window.failures

    @property
    def success_counter(self) -> int:
        return self._switch.probes_succeeded

    @property  # type: ignore[misc]  # the switch sets it
    def opened_at(self) -> datetime | None:
        at = self._switch.opened_at
        if at is None:
            return None
        ago = timedelta(seconds=self._clock.monotonic() - at)
        return datetime.fromtimestamp(self._clock.now(), UTC) - ago
