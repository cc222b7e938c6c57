"""The breaker's state machine. Pure: time and chance come as arguments, nothing is awaited.

```
            too many failed or slow calls              strictly more than the wait
  closed ─────────────────────────────────▶ open ─────────────────────────────────▶ half-open
    ▲                                         ▲                                         │
    │          enough probes went well        │         too many probes failed          │
    └─────────────────────────────────────────┼─────────────────────────────────────────┤
                                              └─────────────────────────────────────────┘
  by hand only: forced-open (refuses all), disabled (counts nothing), metrics-only (never trips)
```

Every change of state starts a new generation. A call is let in with a `Permit` of the present
generation; an outcome told with an older one only counts as `late`. In half-open the permits are
leases: a probe that does not come back in time gives its place away, and its outcome is late.

Judged after resilience4j (a success may be the call that trips, rates below the minimum volume
are not available, leaving open needs more than the wait), with the traps of others avoided: a
probe that is ignored or cancelled gives its place back, and ignored probes cannot keep a breaker
half-open for ever (after `ignored_probes` of them one timely success decides).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct

from chassis.errors import ConfigurationFault
from chassis.resilience.refusals import Reason
from chassis.resilience.window import FAILED, SLOW, CountWindow, TimeWindow, Window

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"  # as pybreaker names them
FORCED_OPEN, DISABLED, METRICS_ONLY = "forced-open", "disabled", "metrics-only"

_REASONS: Mapping[str, str] = {
    OPEN: "open after too many failed or slow calls",
    HALF_OPEN: "half-open, and every probe is out",
    FORCED_OPEN: "forced open by an hand",
}


class BreakerConfig(Struct, frozen=True):
    """When to open, for how long, and how to try again.

    `window` "count": the last `size` calls. "time": the last `buckets` x `bucket_s` seconds.
    `slow_s` None: no call is slow. Rates are shares (0 < rate <= 1) and trip when reached. Open
    lasts `open_s` x `open_factor` to the power of the trips in a row, at most `open_max_s`, half
    of it drawn by chance; a tripping answer's Retry-After lengthens it up to `open_max_s`.
    """

    window: Literal["count", "time"] = "count"
    size: int = 100
    buckets: int = 10
    bucket_s: float = 1.0
    min_calls: int = 20
    failure_rate: float = 0.5
    slow_rate: float = 1.0
    slow_s: float | None = None
    probes: int = 3
    ignored_probes: int = 5
    lease_s: float = 1.0
    open_s: float = 5.0
    open_factor: float = 1.5
    open_max_s: float = 60.0

    def __post_init__(self) -> None:
        counts = ("size", "buckets", "min_calls", "probes", "ignored_probes")
        spans = ("bucket_s", "lease_s", "open_s", "open_factor", "open_max_s")
        faults = [f"{name} must be at least 1" for name in counts if getattr(self, name) < 1]
        faults += [f"{name} must be above 0" for name in spans if not getattr(self, name) > 0]
        for name in ("failure_rate", "slow_rate"):
            if not 0 < getattr(self, name) <= 1:
                faults.append(f"{name} must be above 0 and at most 1")
        if faults:
            raise ConfigurationFault(faults, what="the breaker")

    @property
    def window_shape(self) -> tuple[str, float, float]:
        if self.window == "time":
            return self.window, self.buckets, self.bucket_s
        return self.window, self.size, 0.0

    def fresh_window(self) -> Window:
        if self.window == "time":
            return TimeWindow(self.buckets, self.bucket_s)
        return CountWindow(self.size)


class Permit:
    """The right to make one call; `until` ends a probe's lease. Told back exactly once."""

    __slots__ = ("generation", "until")

    def __init__(self, generation: int, until: float = math.inf) -> None:
        self.generation = generation
        self.until = until


Watcher = Callable[[str, str], None]


