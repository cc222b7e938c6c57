"""The manual clock that other tests stand on."""

from __future__ import annotations

import asyncio

from chassis.clock import ManualClock


async def test_sleepers_wake_in_the_order_of_their_times() -> None:
    clock, woken = ManualClock(), list[str]()

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    tasks = [asyncio.ensure_future(sleeper(*one)) for one in (("b", 2.0), ("a", 1.0), ("c", 3.0))]
    await clock.advance(2.5)
    assert woken == ["a", "b"]
    await clock.advance(1)
    await asyncio.gather(*tasks)


async def test_a_task_that_sleeps_again_wakes_within_the_same_advance() -> None:
    clock, beats = ManualClock(), list[float]()

    async def beat() -> None:
        while True:
            await clock.sleep(1)
            beats.append(clock.monotonic())

    task = asyncio.ensure_future(beat())
    await clock.advance(3)
    task.cancel()
    assert beats == [1.0, 2.0, 3.0]


def test_a_cancelled_timer_never_fires() -> None:
    clock, fired = ManualClock(), list[int]()
    clock.call_later(1, fired.append, 1).cancel()
    clock.call_later(2, fired.append, 2)
    clock.tick(5)
    assert fired == [2] and clock.monotonic() == 5


def test_chance_comes_from_the_seed() -> None:
    assert ManualClock(seed=7).random() == ManualClock(seed=7).random()
    assert ManualClock(seed=7).entropy(8) != ManualClock(seed=8).entropy(8)
