"""The budget of extra attempts: earned, reserved, bounded, forgotten."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from chassis.errors import ConfigurationFault
from chassis.resilience import Budget, BudgetConfig

POOR = BudgetConfig(share=0.2, reserve_per_s=0.0)


def granted(budget: Budget, times: int, now: float = 0.0) -> int:
    """How many of `times` extra attempts, one after the other, are granted."""
    count = 0
    for _ in range(times):
        if budget.withdraw(now, in_flight=0):
            count += 1
            budget.ended()
    return count


def test_a_fifth_of_the_calls_may_be_made_again():
    budget = Budget(POOR)
    for _ in range(100):
        budget.deposit(0.0)
    assert granted(budget, 100) in (19, 20)
    assert budget.denied >= 80


def test_a_quiet_callee_still_has_its_reserve():
    budget = Budget(BudgetConfig(reserve_per_s=10.0, window_s=10.0))
    assert granted(budget, 1000) == 100


def test_deposits_and_withdrawals_are_forgotten_with_the_window():
    budget = Budget(POOR)
    for _ in range(100):
        budget.deposit(0.0)
    assert granted(budget, 1, now=10.0) == 0
    spent = Budget(BudgetConfig(reserve_per_s=1.0))
    assert granted(spent, 100) == 10
    assert granted(spent, 100, now=10.5) == 10


def test_extra_attempts_in_flight_are_bounded_with_a_floor():
    budget = Budget()
    assert [budget.withdraw(0.0, in_flight=1) for _ in range(4)] == [True, True, True, False]
    assert budget.withdraw(0.0, in_flight=100)
    budget.ended()
    budget.ended()
    assert budget.withdraw(0.0, in_flight=1)


def test_shares_that_make_no_sense_are_faults():
    with pytest.raises(ConfigurationFault):
        BudgetConfig(share=1.5)


class AgainstALedger(RuleBasedStateMachine):
    """The same questions put to a budget and to the full list of all bookings."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.budget = Budget(BudgetConfig(reserve_per_s=0.5, window_s=4.0, buckets=4))
        self.bookings: list[tuple[int, float]] = []

    def balance(self) -> float:
        oldest = int(self.now) - 3  # four buckets of a second
        return 2.0 + sum(amount for second, amount in self.bookings if second >= oldest)

    @rule(seconds=st.sampled_from([0.3, 1.0, 2.7, 9.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(calls=st.integers(1, 20))
    def calls_are_made(self, calls):
        for _ in range(calls):
            self.budget.deposit(self.now)
        self.bookings.append((int(self.now), 0.2 * calls))

    @rule(in_flight=st.integers(0, 50))
    def an_extra_is_asked(self, in_flight):
        room = self.budget.extra_in_flight < max(3, 0.2 * in_flight)
        left = self.balance()
        granted = self.budget.withdraw(self.now, in_flight)
        if abs(left - 1.0) > 1e-6:  # floats are summed in another order
            assert granted == (room and left > 1.0)
        if granted:
            self.bookings.append((int(self.now), -1.0))

    @precondition(lambda self: self.budget.extra_in_flight)
    @rule()
    def an_extra_ends(self):
        self.budget.ended()


TestAgainstALedger = AgainstALedger.TestCase
