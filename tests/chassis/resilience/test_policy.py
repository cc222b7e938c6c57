"""The fused row: its order, its counters, and that nothing is ever kept."""

from __future__ import annotations

import asyncio

import pytest
import tenacity
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis import errors
from chassis.clock import ManualClock
from chassis.deadline import Deadline
from chassis.resilience import (
    BreakerConfig,
    BreakerOpen,
    BulkheadFull,
    Policy,
    RetryConfig,
    TimerWheel,
    policy,
)

CONFIG = BreakerConfig(size=10, min_calls=4, probes=3, open_s=10.0)


async def good(value: str = "good") -> str:
    return value


async def bad() -> None:
    raise errors.OriginReset("gone")


async def forever() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def row(clock: ManualClock, **kwargs) -> Policy:
    return policy(
        "test", **{"timeout_s": 1.0, "bulkhead": 4, "breaker": CONFIG} | kwargs, clock=clock
    )


async def fail(subject: Policy, times: int) -> None:
    for _ in range(times):
        with pytest.raises(errors.OriginReset):
            await subject.call(bad)


async def test_arguments_go_in_and_the_result_comes_out(clock):
    subject = row(clock)
    assert await subject.call(good, "value") == "value"
    assert subject.snapshot().success == 1


async def test_a_passed_deadline_refuses_before_anything_is_taken(clock):
    subject = row(clock)
    with pytest.raises(errors.DeadlineExceeded):
        await subject.call(bad, deadline=Deadline.after(clock, 0.0))
    snapshot = subject.snapshot()
    assert (snapshot.expired, snapshot.failure, snapshot.in_flight) == (1, 0, 0)


async def test_a_full_bulkhead_refuses_and_does_not_count_against_the_breaker(clock):
    subject = row(clock)
    calls = [asyncio.create_task(subject.call(forever)) for _ in range(4)]
    await asyncio.sleep(0)
    for _ in range(20):
        with pytest.raises(BulkheadFull):
            await subject.call(good)
    snapshot = subject.snapshot()
    assert (snapshot.rejected, snapshot.in_flight, snapshot.state) == (20, 4, "closed")
    await clock.advance(2)
    await asyncio.gather(*calls, return_exceptions=True)
    assert subject.snapshot().in_flight == 0


async def test_a_full_bulkhead_takes_no_probe(clock):
    subject = row(clock, bulkhead=1)
    await fail(subject, 4)
    clock.tick(11)
    subject.bulkhead.in_flight = 1
    with pytest.raises(BulkheadFull):
        await subject.call(good)
    subject.bulkhead.in_flight = 0
    assert subject.breaker.switch.probes_out == 0
    assert await subject.call(good) == "good"


async def test_an_open_breaker_refuses_with_its_reason(clock):
    subject = row(clock)
    await fail(subject, 4)
    with pytest.raises(BreakerOpen) as caught:
        await subject.call(good)
    assert caught.value.generation == 1
    assert caught.value.retry_after_s > 0
    assert subject.snapshot().short_circuited == 1


async def test_timeouts_are_failures_and_open_the_breaker(clock):
    subject = row(clock)
    calls = [asyncio.create_task(subject.call(forever)) for _ in range(4)]
    await clock.advance(1.1)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [errors.OriginTimeout] * 4
    snapshot = subject.snapshot()
    assert (snapshot.timeout, snapshot.failure, snapshot.state) == (4, 0, "open")


@pytest.mark.parametrize(("left_s", "state"), [(0.6, "open"), (0.4, "closed")])
async def test_a_deadline_is_the_callees_failure_only_when_it_had_half_its_timeout(
    clock, left_s, state
):
    subject = row(clock)
    deadline = Deadline.after(clock, left_s)
    calls = [asyncio.create_task(subject.call(forever, deadline=deadline)) for _ in range(4)]
    await clock.advance(1)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [errors.DeadlineExceeded] * 4
    assert subject.snapshot().state == state


async def test_without_a_timeout_the_deadline_still_ends_the_call(clock):
    subject = row(clock, timeout_s=None)
    call = asyncio.create_task(subject.call(forever, deadline=Deadline.after(clock, 3)))
    await clock.advance(4)
    with pytest.raises(errors.DeadlineExceeded):
        await call
    endless = row(clock, timeout_s=None)
    assert await endless.call(good, deadline=Deadline.never(clock)) == "good"


async def test_a_peers_refusal_is_a_success_and_passes_through(clock):
    subject = row(clock)

    async def refuse() -> None:
        raise errors.PeerRefusal(404, "not_found")

    for _ in range(20):
        with pytest.raises(errors.PeerRefusal):
            await subject.call(refuse)
    assert (subject.snapshot().success, subject.snapshot().state) == (20, "closed")


