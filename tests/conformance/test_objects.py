"""What every adapter of the objects port does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import AlreadyExists, BadRequest, ConfigurationFault, Missing, StoreUnavailable
from chassis.storage import Objects, open_objects
from chassis.storage.objects import check_key
from tests.support import buckets

KEY = "raw/play.lifecycle/1700000000000000/dt=2025-01-01/hr=07/p=3/00000000000000000042.parquet"


@pytest.fixture(params=["file", "s3"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Objects]:
    url = f"file://{tmp_path}/deep/objects" if request.param == "file" else buckets.fresh()
    return lambda: open_objects(url)


@pytest.fixture
async def objects(opener: Callable[[], Objects]) -> AsyncIterator[Objects]:
    objects = opener()
    yield objects
    await objects.close()


@pytest.mark.parametrize("body", [b"", b"PAR1", bytes(range(256)) * 40_000])
async def test_a_body_is_read_back(objects: Objects, body: bytes) -> None:
    await objects.create(KEY, body)
    assert await objects.get(KEY) == body
    info = await objects.head(KEY)
    assert (info.key, info.size) == (KEY, len(body))


async def test_create_never_overwrites(objects: Objects) -> None:
    await objects.create("a/b", b"first")
    with pytest.raises(AlreadyExists, match="a/b"):
        await objects.create("a/b", b"second")
    assert await objects.get("a/b") == b"first"


async def test_of_many_creates_of_one_key_one_wins_whole(
    opener: Callable[[], Objects], objects: Objects
) -> None:
    other = opener()
    bodies = [bytes([n]) * 100_000 for n in range(16)]
    tries = [(objects, other)[n % 2].create(KEY, body) for n, body in enumerate(bodies)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert results.count(None) == 1
    assert all(isinstance(result, AlreadyExists) for result in results if result is not None)
    assert await other.get(KEY) == bodies[results.index(None)]
    await other.close()


async def test_a_missing_object_is_named(objects: Objects) -> None:
    for call in (objects.get("a/b"), objects.head("a/b"), objects.get_range("a/b", 0, 1)):
        with pytest.raises(Missing, match="a/b"):
            await call


async def test_a_folder_is_no_object(objects: Objects) -> None:
    await objects.create("a/b/c", b"")
    with pytest.raises(Missing):
        await objects.get("a/b")


async def test_a_range_ends_with_the_object(objects: Objects) -> None:
    await objects.create("a", b"0123456789")
    ranges = {(0, 4): b"0123", (8, 9): b"89", (-3, 2): b"78", (-99, 3): b"012"}
    for (start, length), expected in {**ranges, (10, 1): b"", (2, 0): b""}.items():
        assert await objects.get_range("a", start, length) == expected


async def test_a_list_is_everything_below_a_prefix_in_key_order(objects: Objects) -> None:
    for key in ("raw/t/2", "raw/t/10", "raw/t/1", "raw/tt/1", "b"):
        await objects.create(key, key.encode())
    assert [info.key async for info in objects.list("raw/t")] == ["raw/t/1", "raw/t/10", "raw/t/2"]
    assert [info.size async for info in objects.list()] == [1, 7, 8, 7, 8]
    assert [info async for info in objects.list("no/such")] == []


async def test_delete_is_harmless_when_there_is_none(objects: Objects) -> None:
    await objects.create("a/b", b"1")
    await objects.delete("a/b")
    await objects.delete("a/b")
    await objects.create("a/b", b"2")
    assert await objects.get("a/b") == b"2"


async def test_a_cancelled_create_happens_whole_or_not_at_all(objects: Objects) -> None:
    body = b"x" * 1_000_000
    tasks = [asyncio.create_task(objects.create(f"k/{n}", body)) for n in range(12)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await objects.create("later", b"")
    sizes = {info.key: info.size async for info in objects.list("k")}
    assert set(sizes.values()) == {len(body)}
    assert {f"k/{n}" for n in range(1, 12, 2)} <= set(sizes)


async def test_a_closed_store_says_so(opener: Callable[[], Objects]) -> None:
    objects = opener()
    await objects.close()
    with pytest.raises(StoreUnavailable):
        await objects.get("a")


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "..", "a/../b", ".hidden", "a b", "é"])
async def test_a_key_that_no_store_can_be_trusted_with_is_refused(
    objects: Objects, key: str
) -> None:
    with pytest.raises(BadRequest, match="segments"):
        await objects.create(key, b"")


@given(st.text(max_size=12))
def test_a_checked_key_stays_below_its_folder(key: str) -> None:
    try:
        check_key(key)
    except BadRequest:
        return
    assert not key.startswith("/")
    assert not any(segment.startswith(".") or not segment for segment in key.split("/"))


@pytest.mark.parametrize("url", ["objects", "file://objects", "file:///", "gs://bucket"])
def test_a_wrong_url_says_how_to_write_one(url: str) -> None:
    with pytest.raises(ConfigurationFault, match="file:///"):
        open_objects(url)
