"""Timeouts on the wheel: never early, hardly late, and never mistaken for a cancellation."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.clock import SYSTEM, ManualClock
from chassis.errors import ConfigurationFault, OriginTimeout
from chassis.resilience import Timeout, TimeoutConfig, TimerWheel


async def forever() -> None:
    await asyncio.Event().wait()


def gate(clock: ManualClock, seconds: float) -> Timeout:
    return Timeout("test", TimeoutConfig(seconds), clock)


@pytest.mark.parametrize("seconds", [0.005, 0.049, 0.05, 0.3, 12.0])
async def test_it_is_never_early_and_at_most_a_tick_late(seconds):
    clock = ManualClock()
    call = asyncio.create_task(gate(clock, seconds).call(forever))
    await asyncio.sleep(0)
    await clock.advance(seconds - 0.001)
    assert not call.done()
    await clock.advance(0.012)
    with pytest.raises(OriginTimeout, match="test did not answer within"):
        await call


async def test_real_time_works_as_well():
    with pytest.raises(OriginTimeout):
        await Timeout("test", TimeoutConfig(0.06), SYSTEM).call(forever)


async def test_a_call_in_time_leaves_nothing_behind():
    clock = ManualClock()
    wheel = TimerWheel(clock)
    timeout = Timeout("test", TimeoutConfig(1.0), clock, wheel)

    async def answer() -> int:
        return 5

    assert await timeout.call(answer) == 5
    assert wheel.armed == 0
    await clock.advance(5)
    assert timeout.timeouts == 0


async def test_an_outer_cancellation_stays_one():
    clock = ManualClock()
    call = asyncio.create_task(gate(clock, 1.0).call(forever))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


@pytest.mark.parametrize("first", ["timeout", "cancel"])
async def test_an_outer_cancellation_in_the_same_instant_wins(first):
    clock = ManualClock()
    call = asyncio.create_task(gate(clock, 1.0).call(forever))
    await asyncio.sleep(0)
    if first == "cancel":
        call.cancel()
    clock.tick(2)
    if first == "timeout":
        call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_it_works_in_the_cleanup_of_a_task_that_is_being_cancelled():
    clock = ManualClock()

    async def body() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            with pytest.raises(OriginTimeout):
                await gate(clock, 1.0).call(forever)
            return "cleaned up"

    task = asyncio.create_task(body())
    await asyncio.sleep(0)
    task.cancel()
    await clock.advance(2)
    assert await task == "cleaned up"


async def test_the_task_is_usable_after_a_timeout():
    clock = ManualClock()

    async def body() -> int:
        with pytest.raises(OriginTimeout):
            await gate(clock, 1.0).call(forever)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    task = asyncio.create_task(body())
    await clock.advance(2)
    assert await task == 0


async def test_nested_timeouts_know_whose_turn_it_was():
    clock = ManualClock()
    inner, outer = gate(clock, 2.0), gate(clock, 1.0)
    call = asyncio.create_task(outer.call(inner.call, forever))
    await clock.advance(1.5)
    with pytest.raises(OriginTimeout):
        await call
    assert (outer.timeouts, inner.timeouts) == (1, 0)


async def test_an_error_of_the_call_itself_is_not_replaced():
    clock = ManualClock()

    async def body() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            raise ValueError("my own") from None

    call = asyncio.create_task(gate(clock, 1.0).call(body))
    await clock.advance(2)
    with pytest.raises(ValueError, match="my own"):
        await call
    assert call.cancelling() == 0


@given(st.lists(st.tuples(st.floats(0.001, 3), st.floats(0, 3)), max_size=20))
def test_any_mixture_fires_exactly_what_is_still_armed(plans):
    async def scenario() -> None:
        clock = ManualClock()
        wheel = TimerWheel(clock)
        fired: dict[int, float] = {}

        async def one(number: int, seconds: float) -> None:
            wheel.arm(seconds, clock.monotonic())
            try:
                await forever()
            except asyncio.CancelledError:
                fired[number] = clock.monotonic()

        armed: dict[int, float] = {}
        for number, (seconds, pause) in enumerate(plans):
            armed[number] = clock.monotonic()
            task = asyncio.create_task(one(number, seconds))
            await asyncio.sleep(0)
            assert not task.done()
            await clock.advance(pause)
        await clock.advance(4)
        for number, (seconds, _) in enumerate(plans):
            late_s = fired[number] - armed[number] - seconds
            assert -1e-9 <= late_s <= 0.0101
        assert wheel.armed == 0

    asyncio.run(scenario())


def test_a_timeout_of_nothing_is_a_fault():
    with pytest.raises(ConfigurationFault):
        TimeoutConfig(0.0)
