"""Windows against the plainest model: a list of everything that ever happened."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chassis.resilience.window import FAILED, SLOW, CountWindow, TimeWindow, Window

OUTCOMES = st.sampled_from([0, FAILED, SLOW, FAILED | SLOW])


def sums(window: Window) -> tuple[int, int, int]:
    return window.calls, window.failures, window.slows


def summed(outcomes: list[int]) -> tuple[int, int, int]:
    failures = sum(1 for outcome in outcomes if outcome & FAILED)
    return len(outcomes), failures, sum(1 for outcome in outcomes if outcome & SLOW)


@given(st.integers(1, 10), st.lists(OUTCOMES))
def test_a_count_window_knows_the_last_calls_only(size, outcomes):
    window = CountWindow(size)
    for number, outcome in enumerate(outcomes, 1):
        window.add(0.0, outcome)
        assert sums(window) == summed(outcomes[:number][-size:])


@given(
    st.integers(1, 5),
    st.sampled_from([0.1, 1.0, 2.5]),
    st.lists(st.tuples(st.floats(0, 4), OUTCOMES)),
)
def test_a_time_window_knows_the_last_buckets_only(buckets, width_s, steps):
    window = TimeWindow(buckets, width_s)
    now, history = 100.0, []
    for pause, outcome in steps:
        now += pause
        window.add(now, outcome)
        history.append((int(now / width_s), outcome))
        oldest = int(now / width_s) - buckets
        assert sums(window) == summed([seen for tick, seen in history if tick > oldest])


def test_a_time_window_forgets_when_it_is_turned_without_a_call():
    window = TimeWindow(10, 1.0)
    window.add(50.0, FAILED)
    window.turn(60.0)
    assert sums(window) == (0, 0, 0)


def test_clearing_forgets_everything():
    for window in (CountWindow(5), TimeWindow(5, 1.0)):
        window.add(1.0, FAILED | SLOW)
        window.clear()
        assert sums(window) == (0, 0, 0)
        window.add(1.0, SLOW)
        assert sums(window) == (1, 0, 1)


def test_a_smaller_count_window_keeps_the_newest_outcomes():
    window = CountWindow(4)
    for outcome in (FAILED, FAILED, 0, 0):
        window.add(0.0, outcome)
    assert sums(CountWindow(2, window.outcomes())) == (2, 0, 0)