async def test_a_refusal_from_inside_is_ignored(clock):
    subject = row(clock)

    async def refuse() -> None:
        raise errors.Shed

    for _ in range(20):
        with pytest.raises(errors.Shed):
            await subject.call(refuse)
    assert (subject.snapshot().ignored, subject.snapshot().state) == (20, "closed")


async def test_cancellation_is_neutral_and_gives_everything_back(clock):
    subject = row(clock)
    for _ in range(20):
        call = asyncio.create_task(subject.call(forever))
        await asyncio.sleep(0)
        assert subject.snapshot().in_flight == 1
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    snapshot = subject.snapshot()
    assert (snapshot.abandoned, snapshot.in_flight, snapshot.state) == (20, 0, "closed")
    assert snapshot.failure_rate is None


async def test_of_fifty_concurrent_half_open_calls_exactly_the_probes_get_through(clock):
    subject = row(clock, bulkhead=50)
    await fail(subject, 4)
    clock.tick(11)
    calls = [asyncio.create_task(subject.call(forever)) for _ in range(50)]
    await asyncio.sleep(0)
    assert subject.snapshot().in_flight == 3
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert subject.breaker.switch.probes_out == 0
    assert subject.snapshot().in_flight == 0


async def test_listeners_hear_of_the_fused_row_too(clock):
    import pybreaker

    heard = []

    class Listener(pybreaker.CircuitBreakerListener):
        def success(self, cb):
            heard.append("success")

        def failure(self, cb, exc):
            heard.append("failure")

    subject = row(clock)
    subject.breaker.add_listener(Listener())
    await subject.call(good)
    await fail(subject, 1)
    assert heard == ["success", "failure"]


async def test_with_a_retry_every_attempt_is_judged_and_the_call_may_still_succeed(clock):
    failures = [errors.OriginReset("gone"), errors.OriginReset("gone")]

    async def flaky() -> str:
        if failures:
            raise failures.pop()
        return "answer"

    subject = row(clock, retry=RetryConfig(wait=tenacity.wait_fixed(0.1)))
    call = asyncio.create_task(subject.call(flaky, deadline=Deadline.after(clock, 5)))
    await clock.advance(1)
    assert await call == "answer"
    snapshot = subject.snapshot()
    assert (snapshot.success, snapshot.failure, snapshot.retries) == (1, 2, 2)


async def test_a_retry_never_reaches_an_open_breaker_twice(clock):
    subject = row(clock, retry=RetryConfig(wait=tenacity.wait_fixed(0.1)))
    subject.breaker.force_open()
    with pytest.raises(BreakerOpen):
        await subject.call(good)
    assert subject.snapshot().short_circuited == 1


def test_the_snapshot_knows_how_long_calls_took(clock):
    subject = row(clock)
    for _ in range(99):
        subject.latencies.observe(0.0009)
    subject.latencies.observe(0.1)
    assert subject.latencies.p50() == pytest.approx(0.001, abs=0.0001)
    assert subject.latencies.quantile(1.0) == pytest.approx(0.131, abs=0.001)
    assert subject.snapshot().latency[-1][1] == 100
    subject.latencies.observe(1e6)
    assert subject.snapshot().latency[-1][1] == 101


def test_repr_tells_the_state(clock):
    assert repr(row(clock)) == (
        "Policy(test: closed, generation 0, 0 failed of 0, 0/4 in flight, timeout 1 s)"
    )


ENDS = st.sampled_from(["good", "bad", "hang", "cancel early", "cancel late"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(ENDS, st.floats(0.0, 0.7)), max_size=40))
def test_whatever_happens_nothing_leaks(plans):
    """Random ends and cancellations at every await: all permits, places and expiries come back."""

    async def scenario() -> None:
        clock = ManualClock()
        wheel = TimerWheel(clock)
        retry = RetryConfig(wait=tenacity.wait_fixed(0.2))
        subject = row(clock, wheel=wheel, retry=retry)

        async def behave(end: str) -> None:
            await clock.sleep(0.1)
            if end == "bad":
                raise errors.OriginReset("gone")
            if end != "good":
                await forever()

        calls = []
        for end, pause in plans:
            call = asyncio.create_task(subject.call(behave, end))
            calls.append(call)
            if end == "cancel early":
                call.cancel()
            await clock.advance(pause)
            if end == "cancel late":
                call.cancel()
        await clock.advance(20)
        await asyncio.gather(*calls, return_exceptions=True)
        snapshot = subject.snapshot()
        assert snapshot.in_flight == 0
        assert subject.breaker.switch.probes_out == 0
        assert subject.retry is not None
        assert subject.retry.budget.extra_in_flight == 0
        assert wheel.armed == 0
        clock.tick(100)
        assert await subject.call(good) == "good"

    asyncio.run(scenario())
