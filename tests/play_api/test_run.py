"""Running a plan: what starts when, and what ends it."""

from __future__ import annotations

import asyncio
import gc

import pytest

from chassis.contracts.profiles import ALLOCATE
from play_api.plan import DEGRADE, Step
from play_api.run import run_plan


def step(name: str, *needs: str) -> Step:
    return Step(name, ALLOCATE, DEGRADE, 1.0, fallback="", never="", needs=needs)


async def test_each_step_starts_when_all_that_it_needs_is_done() -> None:
    begun: list[str] = []

    async def do(one: Step) -> None:
        begun.append(one.name)
        await asyncio.sleep(0)

    await run_plan((step("a"), step("b"), step("both", "a", "b"), step("after", "both")), do)
    assert begun == ["a", "b", "both", "after"]


async def test_the_first_failure_ends_the_others_and_nothing_starts_behind_it() -> None:
    ended: list[str] = []

    async def do(one: Step) -> None:
        try:
            if one.name == "bad":
                raise ValueError("bad")
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(one.name)

    with pytest.raises(ValueError, match="bad"):
        await run_plan((step("slow"), step("bad"), step("later", "bad")), do)
    assert ended == ["bad", "slow"]


async def test_steps_that_fail_together_leave_no_failure_unheard() -> None:
    unheard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, told: unheard.append(told))

    async def do(one: Step) -> None:
        raise ValueError(one.name)

    with pytest.raises(ValueError, match="one"):
        await run_plan((step("one"), step("two")), do)
    gc.collect()
    await asyncio.sleep(0)
    assert unheard == []


async def test_a_step_that_is_cancelled_from_elsewhere_ends_the_run() -> None:
    async def do(one: Step) -> None:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="one was cancelled"):
        await asyncio.wait_for(run_plan((step("one"), step("two", "one")), do), 1)
