"""What every registry must do with sessions, and elections over them."""

from __future__ import annotations

import asyncio

import pytest

from chassis.clock import SYSTEM
from chassis.discovery.election import lead
from chassis.errors import Faulty
from tests.support.registry import opened, until


@pytest.fixture
async def other(address):
    """A second process's view."""
    registry = opened(address)
    yield registry
    await registry.close()


async def test_of_two_sessions_one_holds_the_key_and_the_key_says_which(registry, other, name):
    first, second = await registry.session("first"), await other.session("second")
    assert await first.acquire(name, b"first")
    assert not await second.acquire(name, b"second")
    _, found = await registry.kv_get(name)
    assert (found.value, found.session) == (b"first", first.id)
    await first.close()
    await second.close()


async def test_of_many_that_ask_at_once_one_holds_the_key(address, name):
    registries = [opened(address) for _ in range(6)]
    sessions = [await one.session("contender") for one in registries]
    wins = await asyncio.gather(*[one.acquire(name, one.id.encode()) for one in sessions])
    assert sorted(wins) == [False] * 5 + [True]
    _, found = await registries[0].kv_get(name)
    assert found.session == sessions[wins.index(True)].id == found.value.decode()
    for registry in registries:
        await registry.close()


async def test_what_is_held_may_be_acquired_again_with_a_new_value(registry, name):
    session = await registry.session("one")
    assert await session.acquire(name, b"old")
    assert await session.acquire(name, b"new")
    _, found = await registry.kv_get(name)
    assert (found.value, found.session) == (b"new", session.id)
    await session.close()


async def test_a_released_key_is_given_on_at_once(registry, other, name):
    first = await registry.session("first", lock_delay_s=30)
    second = await other.session("second")
    await first.acquire(name, b"first")
    assert not await second.release(name)
    assert await first.release(name, b"nobody")
    _, found = await registry.kv_get(name)
    assert (found.value, found.session) == (b"nobody", "")
    assert await second.acquire(name, b"second")
    await first.close()
    await second.close()


async def test_a_closed_session_has_released_its_keys_as_they_were(registry, other, name):
    first = await registry.session("first", lock_delay_s=30)
    await first.acquire(name, b"left")
    await first.close()
    await first.close()
    assert first.is_lost
    assert not await first.acquire(name)
    second = await other.session("second")
    _, found = await other.kv_get(name)
    assert (found.value, found.session) == (b"left", "")
    assert await second.acquire(name)
    await second.close()


async def test_an_ephemeral_sessions_keys_are_deleted_when_it_ends(registry, name):
    session = await registry.session("short", ephemeral=True)
    await session.acquire(name, b"here")
    await registry.consul.session.destroy(session.id)
    _, found = await registry.kv_get(name)
    assert found is None
    await session.close()


async def test_a_key_of_an_ended_session_is_nobodys_until_its_lock_delay_has_passed(
    registry, other, name
):
    first = await registry.session("first", lock_delay_s=1.0)
    second = await other.session("second")
    await first.acquire(name)
    await registry.consul.session.destroy(first.id)
    ended = SYSTEM.monotonic()
    await until(lambda: second.acquire(name), bool)
    assert 0.9 < SYSTEM.monotonic() - ended < 3
    await first.close()
    await second.close()


async def test_a_session_that_the_registry_ended_is_lost_when_it_next_asks(registry, name):
    session = await registry.session("one")
    await session.acquire(name)
    await registry.consul.session.destroy(session.id)
    assert not await session.acquire(f"{name}/other")
    assert session.is_lost
    async with asyncio.timeout(1):
        await session.lost()
    await session.close()


@pytest.mark.slow
async def test_a_session_that_the_registry_ended_is_noticed_at_the_next_renewal(registry, name):
    session = await registry.session("one", ttl_s=10)
    await registry.consul.session.destroy(session.id)
    async with asyncio.timeout(4):
        await session.lost()
    await session.close()


