"""What every registry must do, run over each one that is there.

Set `STAGEDOOR_CONSUL` to the address of a real Consul (consul://127.0.0.1:8500) to include it.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest

from chassis.discovery import Instance, Registry
from chassis.errors import Faulty, StoreUnavailable
from tests.support.registry import free_port, opened, serving

T = TypeVar("T")
CONSUL = os.environ.get("STAGEDOOR_CONSUL", "")


@pytest.fixture(params=["embedded", *(["consul"] if CONSUL else [])])
async def address(request: pytest.FixtureRequest, tmp_path) -> AsyncIterator[str]:
    if request.param == "consul":
        yield CONSUL
        return
    async with serving(tmp_path / "registry") as address:
        yield address


@pytest.fixture
async def registry(address: str) -> AsyncIterator[Registry]:
    registry = opened(address)
    yield registry
    await registry.close()


@pytest.fixture
def name() -> str:
    """A service name and key prefix that no other test uses, so that a Consul can be shared."""
    return f"test-{uuid.uuid4().hex}"


def instance(service: str, number: int = 1) -> Instance:
    return Instance(f"{service}-{number}", service, "127.0.0.1", 9000 + number, {"admin": "x:1"})


async def until(read: Callable[[], Awaitable[T]], wanted: Callable[[T], bool]) -> T:
    """Polls for a condition, two seconds at most."""
    async with asyncio.timeout(2):
        while not wanted(value := await read()):  # noqa: ASYNC110  # nobody here to signal
            await asyncio.sleep(0.01)
    return value


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


async def test_a_key_is_read_back_byte_for_byte(registry, name):
    value = bytes(range(256))
    assert await registry.kv_put(f"{name}/bytes", value)
    _, found = await registry.kv_get(f"{name}/bytes")
    assert found.key == f"{name}/bytes"
    assert found.value == value


async def test_an_empty_value_is_a_value(registry, name):
    await registry.kv_put(name, b"")
    _, found = await registry.kv_get(name)
    assert found.value == b""


async def test_a_missing_key_is_none_with_an_index_to_wait_on(registry, name):
    index, found = await registry.kv_get(name)
    assert found is None
    assert index > 0


@pytest.mark.parametrize("key", ["a b", "ü/ß", "50%", "q?x=1&y", "deep/er/key"])
async def test_any_text_can_be_a_key(registry, name, key):
    await registry.kv_put(f"{name}/{key}", b"here")
    _, found = await registry.kv_list(f"{name}/")
    assert [one.key for one in found] == [f"{name}/{key}"]
    _, found = await registry.kv_get(f"{name}/{key}")
    assert found.value == b"here"


@pytest.mark.parametrize("key", ["/key", "a/../b", "./a"])
async def test_a_key_that_a_url_would_turn_into_another_is_refused(registry, key):
    with pytest.raises(Faulty):
        await registry.kv_put(key, b"")


async def test_compare_and_set_takes_one_of_two_writers(registry, name):
    await registry.kv_put(name, b"old")
    _, found = await registry.kv_get(name)
    assert await registry.kv_put(name, b"first", cas=found.index)
    assert not await registry.kv_put(name, b"second", cas=found.index)
    _, found = await registry.kv_get(name)
    assert found.value == b"first"


async def test_compare_and_set_with_zero_only_creates(registry, name):
    assert await registry.kv_put(name, b"first", cas=0)
    assert not await registry.kv_put(name, b"second", cas=0)


async def test_delete_with_an_old_index_loses(registry, name):
    await registry.kv_put(name, b"old")
    _, old = await registry.kv_get(name)
    await registry.kv_put(name, b"new")
    assert not await registry.kv_delete(name, cas=old.index)
    _, new = await registry.kv_get(name)
    assert await registry.kv_delete(name, cas=new.index)
    _, found = await registry.kv_get(name)
    assert found is None


async def test_deleting_a_missing_key_is_done_already(registry, name):
    assert await registry.kv_delete(name)


async def test_a_blocking_read_hears_of_a_write_and_of_a_deletion(registry, name):
    index, _ = await registry.kv_get(name)
    waiting = asyncio.create_task(registry.kv_get(name, index=index))
    await asyncio.sleep(0)
    await registry.kv_put(name, b"new")
    async with asyncio.timeout(2):
        index, found = await waiting
    assert found.value == b"new"
    waiting = asyncio.create_task(registry.kv_get(name, index=index))
    await asyncio.sleep(0)
    await registry.kv_delete(name)
    async with asyncio.timeout(2):
        _, found = await waiting
    assert found is None


async def test_a_blocking_list_hears_of_a_deletion_under_its_prefix(registry, name):
    await registry.kv_put(f"{name}/a", b"1")
    await registry.kv_put(f"{name}/b", b"2")
    index, found = await registry.kv_list(f"{name}/")
    assert [one.value for one in found] == [b"1", b"2"]
    waiting = asyncio.create_task(registry.kv_list(f"{name}/", index=index))
    await asyncio.sleep(0)
    await registry.kv_delete(f"{name}/a")
    async with asyncio.timeout(2):
        newer, found = await waiting
    assert newer > index
    assert [one.value for one in found] == [b"2"]


async def test_a_value_above_half_a_mebibyte_is_refused(registry, name):
    with pytest.raises(StoreUnavailable):
        await registry.kv_put(name, b"x" * (512 * 1024 + 1))
    _, found = await registry.kv_get(name)
    assert found is None


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
