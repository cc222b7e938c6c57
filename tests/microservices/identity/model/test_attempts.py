from __future__ import annotations

import pytest

from chassis.errors import RateLimited
from microservices.identity.model.attempts import AttemptLimit, Attempts

LIMIT = AttemptLimit(3, 60.0)


def test_a_key_is_refused_after_its_wrong_attempts_until_the_window_ends() -> None:
    attempts = Attempts(LIMIT)
    for at in (0.0, 10.0, 20.0):
        attempts.check("a", at)
        attempts.wrong("a", at)
    with pytest.raises(RateLimited) as caught:
        attempts.check("a", 25.0)
    assert caught.value.retry_after_s == 35.0
    attempts.check("b", 25.0)
    attempts.check("a", 60.0)


def test_a_right_one_clears_the_count() -> None:
    attempts = Attempts(LIMIT)
    for _ in range(10):
        attempts.wrong("a", 0.0)
        attempts.wrong("a", 0.0)
        attempts.check("a", 0.0)
        attempts.right("a")


def test_memory_is_bounded_and_drops_the_ended_ones_first() -> None:
    attempts = Attempts(LIMIT, capacity=10)
    for _ in range(3):
        attempts.wrong("victim", 100.0)
    for number in range(9):
        attempts.wrong(f"old{number}", 0.0)
    for number in range(5):
        attempts.wrong(f"new{number}", 100.0)
    with pytest.raises(RateLimited):
        attempts.check("victim", 100.0)
    for number in range(1000):
        attempts.wrong(f"flood{number}", 101.0)
    assert repr(attempts).startswith("Attempts(keys=10,")
