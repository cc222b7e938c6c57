from __future__ import annotations

import asyncio

import pytest

from chassis.turns import Turns


async def test_one_key_is_held_by_one_task_in_the_order_of_asking() -> None:
    turns, seen, inside = Turns(), [], 0

    async def work(number: int) -> None:
        nonlocal inside
        async with turns.of("a"):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            seen.append(number)
            inside -= 1

    await asyncio.gather(*(work(number) for number in range(5)))
    assert seen == [0, 1, 2, 3, 4]


async def test_other_keys_do_not_wait() -> None:
    turns = Turns()
    async with turns.of("a"), asyncio.timeout(1), turns.of("b"):
        assert repr(turns) == "Turns(keys=2)"


async def test_a_cancelled_waiter_and_a_failing_holder_leave_nothing_behind() -> None:
    turns = Turns()
    with pytest.raises(RuntimeError):
        async with turns.of("a"):
            waiter = asyncio.ensure_future(turns.of("a").__aenter__())
            await asyncio.sleep(0)
            waiter.cancel()
            await asyncio.wait([waiter])
            raise RuntimeError("broken")
    assert repr(turns) == "Turns(keys=0)"
