"""The breaker's state machine: its cases by name, and a plain model for all the others."""

from __future__ import annotations

import math

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from chassis.errors import ConfigurationFault
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

CONFIG = BreakerConfig(size=10, min_calls=4, probes=3, open_s=10.0, slow_s=1.0, slow_rate=0.5)


def switch(config: BreakerConfig = CONFIG, random: float = 1.0, p99: float = 0.0) -> Switch:
    """`random` 1 makes the wait exactly `open_s`."""
    return Switch("test", config, lambda: random, p99=lambda: p99)


def fail(subject: Switch, times: int = 1, now: float = 0.0, **kwargs) -> None:
    for _ in range(times):
        permit = subject.admit(now)
        assert permit is not None
        subject.failed(permit, now, 0.0, **kwargs)


def succeed(subject: Switch, times: int = 1, now: float = 0.0, elapsed_s: float = 0.0) -> None:
    for _ in range(times):
        permit = subject.admit(now)
        assert permit is not None
        subject.succeeded(permit, now, elapsed_s)


def opened() -> Switch:
    subject = switch()
    fail(subject, 4)
    assert subject.state == OPEN
    return subject


def test_below_the_minimum_volume_nothing_trips_and_rates_are_not_available():
    subject = switch()
    fail(subject, 3)
    assert subject.state == CLOSED
    assert subject.failure_rate is None
    assert subject.slow_rate is None


def test_reaching_the_rate_trips():
    subject = switch()
    succeed(subject, 2)
    fail(subject, 2)
    assert subject.state == OPEN
    assert subject.failure_rate == 0.5


def test_a_success_can_be_the_call_that_trips():
    subject = switch()
    fail(subject, 3)
    succeed(subject)
    assert subject.state == OPEN


def test_slow_successes_trip_and_the_slow_threshold_itself_is_not_slow():
    subject = switch()
    succeed(subject, 4, elapsed_s=1.0)
    assert subject.slow_rate == 0.0
    succeed(subject, 4, elapsed_s=1.01)
    assert subject.state == OPEN


def test_a_count_window_smaller_than_the_minimum_volume_judges_by_what_it_holds():
    subject = switch(BreakerConfig(size=3, min_calls=100))
    fail(subject, 3)
    assert subject.state == OPEN


def test_leaving_open_needs_strictly_more_than_the_wait():
    subject = opened()
    assert subject.admit(10.0) is None
    assert subject.admit(math.nextafter(10.0, 11)) is not None
    assert subject.state == HALF_OPEN


def test_a_refusal_says_why_and_until_when():
    reason = opened().reason
    assert (reason.policy, reason.name, reason.state) == ("breaker", "test", OPEN)
    assert reason.generation == 1
    assert reason.until == 10.0


def test_half_open_lets_exactly_its_probes_through():
    subject = opened()
    permits = [subject.admit(11.0) for _ in range(50)]
    assert sum(permit is not None for permit in permits) == 3


def test_probes_that_went_well_close_as_soon_as_the_rest_cannot_matter():
    subject = opened()
    succeed(subject, 2, now=11.0)
    assert subject.state == CLOSED
    assert subject.failure_rate is None


def test_probes_that_failed_open_again_for_longer():
    subject = opened()
    fail(subject, 2, now=11.0)
    assert subject.state == OPEN
    assert subject.reason.until == 11.0 + 15.0


def test_the_wait_grows_to_its_maximum_and_starts_anew_after_closing():
    subject, now = opened(), 0.0
    for _ in range(100):
        now = subject.reason.until + 1
        fail(subject, 2, now=now)
    assert subject.reason.until - now == CONFIG.open_max_s
    now = subject.reason.until + 1
    succeed(subject, 2, now=now)
    fail(subject, 4, now=now)
    assert subject.reason.until - now == CONFIG.open_s


def test_half_of_the_wait_is_drawn_by_chance():
    subject = switch(random=0.0)
    fail(subject, 4)
    assert subject.reason.until == 5.0


def test_retry_after_lengthens_the_wait_up_to_the_maximum():
    for after, until in ((3.0, 10.0), (30.0, 30.0), (1e9, 60.0)):
        subject = switch()
        fail(subject, 4, retry_after_s=after)
        assert subject.reason.until == until


def test_an_outcome_of_an_earlier_state_changes_nothing():
    subject = switch()
    old = [subject.admit(0.0) for _ in range(20)]
    fail(subject, 4)
    succeed(subject, 2, now=11.0)
    assert subject.state == CLOSED
    for permit in old:
        subject.failed(permit, 12.0, 0.0)
    assert subject.state == CLOSED
    assert subject.window.calls == 0
    assert subject.late == 20


def test_an_abandoned_probe_gives_its_place_back():
    subject = opened()
    permits = [subject.admit(11.0) for _ in range(3)]
    assert subject.admit(11.0) is None
    subject.abandoned(permits[0])
    assert subject.admit(11.0) is not None
    assert subject.admit(11.0) is None


def test_a_hung_probe_gives_its_place_away_when_its_lease_ends():
    subject = opened()
    hung = [subject.admit(11.0) for _ in range(3)]
    assert subject.admit(11.9) is None
    assert subject.admit(12.1) is not None
    subject.failed(hung[0], 12.2, 1.2)
    assert subject.state == HALF_OPEN
    assert subject.late == 1


def test_a_lease_lasts_as_long_as_slow_calls_and_three_times_the_p99():
    subject = switch(p99=4.0)
    fail(subject, 4)
    permit = subject.admit(11.0)
    assert permit.until == 11.0 + 12.0


