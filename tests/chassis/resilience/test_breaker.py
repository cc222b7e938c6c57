"""The breaker as callers hold it: pybreaker's face, asyncio's manners."""

from __future__ import annotations

import asyncio

import pybreaker
import pytest

from chassis import errors
from chassis.clock import ManualClock
from chassis.resilience import Breaker, BreakerConfig, BreakerOpen
from chassis.resilience.verdict import Verdict, verdict_of

CONFIG = BreakerConfig(size=10, min_calls=4, probes=3, open_s=10.0)


async def good() -> str:
    return "good"


async def bad() -> None:
    raise errors.OriginReset("gone")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def breaker(clock: ManualClock) -> Breaker:
    return Breaker("test", CONFIG, clock=clock)


async def tripped(breaker: Breaker) -> Breaker:
    for _ in range(4):
        with pytest.raises(errors.OriginReset):
            await breaker.acall(bad)
    assert breaker.current_state == pybreaker.STATE_OPEN
    return breaker


async def test_it_opens_and_the_refusal_is_both_ours_and_pybreakers(breaker):
    await tripped(breaker)
    with pytest.raises(BreakerOpen) as caught:
        await breaker.acall(good)
    refusal = caught.value
    assert isinstance(refusal, errors.BreakerOpen)
    assert isinstance(refusal, pybreaker.CircuitBreakerError)
    assert (refusal.status, refusal.code, refusal.outcome) == (503, "breaker_open", "breaker_open")
    assert refusal.members == {
        "policy": "breaker",
        "reason": "open after too many failed or slow calls",
        "state": "open",
        "generation": 1,
    }
    assert 0 < refusal.retry_after_s <= 10
    assert str(refusal) == "breaker of test: open after too many failed or slow calls"
    assert breaker.not_permitted == 1


async def test_the_call_that_trips_gets_its_own_error(breaker):
    for _ in range(4):
        with pytest.raises(errors.OriginReset):
            await breaker.acall(bad)


async def test_a_decorated_coroutine_function_opens_it(breaker):
    guarded = breaker(bad)
    for _ in range(4):
        with pytest.raises(errors.OriginReset):
            await guarded()
    with pytest.raises(pybreaker.CircuitBreakerError):
        await guarded()


async def test_of_fifty_concurrent_half_open_calls_exactly_the_probes_get_through(breaker, clock):
    await tripped(breaker)
    clock.tick(11)
    release = asyncio.Event()
    entered = 0

    async def probe() -> None:
        nonlocal entered
        entered += 1
        await release.wait()

    calls = [asyncio.create_task(breaker.acall(probe)) for _ in range(50)]
    await asyncio.sleep(0)
    release.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert entered == 3
    assert sum(isinstance(answer, BreakerOpen) for answer in answers) == 47
    assert breaker.current_state == pybreaker.STATE_CLOSED


async def test_cancellations_never_open_it_and_pass_untouched(breaker):
    for _ in range(50):
        call = asyncio.create_task(breaker.acall(asyncio.Event().wait))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert breaker.current_state == pybreaker.STATE_CLOSED
    assert breaker.switch.window.calls == 0


async def test_cancelled_probes_give_their_places_back(breaker, clock):
    await tripped(breaker)
    clock.tick(11)
    for _ in range(10):
        call = asyncio.create_task(breaker.acall(asyncio.Event().wait))
        await asyncio.sleep(0)
        assert breaker.switch.probes_out == 1
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert breaker.switch.probes_out == 0
    assert breaker.current_state == pybreaker.STATE_HALF_OPEN


def test_the_synchronous_face_opens_too_and_needs_no_loop(breaker):
    def bad_now() -> None:
        raise errors.OriginReset

    for _ in range(4):
        with pytest.raises(errors.OriginReset):
            breaker.call(bad_now)
    with pytest.raises(BreakerOpen), breaker.calling():
        pytest.fail("the block of a refused call must not run")


