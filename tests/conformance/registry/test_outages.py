"""What every registry and its clients must do when the server dies, is slow, or is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from urllib.parse import urlsplit

import pytest

from chassis.clock import SYSTEM
from chassis.discovery import Instance, Registry
from chassis.discovery.directory import Directory
from chassis.errors import StoreUnavailable
from tests.support.registry import opened, until
from tests.support.tcp_proxy import TcpProxy

RECOVERS_S = 30.0


def instance(service: str, number: int = 1) -> Instance:
    return Instance(f"{service}-{number}", service, "127.0.0.1", 9000 + number)


async def nothing() -> None:
    pass


@pytest.fixture
async def proxy(address: str) -> AsyncIterator[TcpProxy]:
    """The registry, behind a proxy that can make it slow or silent."""
    parts = urlsplit(address)
    async with TcpProxy(parts.hostname, parts.port) as proxy:
        yield proxy


@pytest.fixture
async def behind(address: str, proxy: TcpProxy) -> AsyncIterator[Registry]:
    through = urlsplit(address)._replace(netloc=f"127.0.0.1:{proxy.port}")
    registry = opened(through.geturl())
    yield registry
    await registry.close()


@pytest.mark.slow
async def test_a_killed_registry_comes_back_with_its_keys_and_gets_its_instances_back(
    mortal, name, record_property
):
    registry = opened(mortal.url)
    directory = Directory(registry, SYSTEM)
    for number in (1, 2):
        await registry.register(instance(name, number), ttl_s=3.0)
    session = await registry.session("holder")
    await registry.kv_put(f"{name}/rules", b"kept")
    await session.acquire(f"{name}/leader", b"me")
    known = await directory.ready(name, 10)
    await until(nothing, lambda _: len(directory.instances(name)) == 2)
    known = directory.instances(name)

    await asyncio.to_thread(mortal.kill)
    with pytest.raises(StoreUnavailable):
        await registry.kv_get(f"{name}/rules")
    assert directory.instances(name) == known

    began = SYSTEM.monotonic()
    starting = asyncio.create_task(asyncio.to_thread(mortal.start))
    while not starting.done():
        assert directory.instances(name) == known
        await asyncio.sleep(0.01)
    starting.result()
    listed = await until(
        lambda: answered(registry, name), lambda found: len(found) == 2, RECOVERS_S
    )
    recovered_s = SYSTEM.monotonic() - began
    who = getattr(mortal, "name", "the embedded registry")
    told = f"{who} killed and started again: every instance listed after {recovered_s:.1f} s"
    record_property("measured", told)
    assert tuple(listed) == known == directory.instances(name)
    _, found = await registry.kv_get(f"{name}/rules")
    assert found.value == b"kept"
    _, found = await registry.kv_get(f"{name}/leader")
    assert (found.value, found.session) == (b"me", session.id)
    assert not session.is_lost
    await until(lambda: registry.instances(name), lambda answer: len(answer[1]) == 2)
    await directory.close()
    await registry.close()


async def answered(registry: Registry, name: str) -> list[Instance]:
    """The instances; none while the registry does not answer."""
    with contextlib.suppress(StoreUnavailable):
        _, found = await registry.instances(name)
        return found
    return []


@pytest.mark.slow
async def test_a_query_that_waits_when_the_registry_is_killed_fails_at_once(mortal, name):
    registry = opened(mortal.url)
    index, _ = await registry.kv_get(name)
    waiting = asyncio.create_task(registry.kv_get(name, index=index, wait_s=60))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await asyncio.to_thread(mortal.kill)
    async with asyncio.timeout(2):
        with pytest.raises(StoreUnavailable, match="the registry at"):
            await waiting
    await registry.close()


@pytest.mark.slow
async def test_a_slow_registry_keeps_who_renews_in_time(proxy, behind, registry, name):
    await behind.register(instance(name), ttl_s=2.7)
    index, _ = await registry.instances(name)
    proxy.delay_s = 1.05  # there and back is less than the TTL, but not with the pause between
    again, found = await registry.instances(name, index=index, wait_s=7.5)
    assert (again, found) == (index, [instance(name)])


@pytest.mark.slow
async def test_a_lost_answer_to_a_renewal_costs_no_lease(proxy, behind, registry, name):
    await behind.register(instance(name), ttl_s=0.9)
    index, _ = await registry.instances(name)
    for _ in range(8):
        proxy.cut()
        await asyncio.sleep(0.2)
    again, found = await registry.instances(name, index=index, wait_s=0.1)
    assert (again, found) == (index, [instance(name)])


@pytest.mark.slow
async def test_a_silent_registry_is_unavailable_after_five_seconds(proxy, behind, name):
    await behind.kv_put(name, b"before")
    proxy.hold()
    began = SYSTEM.monotonic()
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await behind.kv_get(name)
    assert 4 < SYSTEM.monotonic() - began < 8
    proxy.resume()
    _, found = await behind.kv_get(name)
    assert found.value == b"before"


@pytest.mark.slow
async def test_a_session_that_cannot_be_renewed_is_lost_after_its_ttl(
    proxy, behind, registry, name
):
    session = await behind.session("cut off", ttl_s=10)
    assert await session.acquire(name)
    proxy.refuse()
    began = SYSTEM.monotonic()
    async with asyncio.timeout(12):
        await session.lost()
    assert SYSTEM.monotonic() - began > 6
    proxy.accept()


async def test_a_call_can_be_cancelled_wherever_it_is(registry, name):
    """After one turn of the loop, after two, … until it gets through; the client goes on."""
    calls = [
        lambda: registry.kv_put(name, b"x"),
        lambda: registry.kv_get(name),
        lambda: registry.kv_list(name),
        lambda: registry.instances(name),
        registry.services,
        lambda: registry.kv_delete(name),
        registry.leader,
    ]
    for call in calls:
        turns = 0
        while not await done_after(turns, call()):
            turns += 1 + turns // 4
        assert await call() is not None


async def test_a_registration_cancelled_on_its_way_starts_no_heartbeat(registry, name):
    turns = 0
    while not await done_after(turns, registry.register(instance(name))):
        assert repr(registry).endswith(" 0 registered)")
        assert not renewing()
        turns += 1 + turns // 4
    assert repr(registry).endswith(" 1 registered)")
    assert renewing()


def renewing() -> list[str]:
    names = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in names if name.startswith("the lease of")]


async def done_after(turns: int, call: Coroutine[object, object, object]) -> bool:
    """Whether the call is done after so many turns of the loop; cancels it where it is not."""
    task = asyncio.ensure_future(call)
    for _ in range(turns):
        await asyncio.sleep(0)
    if task.done():
        task.result()
        return True
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return False


async def test_a_cancelled_deregistration_leaves_no_heartbeat_behind(behind, registry, name):
    registration = await behind.register(instance(name), ttl_s=0.3)
    leaving = asyncio.ensure_future(registration.deregister())
    await asyncio.sleep(0)
    leaving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await leaving
    await until(lambda: registry.instances(name), lambda answer: answer[1] == [])
    await registration.deregister()