def test_ignored_probes_cannot_keep_it_half_open_for_ever():
    subject = opened()
    for _ in range(CONFIG.ignored_probes):
        subject.ignored(subject.admit(11.0))
    assert subject.state == HALF_OPEN
    succeed(subject, now=11.0)
    assert subject.state == CLOSED


def test_forced_open_refuses_for_ever_and_says_no_time():
    subject = switch()
    subject.force(FORCED_OPEN, 0.0)
    assert subject.admit(1e9) is None
    assert subject.reason.until is None
    subject.force(CLOSED, 0.0)
    assert subject.admit(0.0) is not None


def test_disabled_admits_all_and_counts_nothing():
    subject = switch()
    subject.force(DISABLED, 0.0)
    fail(subject, 20)
    assert subject.state == DISABLED
    assert subject.window.calls == 0


def test_metrics_only_counts_and_never_opens():
    subject = switch()
    subject.force(METRICS_ONLY, 0.0)
    fail(subject, 20)
    assert subject.state == METRICS_ONLY
    assert subject.failure_rate == 1.0


def test_a_new_configuration_keeps_the_window():
    subject = switch()
    fail(subject, 3)
    subject.configure(BreakerConfig(size=20, min_calls=5))
    assert subject.window.failures == 3
    fail(subject, 2)
    assert subject.state == OPEN


def test_a_configuration_that_makes_no_sense_names_every_fault():
    with pytest.raises(ConfigurationFault) as caught:
        BreakerConfig(size=0, failure_rate=0.0, open_s=-1.0)
    assert len(caught.value.faults) == 3


def test_repr_tells_the_state():
    assert repr(opened()) == "test: open, generation 1, 4 failed of 4"


class AgainstAModel(RuleBasedStateMachine):
    """The same outcomes told to a switch and to a model written for clearness alone."""

    permits = Bundle("permits")
    config = BreakerConfig(size=6, min_calls=3, probes=2, open_s=4.0, lease_s=3.0)

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.subject = switch(self.config)
        self.model = Model(self.config)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5, 5.0, 20.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(target=permits)
    def a_call_asks(self):
        permit = self.subject.admit(self.now)
        assert (permit is not None) == self.model.admits(self.now)
        if permit is None:
            return multiple()
        self.model.begin(permit, self.now)
        return permit

    @rule(permit=permits, failed=st.booleans())
    def a_call_ends(self, permit, failed):
        if permit in self.model.ended:
            return
        tell = self.subject.failed if failed else self.subject.succeeded
        tell(permit, self.now, 0.0)
        self.model.end(permit, failed, self.now)

    @rule(permit=permits)
    def a_call_is_cancelled(self, permit):
        if permit not in self.model.ended:
            self.subject.abandoned(permit)
            self.model.cancel(permit)

    @invariant()
    def they_agree(self):
        assert self.subject.state == self.model.state
        assert self.subject.probes_out <= self.config.probes
        if self.model.state == CLOSED:
            assert self.subject.window.calls == len(self.model.outcomes)


class Model:
    """Lists instead of sums, and no cleverness."""

    def __init__(self, config: BreakerConfig) -> None:
        self.config = config
        self.state = CLOSED
        self.generation = 0
        self.outcomes: list[bool] = []
        self.until = 0.0
        self.trips = 0
        self.out: dict[Permit, float] = {}
        self.probes: list[bool] = []
        self.begun: list[tuple[Permit, int]] = []
        self.ended: list[Permit] = []

    def admits(self, now: float) -> bool:
        if self.state == OPEN and now > self.until:
            self.go(HALF_OPEN)
        if self.state == HALF_OPEN:
            live = [permit for permit, until in self.out.items() if until > now]
            full = len(self.probes) + len(self.out) >= self.config.probes
            return len(self.probes) + len(live if full else self.out) < self.config.probes
        return self.state == CLOSED

    def begin(self, permit: Permit, now: float) -> None:
        if self.state == HALF_OPEN:
            if len(self.probes) + len(self.out) >= self.config.probes:
                self.out = {one: until for one, until in self.out.items() if until > now}
            self.out[permit] = now + self.config.lease_s
        self.begun.append((permit, self.generation))

    def end(self, permit: Permit, failed: bool, now: float) -> None:
        if self.state == CLOSED and (permit, self.generation) in self.begun:
            self.outcomes = [*self.outcomes, failed][-self.config.size :]
            enough = len(self.outcomes) >= self.config.min_calls
            if enough and sum(self.outcomes) * 2 >= len(self.outcomes):
                self.trip(now)
        elif permit in self.out:
            self.ended.append(permit)
            if now <= self.out.pop(permit):
                self.probes.append(failed)
                if failed:  # one of two is the rate
                    self.trip(now)
                elif len(self.probes) == self.config.probes:
                    self.go(CLOSED)

    def cancel(self, permit: Permit) -> None:
        if permit in self.out:
            self.ended.append(permit)
            del self.out[permit]

    def trip(self, now: float) -> None:
        wait = min(self.config.open_max_s, self.config.open_s * 1.5**self.trips)
        self.trips += 1
        self.until = now + wait
        self.go(OPEN)

    def go(self, state: str) -> None:
        self.state = state
        self.generation += 1
        self.out, self.probes = {}, []
        if state == CLOSED:
            self.outcomes, self.trips = [], 0


TestAgainstAModel = AgainstAModel.TestCase
