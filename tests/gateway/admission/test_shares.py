from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chassis.cache.quota import Bucket, Quota
from gateway.admission.shares import LEASE_S, PAUSE_S, Share, batch_of
from gateway.rules.model import RateLimit

TEN = RateLimit(per_s=10, burst=10)


def test_a_batch_is_a_part_of_the_burst_or_of_a_second() -> None:
    assert batch_of(RateLimit(per_s=1, burst=1)) == 1
    assert batch_of(RateLimit(per_s=1, burst=100)) == 25
    assert batch_of(RateLimit(per_s=1000, burst=1000)) == 250
    assert batch_of(RateLimit(per_s=1000, burst=50)) == 50
    assert batch_of(RateLimit(per_s=1, burst=8, cost=8)) == 8


def test_the_first_requests_are_served_on_credit_up_to_a_batch() -> None:
    share = Share()
    assert [share.take(TEN, 3, 0.0) == 0 for _ in range(5)] == [True] * 3 + [False] * 2
    assert share.wanted(3, 0.0) == 6


def test_a_lease_pays_the_credit_back_and_is_spent_without_asking() -> None:
    share = Share()
    share.take(TEN, 4, 0.0)
    share.granted(5, 5, 0.0, TEN.per_s, 0.0)
    assert share.tokens == 4
    assert share.wanted(4, 0.0) == 0
    assert [share.take(TEN, 4, 0.1) for _ in range(2)] == [0, 0]
    assert share.wanted(4, 0.1) == 2


def test_one_answer_at_a_time_is_awaited() -> None:
    share = Share()
    assert share.wanted(4, 0.0) == 4
    share.asked = True
    assert share.wanted(4, 0.0) == 0


def test_an_empty_quota_refuses_until_there_is_something() -> None:
    share = Share()
    share.take(TEN, 4, 0.0)
    share.granted(0, 5, 0.3, TEN.per_s, 0.0)
    assert share.take(TEN, 4, 0.0) == 0.3
    assert share.wanted(4, 0.2) == 0
    assert share.take(TEN, 4, 0.3) == 0


def test_a_quota_that_gave_less_than_wanted_is_empty_for_a_while() -> None:
    share = Share()
    share.granted(1, 5, 0.0, 1000, 0.0)
    assert share.take(TEN, 4, 0.0) == 0
    assert share.take(TEN, 4, PAUSE_S / 2) > 0
    assert share.take(TEN, 4, PAUSE_S) == 0


def test_what_was_leased_and_not_spent_lapses() -> None:
    share = Share()
    share.granted(4, 4, 0.0, TEN.per_s, 0.0)
    share.take(TEN, 4, LEASE_S)
    assert share.tokens == -1


steps = st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.0, 0.01, 0.2]), st.booleans())


@given(
    st.integers(1, 4),
    st.integers(1, 20),
    st.floats(0.5, 20),
    st.lists(steps, min_size=30, max_size=200),
)
def test_together_they_serve_what_the_quota_gave_and_at_most_a_batch_each_more(
    workers: int, burst: int, per_s: float, events: list[tuple[int, float, bool]]
) -> None:
    limit = RateLimit(per_s=per_s, burst=burst)
    quota, batch = Quota(per_s, burst), batch_of(limit)
    bucket, shares = Bucket(quota, 0), [Share() for _ in range(workers)]
    now, served = 0.0, 0
    for worker, wait_s, answers in events:
        now += wait_s
        share = shares[worker % workers]
        served += share.take(limit, batch, now) == 0
        wanted = share.wanted(batch, now)
        if wanted and answers:
            grant = bucket.lease(quota, wanted, 1, int(now * 1e6))
            share.granted(grant.tokens, wanted, grant.retry_after_s, per_s, now)
        assert served <= burst + per_s * now + workers * batch + 1e-3