async def test_anybody_may_write_a_held_key_and_it_stays_held(registry, name):
    session = await registry.session("one")
    await session.acquire(name, b"mine")
    assert await registry.kv_put(name, b"anybody's")
    _, found = await registry.kv_get(name)
    assert (found.value, found.session) == (b"anybody's", session.id)
    await session.close()


async def test_who_waits_for_a_key_hears_of_its_release(registry, other, name):
    session = await registry.session("one")
    await session.acquire(name)
    index, _ = await other.kv_get(name)
    waiting = asyncio.create_task(other.kv_get(name, index=index))
    await asyncio.sleep(0)
    await session.release(name)
    async with asyncio.timeout(2):
        _, found = await waiting
    assert found.session == ""
    await session.close()


@pytest.mark.parametrize(
    "limits", [{"ttl_s": 9.9}, {"ttl_s": 86_401}, {"lock_delay_s": 61}, {"lock_delay_s": -1}]
)
async def test_a_session_outside_its_limits_is_refused(registry, limits):
    with pytest.raises(Faulty, match="from 10 to"):
        await registry.session("one", **limits)


class Work:
    """Runs until told to end; counts who runs it at the same time."""

    def __init__(self) -> None:
        self.leaders: list[str] = []
        self.most = 0
        self.done = asyncio.Event()

    async def run(self, name: str) -> str:
        self.leaders.append(name)
        self.most = max(self.most, len(self.leaders))
        try:
            await self.done.wait()
            return name
        finally:
            self.leaders.remove(name)


def contending(registry, name: str, who: str, work: Work) -> asyncio.Task[str]:
    leading = lead(registry, name, who, lambda: work.run(who), SYSTEM, lock_delay_s=0.2)
    return asyncio.create_task(leading)


async def nothing() -> None:
    pass


async def test_one_contender_leads_and_the_other_follows_when_it_leaves(registry, other, name):
    work = Work()
    tasks = {"a": contending(registry, name, "a", work), "b": contending(other, name, "b", work)}
    await until(nothing, lambda _: work.leaders)
    (first,) = work.leaders
    _, found = await registry.kv_get(name)
    assert found.value == first.encode()
    tasks.pop(first).cancel()
    ((second, task),) = tasks.items()
    await until(nothing, lambda _: work.leaders == [second])
    work.done.set()
    assert await task == second
    assert work.most == 1
    _, found = await registry.kv_get(name)
    assert found.session == ""


@pytest.mark.slow
async def test_a_leader_whose_session_was_ended_stops_its_work_and_the_other_leads(
    registry, other, name
):
    work = Work()
    tasks = {"a": contending(registry, name, "a", work), "b": contending(other, name, "b", work)}
    await until(nothing, lambda _: work.leaders)
    first = work.leaders[0]
    (second,) = {"a", "b"} - {first}
    _, found = await registry.kv_get(name)
    await registry.consul.session.destroy(found.session)
    await until(nothing, lambda _: work.leaders == [second], 10)
    assert not tasks[first].done()
    work.done.set()
    assert await tasks[second] == second
    assert await tasks[first] == first


@pytest.mark.slow
async def test_when_a_leader_dies_the_other_leads_within_two_ttls_and_the_lock_delay(
    address, other, name
):
    work = Work()
    dying = opened(address)
    first = await dying.session("first", ttl_s=10, lock_delay_s=0.5)
    assert await first.acquire(name)
    task = contending(other, name, "second", work)
    await dying.close()  # no more renewals, nothing released: as a kill leaves it
    died = SYSTEM.monotonic()
    await until(nothing, lambda _: work.leaders == ["second"], 25)
    assert SYSTEM.monotonic() - died > 9
    work.done.set()
    assert await task == "second"


async def test_what_the_work_raises_ends_the_leading(registry, name):
    async def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await lead(registry, name, "a", fail, SYSTEM)
    _, found = await registry.kv_get(name)
    assert found.session == ""
