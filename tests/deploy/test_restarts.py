"""When what ended is started again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chassis.clock import ManualClock
from deploy.restarts import RestartPolicy, RestartState

POLICY = RestartPolicy()


class Crashing:
    """A process that runs for as long as it is told, then crashes and waits to be started."""

    def __init__(self, policy: RestartPolicy = POLICY) -> None:
        self.clock = ManualClock()
        self.state = RestartState(policy)

    def crash(self, after_s: float = 0.0) -> float:
        started = self.clock.monotonic()
        self.clock.tick(after_s)
        delay = self.state.crashed(started, self.clock.monotonic())
        self.clock.tick(delay)
        return delay


def test_each_crash_in_a_row_waits_longer_up_to_a_limit() -> None:
    one = Crashing(RestartPolicy(loop_crashes=100))
    assert [one.crash() for _ in range(6)] == [1, 2, 4, 8, 15, 15]


def test_a_calm_run_is_forgiven() -> None:
    one = Crashing()
    assert [one.crash(), one.crash(), one.crash(29.9), one.crash(30)] == [1, 2, 4, 1]


def test_a_crash_loop_is_put_in_quarantine() -> None:
    one = Crashing()
    assert [one.crash() for _ in range(6)] == [1, 2, 4, 8, 15, 20]
    assert one.state.quarantined


def test_what_crashes_again_after_its_quarantine_goes_back_to_it() -> None:
    one = Crashing()
    for _ in range(6):
        one.crash()
    assert [one.crash(5) for _ in range(4)] == [20] * 4


def test_nobody_sleeps_for_half_a_minute_however_long_a_server_was_away() -> None:
    one = Crashing()
    assert max(one.crash(2) for _ in range(100)) <= 20


def test_a_calm_run_ends_the_quarantine() -> None:
    one = Crashing()
    for _ in range(6):
        one.crash()
    assert one.crash(31) == 1
    assert not one.state.quarantined


def test_crashes_that_are_far_apart_are_no_loop() -> None:
    one = Crashing()
    for _ in range(50):
        assert one.crash(29) <= POLICY.most_s
    assert not one.state.quarantined


@given(st.lists(st.floats(min_value=0, max_value=120), max_size=40))
def test_the_wait_is_always_bounded_and_short_after_calm(runs: list[float]) -> None:
    one = Crashing()
    for run in runs:
        delay = one.crash(run)
        assert POLICY.first_s <= delay <= POLICY.quarantine_s
        assert one.state.quarantined == (delay == POLICY.quarantine_s)
        if run >= POLICY.calm_s + 1e-6:
            assert delay == POLICY.first_s or one.state.quarantined
