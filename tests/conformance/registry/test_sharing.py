"""Systems that share one registry under prefixes of their own never meet."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from chassis.discovery import Instance, Registry
from tests.support.registry import opened, until


def under(address: str, prefix: str) -> Registry:
    return opened(urlsplit(address)._replace(query=f"prefix={prefix}").geturl())


@pytest.fixture
async def systems(address: str) -> AsyncIterator[list[Registry]]:
    """Three: two with names of which one begins with the other, and one without a prefix."""
    name = f"test-{uuid.uuid4().hex}"
    registries = [under(address, prefix) for prefix in (name, f"{name}-b", "")]
    yield registries
    for registry in registries:
        await registry.close()


async def test_each_finds_its_own_instances_under_the_same_names(systems, name):
    entered = []
    for port, registry in enumerate(systems, 9000):
        instance = Instance(f"{name}-1", name, "127.0.0.1", port, {"version": str(port)})
        entered.append(await registry.register(instance, ttl_s=30.0))
    for one, registry in zip(entered, systems, strict=True):
        assert (await registry.instances(name))[1] == [one.instance]
    await entered[0].deregister()
    await until(lambda: systems[0].instances(name), lambda answer: answer[1] == [])
    for one, registry in list(zip(entered, systems, strict=True))[1:]:
        assert (await registry.instances(name))[1] == [one.instance]
        await one.deregister()


async def test_each_lists_its_own_services(systems):
    first, second, _ = systems
    entered = [
        await registry.register(Instance("x-1", service, "127.0.0.1", 1), ttl_s=30.0)
        for registry, service in ((first, "catalog"), (second, "rights"))
    ]
    await until(first.services, lambda answer: answer[1] == ["catalog"])
    await until(second.services, lambda answer: answer[1] == ["rights"])
    for one in entered:
        await one.deregister()


async def test_each_has_keys_and_indexes_of_its_own(systems, name):
    first, second, plain = systems
    for value, registry in ((b"1", first), (b"2", second), (b"3", plain)):
        assert await registry.kv_put(f"{name}/rules", value, cas=0)
    for value, registry in ((b"1", first), (b"2", second), (b"3", plain)):
        _, found = await registry.kv_get(f"{name}/rules")
        assert (found.key, found.value) == (f"{name}/rules", value)
        _, listed = await registry.kv_list(name)
        assert listed == [found]
    assert [one.value for one in (await first.kv_list(""))[1]] == [b"1"]
    assert await first.kv_delete(f"{name}/rules")
    assert (await first.kv_get(f"{name}/rules"))[1] is None
    for registry in (second, plain):
        assert (await registry.kv_get(f"{name}/rules"))[1] is not None
        await registry.kv_delete(f"{name}/rules")


async def test_each_has_a_leader_of_its_own(systems, name):
    sessions = [await registry.session("leader", ephemeral=True) for registry in systems]
    for session in sessions:
        assert await session.acquire(name, session.id.encode())
    for session, registry in zip(sessions, systems, strict=True):
        _, found = await registry.kv_get(name)
        assert (found.session, found.value) == (session.id, session.id.encode())
    assert await sessions[0].release(name, b"nobody")
    assert (await systems[1].kv_get(name))[1].session == sessions[1].id
    for session in sessions:
        await session.close()
