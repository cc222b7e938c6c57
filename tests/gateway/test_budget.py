"""What retries and hedges may cost a cluster. Time and traffic are the test's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.budget import FLOOR, UNSENT_FLOOR, RetryBudget


def granted(budget: RetryBudget, calls: int, now: float, asks: int, floor: int = FLOOR) -> int:
    return sum(budget.withdraw(calls, now, floor) for _ in range(asks))


def test_a_fifth_of_the_calls_and_no_more() -> None:
    budget = RetryBudget()
    assert granted(budget, 1000, 0.5, 1000) == 200
    assert (budget.granted, budget.denied) == (200, 800)


def test_a_quiet_cluster_may_make_a_few() -> None:
    assert granted(RetryBudget(), 1, 0.5, 50) == FLOOR
    assert granted(RetryBudget(), 1, 0.5, 50, UNSENT_FLOOR) == UNSENT_FLOOR


def test_calls_of_the_past_allow_nothing() -> None:
    budget = RetryBudget()
    for second in range(11):
        budget.settle(1000, float(second))
    assert granted(budget, 1000, 10.5, 1000) == FLOOR


def test_what_was_used_is_forgotten_with_the_window() -> None:
    budget = RetryBudget()
    assert granted(budget, 100, 0.5, 100) == 20
    assert granted(budget, 200, 5.0, 100) == 20
    assert granted(budget, 200, 9.9, 100) == 0
    assert granted(budget, 300, 10.1, 100) == 0
    assert granted(budget, 300, 15.1, 100) == 20


def test_the_ratio_is_what_is_used_up() -> None:
    budget = RetryBudget()
    assert budget.ratio(100, 0.5) == 0
    granted(budget, 100, 0.5, 10)
    assert budget.ratio(100, 0.5) == 0.5
    granted(budget, 100, 0.5, 100)
    assert budget.ratio(100, 0.5) == 1


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 60)), min_size=1, max_size=60))
def test_no_window_of_ten_seconds_has_more_than_its_fifth(steps: list[tuple[float, int]]) -> None:
    """Each call asks for one more, as when every one fails; the seconds are settled in between."""
    budget, now, calls = RetryBudget(), 0.0, 0
    made: list[float] = []
    begun: list[float] = []
    for pause, count in steps:
        for _ in range(int(pause)):
            now += 1.0
            budget.settle(calls, now)
        now += pause % 1
        for _ in range(count):
            calls += 1
            begun.append(now)
            if budget.withdraw(calls, now):
                made.append(now)
        inside = [at for at in begun if at > now - 10]
        assert len([at for at in made if at > now - 9]) <= max(FLOOR, 0.2 * len(inside) + 1)
