from chassis.clock import ManualClock
from chassis.standstill import Standstill


def test_a_run_in_time_sees_none() -> None:
    clock = ManualClock()
    standstill = Standstill(clock, 0.2)
    for _ in range(5):
        clock.tick(0.1)
        assert not standstill.seen()


def test_a_late_run_sees_one_and_the_next_does_not() -> None:
    clock = ManualClock()
    standstill = Standstill(clock, 0.2)
    clock.tick(0.3)
    assert standstill.seen()
    clock.tick(0.02)
    assert not standstill.seen()
    clock.tick(0.3)
    assert standstill.seen()


def test_of_runs_that_are_always_late_every_other_one_sees_it() -> None:
    clock = ManualClock()
    standstill = Standstill(clock, 0.2)
    told = []
    for _ in range(4):
        clock.tick(1)
        told.append(standstill.seen())
    assert told == [True, False, True, False]
