import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import RateLimited, Shed
from gateway.admission import InFlight, RateLimiter, TokenBucket
from gateway.rules.model import RateLimit


def test_a_bucket_lets_its_burst_through_and_then_its_rate() -> None:
    bucket = TokenBucket(2, 0.0)
    assert bucket.take(1, 10, 2, 0.0) == 0
    assert bucket.take(1, 10, 2, 0.0) == 0
    assert bucket.take(1, 10, 2, 0.0) == pytest.approx(0.1)
    assert bucket.take(1, 10, 2, 0.1) == 0


@given(st.lists(st.floats(0, 2), max_size=60))
def test_never_more_than_the_burst_and_the_rate_allow(waits: list[float]) -> None:
    bucket = TokenBucket(3, 0.0)
    now, taken = 0.0, 0
    for wait in waits:
        now += wait
        taken += bucket.take(1, 2, 3, now) == 0
        assert taken <= 3 + 2 * now + 1e-6


def test_each_key_has_its_own_bucket_and_the_oldest_makes_room() -> None:
    limiter = RateLimiter(RateLimit(per_s=0.1, burst=1), keys=2)
    limiter.take("a", 0.0)
    limiter.take("b", 0.0)
    with pytest.raises(RateLimited) as caught:
        limiter.take("a", 1.0)
    assert caught.value.retry_after_s == pytest.approx(9.0)
    limiter.take("c", 1.0)
    assert len(limiter) == 2
    with pytest.raises(RateLimited):
        limiter.take("a", 1.0)


def test_above_the_limit_is_shed() -> None:
    in_flight = InFlight(1)
    in_flight.enter()
    in_flight.check()
    in_flight.enter()
    with pytest.raises(Shed):
        in_flight.check()
    in_flight.leave()
    in_flight.check()
    assert (in_flight.now, in_flight.shed) == (1, 1)
