"""Further attempts: whose, how many, how soon, and what the caller hears in the end."""

from __future__ import annotations

import asyncio

import pytest
import tenacity

from chassis import errors
from chassis.clock import ManualClock
from chassis.deadline import Deadline
from chassis.resilience import Budget, BudgetConfig, Retry, RetryConfig

THREE = RetryConfig(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(0.1))


class Scripted:
    """Raises its failures in turn, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.attempts = 0

    async def __call__(self) -> str:
        self.attempts += 1
        if self.failures:
            raise self.failures.pop(0)
        return "answer"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def outcome(clock: ManualClock, retry: Retry, fn, **kwargs):
    call = asyncio.create_task(retry.call(fn, **kwargs))
    await clock.advance(60)
    return await call


def reset() -> errors.OriginReset:
    return errors.OriginReset("gone")


async def test_a_failure_is_tried_again_until_it_goes_well(clock):
    retry, peer = Retry("test", THREE, clock=clock), Scripted(reset(), reset())
    assert await outcome(clock, retry, peer) == "answer"
    assert (peer.attempts, retry.retries) == (3, 2)


async def test_the_caller_gets_the_last_real_error(clock):
    retry = Retry("test", THREE, clock=clock)
    peer = Scripted(reset(), reset(), errors.OriginStatus(503))
    with pytest.raises(errors.OriginStatus):
        await outcome(clock, retry, peer)
    assert peer.attempts == 3
    assert retry.exhausted == 1


async def test_a_local_refusal_of_a_later_attempt_does_not_hide_the_real_error(clock):
    retry, peer = Retry("test", THREE, clock=clock), Scripted(reset(), errors.BreakerOpen())
    with pytest.raises(errors.OriginReset):
        await outcome(clock, retry, peer)


@pytest.mark.parametrize(
    "failure",
    [
        errors.BreakerOpen(),
        errors.BulkheadFull(),
        errors.DeadlineExceeded(),
        errors.BadRequest(),
        errors.OriginStatus(500),
        ValueError(),
    ],
)
async def test_what_must_not_be_repeated_is_not(clock, failure):
    retry, peer = Retry("test", THREE, clock=clock), Scripted(failure)
    with pytest.raises(type(failure)):
        await outcome(clock, retry, peer)
    assert peer.attempts == 1


async def test_what_is_not_idempotent_is_repeated_only_with_proof_that_nothing_happened(clock):
    config = RetryConfig(wait=tenacity.wait_fixed(0.1), idempotent=False)
    peer = Scripted(errors.ConnectFailed(), errors.OriginReset(sent=False), reset())
    with pytest.raises(errors.OriginReset):
        await outcome(clock, Retry("test", config, clock=clock), peer)
    assert peer.attempts == 3


async def test_five_tasks_sharing_one_retry_each_get_all_attempts(clock):
    retry = Retry("test", THREE, Budget(BudgetConfig(floor=100)), clock=clock)
    peers = [Scripted(reset(), reset()) for _ in range(5)]
    calls = [asyncio.create_task(retry.call(peer)) for peer in peers]
    await clock.advance(5)
    assert await asyncio.gather(*calls) == ["answer"] * 5
    assert [peer.attempts for peer in peers] == [3] * 5


async def test_retry_after_is_obeyed(clock):
    retry = Retry("test", THREE, clock=clock)
    peer = Scripted(errors.OriginStatus(503, retry_after_s=5.0))
    call = asyncio.create_task(retry.call(peer))
    await clock.advance(4.9)
    assert peer.attempts == 1
    await clock.advance(0.2)
    assert await call == "answer"


async def test_no_attempt_is_waited_for_that_the_deadline_leaves_no_time_for(clock):
    retry = Retry("test", THREE, clock=clock, p50=lambda: 0.2)
    peer = Scripted(reset())
    deadline = Deadline.after(clock, 0.29)
    with pytest.raises(errors.OriginReset):
        await asyncio.wait_for(retry.call(peer, deadline=deadline), 1)
    assert peer.attempts == 1


async def test_an_empty_budget_suppresses_the_extra_attempt_only(clock):
    budget = Budget(BudgetConfig(share=0.0, reserve_per_s=0.1, window_s=10.0))
    retry = Retry("test", THREE, budget, clock=clock)
    assert await outcome(clock, retry, Scripted(reset())) == "answer"
    clock.tick(0)
    peer = Scripted(reset(), reset())
    with pytest.raises(errors.OriginReset):
        await outcome(clock, retry, peer)
    assert peer.attempts == 2
    assert await outcome(clock, retry, Scripted()) == "answer"


async def test_cancelling_the_wait_gives_the_budget_back(clock):
    retry = Retry("test", THREE, clock=clock)
    call = asyncio.create_task(retry.call(Scripted(reset())))
    await asyncio.sleep(0)
    assert retry.budget.extra_in_flight == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert retry.budget.extra_in_flight == 0


async def test_cancelling_a_later_attempt_gives_the_budget_back(clock):
    retry = Retry("test", THREE, clock=clock)
    failures = [reset()]

    async def hang() -> None:
        if failures:
            raise failures.pop()
        await asyncio.Event().wait()

    call = asyncio.create_task(retry.call(hang))
    await clock.advance(1)
    assert retry.budget.extra_in_flight == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert retry.budget.extra_in_flight == 0


async def test_any_tenacity_object_is_a_configuration(clock):
    retrying = tenacity.AsyncRetrying(
        stop=tenacity.stop_after_delay(0.25) | tenacity.stop_after_attempt(50),
        wait=tenacity.wait_chain(tenacity.wait_fixed(0.05), tenacity.wait_fixed(0.1)),
        retry=tenacity.retry_if_exception_type(ValueError),
    )
    retry = Retry("test", RetryConfig.of(retrying), clock=clock)
    peer = Scripted(*[ValueError() for _ in range(60)])
    with pytest.raises(ValueError):
        await outcome(clock, retry, peer)
    assert peer.attempts == 4  # at 0, 0.05, 0.15 and 0.25 s
    with pytest.raises(KeyError):
        await outcome(clock, retry, Scripted(KeyError()))


def test_repr_tells_the_state():
    assert repr(Retry("test")) == "Retry(test: 0 retries, Budget(100.0 left, 0 in flight))"