class Switch:
    """One breaker's state. `random` is uniform in [0, 1); `p99` the present 99th percentile or 0.

    `changed(old, new)` is called after every change of state.
    """

    def __init__(
        self,
        name: str,
        config: BreakerConfig,
        random: Callable[[], float],
        *,
        p99: Callable[[], float] = lambda: 0.0,
        changed: Watcher = lambda old, new: None,
    ) -> None:
        self.name = name
        self.config = config
        self.state = CLOSED
        self.generation = 0
        self.late = 0
        self.opened_at: float | None = None
        self.window = config.fresh_window()
        self._random = random
        self._p99 = p99
        self._changed = changed
        self._trips = 0
        self._until = -math.inf
        self._leases: set[Permit] = set()
        self._lease_s = 0.0
        self._probes_ended = self._probes_failed = self._probes_slow = self._probes_ignored = 0
        self._shared: Permit | None = Permit(0)
        self._counts: Permit | None = self._shared
        self.reason = self._why()
        self._slow_s = math.inf if config.slow_s is None else config.slow_s

    # letting calls in

    def admit(self, now: float) -> Permit | None:
        """A permit, or None: refused for `self.reason`."""
        if self._shared is not None:
            return self._shared
        if now <= self._until:
            return None
        if self.state == OPEN:
            self._go(HALF_OPEN, now)
        return self._lease(now)

    # hearing how they went

    def succeeded(self, permit: Permit, now: float, elapsed_s: float) -> None:
        slow = SLOW if elapsed_s > self._slow_s else 0
        if permit is self._counts:
            self.window.add(now, slow)
            if (slow or self.window.failures) and self._overstepped():
                self._trip(now, None)
        else:
            self._heard(permit, now, slow, None)

    def failed(
        self, permit: Permit, now: float, elapsed_s: float, retry_after_s: float | None = None
    ) -> None:
        outcome = FAILED | (SLOW if elapsed_s > self._slow_s else 0)
        if permit is self._counts:
            self.window.add(now, outcome)
            if self._overstepped():
                self._trip(now, retry_after_s)
        else:
            self._heard(permit, now, outcome, retry_after_s)

    def ignored(self, permit: Permit) -> None:
        """The outcome says nothing about the callee: only gives the permit back."""
        if permit in self._leases:
            self._leases.discard(permit)
            self._probes_ignored += 1

    def abandoned(self, permit: Permit) -> None:
        """Cancelled from outside: as if the call had never been made."""
        self._leases.discard(permit)

    # by hand

    def force(self, state: str, now: float) -> None:
        """Puts the switch into any state."""
        if state == OPEN:
            self._trip(now, None)
        else:
            self._go(state, now)

    def configure(self, config: BreakerConfig) -> None:
        """Takes a new configuration; the window's calls are kept as far as the new one reaches."""
        if isinstance(self.window, CountWindow) and config.window == "count":
            self.window = CountWindow(config.size, self.window.outcomes())
        elif config.window_shape != self.config.window_shape:
            self.window = config.fresh_window()
        self.config = config
        self._slow_s = math.inf if config.slow_s is None else config.slow_s

    # reading

    @property
    def failure_rate(self) -> float | None:
        """None below the minimum volume: not available."""
        return self.window.failures / self.window.calls if self._voluminous() else None

    @property
    def slow_rate(self) -> float | None:
        """None below the minimum volume: not available."""
        return self.window.slows / self.window.calls if self._voluminous() else None

    @property
    def probes_out(self) -> int:
        return len(self._leases)

    @property
    def probes_succeeded(self) -> int:
        return self._probes_ended - self._probes_failed

    # inside

    def _voluminous(self) -> bool:
        """Whether there are enough calls to judge by; a count window may be smaller than that."""
        least = self.config.min_calls
        if self.config.window == "count":
            least = min(least, self.config.size)
        return self.window.calls >= least

    def _overstepped(self) -> bool:
        window, config = self.window, self.config
        return (
            self.state == CLOSED
            and self._voluminous()
            and (
                window.failures >= config.failure_rate * window.calls
                or window.slows >= config.slow_rate * window.calls
            )
        )

    def _trip(self, now: float, retry_after_s: float | None) -> None:
        config = self.config
        wait = min(config.open_max_s, config.open_s * config.open_factor ** min(self._trips, 64))
        wait = wait / 2 * (1.0 + self._random())
        if retry_after_s is not None:
            wait = max(wait, min(retry_after_s, config.open_max_s))
        self._trips += 1
        self._until = now + wait
        self._go(OPEN, now)

    def _lease(self, now: float) -> Permit | None:
        out = self._leases
        if self._probes_ended + len(out) >= self.config.probes:
            out = self._leases = {permit for permit in out if permit.until > now}
            if self._probes_ended + len(out) >= self.config.probes:
                return None
        permit = Permit(self.generation, now + self._lease_s)
        out.add(permit)
        return permit

    def _heard(self, permit: Permit, now: float, outcome: int, retry_after_s: float | None) -> None:
        """An outcome that no closed window waits for: a probe's, or one that comes late."""
        if permit is self._shared:
            return
        if permit not in self._leases:
            self.late += 1
            return
        self._leases.discard(permit)
        if now > permit.until:
            self.late += 1
            return
        self._probes_ended += 1
        self._probes_failed += outcome & FAILED
        self._probes_slow += outcome >> 1
        self._judge(now, good=not outcome, retry_after_s=retry_after_s)

    def _judge(self, now: float, *, good: bool, retry_after_s: float | None) -> None:
        """Decides as soon as the probes still out cannot change the answer."""
        config = self.config
        failures_open = math.ceil(config.failure_rate * config.probes)
        slows_open = math.ceil(config.slow_rate * config.probes)
        undecided = config.probes - self._probes_ended
        if self._probes_failed >= failures_open or self._probes_slow >= slows_open:
            self._trip(now, retry_after_s)
        elif (good and self._probes_ignored >= config.ignored_probes) or (
            self._probes_failed + undecided < failures_open
            and self._probes_slow + undecided < slows_open
        ):
            self._go(CLOSED, now)

    def _go(self, state: str, now: float) -> None:
        old, self.state = self.state, state
        self.generation += 1
        self._leases = set()
        self._probes_ended = self._probes_failed = self._probes_slow = self._probes_ignored = 0
        self.reason = self._why()
        admits = state in (CLOSED, DISABLED, METRICS_ONLY)
        self._shared = Permit(self.generation) if admits else None
        self._counts = self._shared if state in (CLOSED, METRICS_ONLY) else None
        if state != OPEN:
            self._until = math.inf if state == FORCED_OPEN else -math.inf
        if state == OPEN:
            self.opened_at = now
        elif state == HALF_OPEN:
            self._lease_s = max(self.config.lease_s, self.config.slow_s or 0.0, 3 * self._p99())
        elif state == CLOSED:
            self._trips = 0
            self.window.clear()
        self._changed(old, state)

    def _why(self) -> Reason:
        """Why calls are refused from now on, made once for all of them."""
        return Reason(
            policy="breaker",
            name=self.name,
            reason=_REASONS.get(self.state, ""),
            state=self.state,
            generation=self.generation,
            until=self._until if self.state == OPEN else None,
        )

    def __repr__(self) -> str:
        window = f"{self.window.failures} failed of {self.window.calls}"
        return f"{self.name}: {self.state}, generation {self.generation}, {window}"
