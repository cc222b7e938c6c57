"""What every registry must do with instances."""

from __future__ import annotations

import asyncio

import pytest

from chassis.discovery import Instance
from chassis.errors import StoreUnavailable
from tests.support.ports import free_port
from tests.support.registry import opened, until


def instance(service: str, number: int = 1) -> Instance:
    return Instance(f"{service}-{number}", service, "127.0.0.1", 9000 + number, {"admin": "x:1"})


async def test_a_registered_instance_is_listed_as_it_was_given(registry, name):
    registration = await registry.register(instance(name))
    _, found = await registry.instances(name)
    assert found == [instance(name)]
    await registration.deregister()


async def test_instances_are_ordered_by_id(registry, name):
    for number in (3, 1, 2):
        await registry.register(instance(name, number))
    _, found = await registry.instances(name)
    assert [one.id for one in found] == [f"{name}-1", f"{name}-2", f"{name}-3"]


async def test_an_unknown_service_has_no_instances_and_an_index_to_wait_on(registry, name):
    index, found = await registry.instances(name)
    assert found == []
    assert index > 0


async def test_a_deregistered_instance_is_gone_at_once_and_may_be_deregistered_again(
    registry, name
):
    registration = await registry.register(instance(name))
    await registration.deregister()
    await registration.deregister()
    _, found = await registry.instances(name)
    assert found == []


async def test_who_leaves_takes_no_successor_of_the_same_id_out(registry, name):
    """As when a process and the one that replaces it run side by side for a while."""
    old = await registry.register(instance(name))
    successor = Instance(f"{name}-1", name, "127.0.0.1", 9999, {"admin": "x:2"})
    new = await registry.register(successor)
    await old.deregister()
    assert (await registry.instances(name))[1] == [successor]
    await new.deregister()
    assert (await registry.instances(name))[1] == []


async def test_a_service_is_named_only_while_it_has_instances(registry, name):
    registration = await registry.register(instance(name))
    _, names = await registry.services()
    assert name in names
    await registration.deregister()
    _, names = await registry.services()
    assert name not in names


async def test_a_blocking_query_hears_of_a_new_instance_before_its_wait_is_over(registry, name):
    index, _ = await registry.instances(name)
    waiting = asyncio.create_task(registry.instances(name, index=index, wait_s=30))
    await asyncio.sleep(0)
    await registry.register(instance(name))
    async with asyncio.timeout(2):
        newer, found = await waiting
    assert newer > index
    assert found == [instance(name)]


async def test_a_blocking_query_hears_of_a_deregistration(registry, name):
    await registry.register(instance(name, 1))
    registration = await registry.register(instance(name, 2))
    index, _ = await registry.instances(name)
    waiting = asyncio.create_task(registry.instances(name, index=index, wait_s=30))
    await asyncio.sleep(0)
    await registration.deregister()
    async with asyncio.timeout(2):
        _, found = await waiting
    assert found == [instance(name, 1)]


async def test_a_blocking_query_ends_with_the_old_index_when_nothing_happened(registry, name):
    await registry.register(instance(name))
    index, _ = await registry.instances(name)
    again, found = await registry.instances(name, index=index, wait_s=0.05)
    assert again == index
    assert found == [instance(name)]


async def test_an_instance_whose_heartbeats_end_is_no_longer_listed(address, registry, name):
    dying = opened(address)
    await dying.register(instance(name), ttl_s=0.2)
    await dying.close()
    await until(lambda: registry.instances(name), lambda answer: answer[1] == [])


async def test_heartbeats_keep_an_instance_listed_beyond_its_ttl(registry, name):
    await registry.register(instance(name), ttl_s=0.2)
    index, _ = await registry.instances(name)
    again, found = await registry.instances(name, index=index, wait_s=0.6)
    assert (again, found) == (index, [instance(name)])


async def test_an_instance_that_the_registry_forgot_registers_itself_again(address, registry, name):
    await registry.register(instance(name), ttl_s=0.2)
    await registry.consul.agent.service.deregister(f"{name}-1")
    await until(lambda: registry.instances(name), lambda answer: answer[1] != [])


async def test_a_cancelled_blocking_query_leaves_the_client_usable(registry, name):
    index, _ = await registry.kv_get(name)
    waiting = asyncio.create_task(registry.kv_get(name, index=index))
    await asyncio.sleep(0.02)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await registry.kv_put(name, b"still here")


async def test_the_leader_is_known(registry):
    assert ":" in await registry.leader()


async def test_a_registry_that_is_not_there_is_unavailable():
    registry = opened(f"consul://127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await registry.services()
    with pytest.raises(StoreUnavailable):
        await registry.register(instance("nobody"))
    await registry.close()
