"""How blocking queries behave on every registry."""

from __future__ import annotations

import asyncio

from chassis.clock import SYSTEM
from chassis.discovery import Instance
from chassis.discovery.directory import Directory
from tests.support.registry import until


def instance(service: str, number: int = 1) -> Instance:
    return Instance(f"{service}-{number}", service, "127.0.0.1", 9000 + number)


async def test_every_change_of_a_key_has_a_higher_index_than_the_one_before(registry, name):
    seen = []
    for number in range(10):
        await registry.kv_put(name, b"%d" % number)
        index, found = await registry.kv_get(name)
        assert found.index <= index
        seen.append(found.index)
    assert seen == sorted(set(seen))


async def test_whoever_follows_a_key_by_its_index_ends_with_its_last_value(registry, name):
    async def follow() -> list[bytes]:
        index, values = 0, []
        while not values or values[-1] != b"last":
            index, found = await registry.kv_get(name, index=index)
            if found is not None:
                values.append(found.value)
        return values

    following = asyncio.create_task(follow())
    for number in range(50):
        await registry.kv_put(name, b"%02d" % number)
    await registry.kv_put(name, b"last")
    async with asyncio.timeout(5):
        values = await following
    assert values == sorted(values)


async def test_a_wait_lasts_as_long_as_asked_and_up_to_a_sixteenth_more(registry, name):
    index, _ = await registry.kv_get(name)
    began = SYSTEM.monotonic()
    await registry.kv_get(name, index=index, wait_s=0.64)
    assert 0.63 < SYSTEM.monotonic() - began < 0.64 * 17 / 16 + 0.5


async def test_many_that_wait_for_one_service_all_hear_of_its_change(registry, name):
    index, _ = await registry.instances(name)
    waiting = [
        asyncio.create_task(registry.instances(name, index=index, wait_s=30)) for _ in range(50)
    ]
    await asyncio.sleep(0)
    await registry.register(instance(name))
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*waiting)
    assert [found for _, found in answers] == [[instance(name)]] * 50


async def test_a_directory_follows_every_coming_and_going(registry, name):
    directory = Directory(registry, SYSTEM)
    directory.watch(name)
    await registry.register(instance(name, 1))
    second = await registry.register(instance(name, 2))

    async def listed() -> list[str]:
        return [one.id for one in directory.instances(name)]

    await until(listed, lambda ids: ids == [f"{name}-1", f"{name}-2"])
    await second.deregister()
    await until(listed, lambda ids: ids == [f"{name}-1"])
    await directory.close()


async def test_hundreds_may_watch_at_once(registry, name):
    """Each watch holds a connection open, and all processes of a machine share one address."""
    index, _ = await registry.instances(name)
    watching: list[asyncio.Task[object]] = []
    while len(watching) < 300:
        asking = [registry.instances(name, index=index, wait_s=30) for _ in range(20)]
        watching += map(asyncio.ensure_future, asking)
        await registry.leader()
    await registry.register(instance(name))
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*watching)
    assert all(found == [instance(name)] for _, found in answers)
