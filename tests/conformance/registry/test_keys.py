"""What every registry must do with keys."""

from __future__ import annotations

import asyncio

import pytest

from chassis.discovery.registry import LARGEST_VALUE
from chassis.errors import Faulty
from tests.support.registry import opened


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


async def test_half_a_mebibyte_is_a_value_and_a_byte_more_is_refused(registry, name):
    whole = bytes(range(256)) * (LARGEST_VALUE // 256)
    assert await registry.kv_put(name, whole)
    with pytest.raises(Faulty, match=f"{LARGEST_VALUE + 1} bytes"):
        await registry.kv_put(name, whole + b"x")
    _, found = await registry.kv_get(name)
    assert found.value == whole
    await registry.kv_delete(name)


async def test_of_many_that_compare_and_set_at_once_one_wins_each_round(address, name):
    writers = [opened(address) for _ in range(8)]
    index = 0
    for number in range(5):
        value = b"%d" % number
        wins = await asyncio.gather(*[one.kv_put(name, value, cas=index) for one in writers])
        assert sorted(wins) == [False] * 7 + [True]
        _, found = await writers[0].kv_get(name)
        assert (found.value, found.index > index) == (value, True)
        index = found.index
    await asyncio.gather(*[one.close() for one in writers])


async def test_no_increment_is_lost_when_many_count_in_one_key(address, name):
    async def count(times: int) -> None:
        registry = opened(address)
        for _ in range(times):
            while True:
                _, found = await registry.kv_get(name)
                value, cas = (int(found.value), found.index) if found else (0, 0)
                if await registry.kv_put(name, b"%d" % (value + 1), cas=cas):
                    break
        await registry.close()

    await asyncio.gather(*[count(10) for _ in range(4)])
    registry = opened(address)
    _, found = await registry.kv_get(name)
    assert int(found.value) == 40
    await registry.close()