async def test_calling_may_hold_an_await_and_its_cancellation_counts_nothing(breaker):
    async def block() -> None:
        with breaker.calling():
            await asyncio.Event().wait()

    call = asyncio.create_task(block())
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert breaker.switch.window.calls == 0


async def test_excluded_errors_are_ignored_and_are_no_success(clock):
    breaker = Breaker("test", CONFIG, clock=clock, exclude=[errors.OriginReset])
    for _ in range(10):
        with pytest.raises(errors.OriginReset):
            await breaker.acall(bad)
    assert breaker.switch.window.calls == 0


async def test_listeners_hear_calls_outcomes_and_states(breaker):
    heard = []

    class Listener(pybreaker.CircuitBreakerListener):
        def before_call(self, cb, func, *args, **kwargs):
            heard.append("before")

        def failure(self, cb, exc):
            heard.append(type(exc).__name__)

        def success(self, cb):
            heard.append("success")

        def state_change(self, cb, old_state, new_state):
            heard.append(f"{old_state.name}>{new_state.name}")

    breaker.add_listener(Listener())
    await breaker.acall(good)
    for _ in range(3):
        with pytest.raises(errors.OriginReset):
            await breaker.acall(bad)
    failed = ["before", "OriginReset"]
    assert heard == ["before", "success", *failed, *failed, "before", "closed>open", "OriginReset"]


async def test_a_listener_that_raises_does_not_disturb_the_call(breaker):
    class Broken(pybreaker.CircuitBreakerListener):
        def success(self, cb):
            raise RuntimeError("broken")

    breaker.add_listener(Broken())
    assert await breaker.acall(good) == "good"
    assert breaker.listener_faults == 1


async def test_pybreakers_own_words_work(breaker, clock):
    assert isinstance(breaker, pybreaker.CircuitBreaker)
    assert isinstance(breaker.state, pybreaker.CircuitClosedState)
    breaker.open()
    assert isinstance(breaker.state, pybreaker.CircuitOpenState)
    breaker.half_open()
    assert isinstance(breaker.state, pybreaker.CircuitHalfOpenState)
    assert (breaker.fail_counter, breaker.success_counter, breaker.name) == (0, 0, "test")
    breaker.state = "closed"
    assert breaker.state.name == breaker.current_state == "closed"
    assert breaker.state.call(lambda: 5) == 5


async def test_it_can_be_forced_open_disabled_and_only_counting(breaker):
    breaker.force_open()
    with pytest.raises(BreakerOpen) as caught:
        await breaker.acall(good)
    assert caught.value.retry_after_s is None
    for by_hand in (breaker.disable, breaker.metrics_only):
        by_hand()
        for _ in range(20):
            with pytest.raises(errors.OriginReset):
                await breaker.acall(bad)
    breaker.close()
    assert await breaker.acall(good) == "good"


@pytest.mark.parametrize(
    ("failure", "verdict"),
    [
        (errors.OriginTimeout(), Verdict.FAILURE),
        (errors.OriginStatus(503), Verdict.FAILURE),
        (errors.StoreUnavailable(), Verdict.FAILURE),
        (RuntimeError(), Verdict.FAILURE),
        (errors.PeerRefusal(429, "rate"), Verdict.FAILURE),
        (errors.PeerRefusal(404, "not_found"), Verdict.SUCCESS),
        (errors.BadRequest(), Verdict.SUCCESS),
        (errors.Missing(), Verdict.SUCCESS),
        (errors.AlreadyExists(), Verdict.SUCCESS),
        (errors.BulkheadFull(), Verdict.IGNORED),
        (errors.DeadlineExceeded(), Verdict.IGNORED),
        (pybreaker.CircuitBreakerError(), Verdict.IGNORED),
    ],
)
def test_what_a_failure_says_of_the_callee(failure, verdict):
    assert verdict_of(failure) is verdict


def test_repr_tells_the_state(breaker):
    assert repr(breaker) == "Breaker(test: closed, generation 0, 0 failed of 0)"
