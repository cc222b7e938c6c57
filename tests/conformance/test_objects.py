"""What every adapter of the objects port does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import (
    AlreadyExists,
    BadRequest,
    ConfigurationFault,
    Conflict,
    Faulty,
    Missing,
    StoreUnavailable,
)
from chassis.storage import Objects, open_objects
from chassis.storage.objects import check_key
from tests.support import buckets
from tests.support.cancelling import interrupted

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
    assert {type(result) for result in results if result is not None} == {AlreadyExists}, results
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


@pytest.mark.slow
async def test_a_long_list_comes_in_key_order_whatever_its_pages(objects: Objects) -> None:
    folders = ("a", "a-b", "a.b", "a=b", "a_b", "ab", "A")
    keys = [f"l/{folder}/{n}" for folder in folders for n in range(160)]
    for start in range(0, len(keys), 40):
        await asyncio.gather(*[objects.create(key, b"") for key in keys[start : start + 40]])
    assert [info.key async for info in objects.list("l")] == sorted(keys)
    below = [key for key in sorted(keys) if key.startswith("l/a/")]
    assert [info.key async for info in objects.list("l/a")] == below


@pytest.mark.slow
async def test_a_huge_body_is_whole(objects: Objects) -> None:
    body = bytes(range(256)) * (64 << 12)
    await objects.create("huge", body)
    assert await objects.get("huge") == body
    assert await objects.get_range("huge", 50_000_000, 10) == body[50_000_000:50_000_010]
    assert await objects.get_range("huge", -8, 8) == body[-8:]


async def test_a_range_of_an_empty_object_is_empty(objects: Objects) -> None:
    await objects.create("empty", b"")
    for start, length in ((0, 1), (-8, 8), (-1, 9), (5, 5)):
        assert await objects.get_range("empty", start, length) == b""


async def test_an_object_and_a_folder_cannot_share_a_name(objects: Objects) -> None:
    await objects.create("a/b", b"")
    for key in ("a", "a/b/c"):
        with pytest.raises(AlreadyExists):
            await objects.create(key, b"")


async def test_a_replacement_needs_the_tag_that_is_there(objects: Objects) -> None:
    await objects.create("a/b", b"1")
    first = (await objects.head("a/b")).tag
    second = await objects.replace("a/b", b"22", first)
    assert (await objects.head("a/b")).tag == second != first
    with pytest.raises(Conflict, match="a/b"):
        await objects.replace("a/b", b"3", first)
    assert await objects.get("a/b") == b"22"
    with pytest.raises(Missing, match="a/c"):
        await objects.replace("a/c", b"3", first)


async def test_of_many_replacements_of_one_tag_one_wins(
    opener: Callable[[], Objects], objects: Objects
) -> None:
    other = opener()
    await objects.create("k", b"0")
    tag = (await objects.head("k")).tag
    tries = [(objects, other)[n % 2].replace("k", b"%d" % n, tag) for n in range(1, 17)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    won = [result for result in results if isinstance(result, str)]
    assert won == [(await other.head("k")).tag]
    assert sum(isinstance(result, Conflict) for result in results) == 15
    await other.close()


async def pieces_of(*pieces: bytes | Exception) -> AsyncIterator[bytes]:
    for piece in pieces:
        await asyncio.sleep(0)
        if isinstance(piece, Exception):
            raise piece
        yield piece


@pytest.mark.parametrize("pieces", [[], [b""], [b"x"], [bytes([n]) * 3_000_000 for n in range(7)]])
async def test_pieces_become_one_object(objects: Objects, pieces: list[bytes]) -> None:
    await objects.create_from(KEY, pieces_of(*pieces))
    assert await objects.get(KEY) == b"".join(pieces)


async def test_pieces_never_overwrite(objects: Objects) -> None:
    await objects.create("a/b", b"first")
    with pytest.raises(AlreadyExists, match="a/b"):
        await objects.create_from("a/b", pieces_of(b"second"))
    assert await objects.get("a/b") == b"first"
    assert [info.key async for info in objects.list()] == ["a/b"]


async def test_of_many_creates_from_pieces_one_wins_whole(objects: Objects) -> None:
    tries = [objects.create_from(KEY, pieces_of(bytes([n]) * 100_000)) for n in range(8)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert results.count(None) == 1
    assert {type(result) for result in results if result is not None} == {AlreadyExists}, results
    assert await objects.get(KEY) == bytes([results.index(None)]) * 100_000


@pytest.mark.parametrize("fault", [ValueError("no more"), FileNotFoundError("no more")])
async def test_pieces_that_fail_leave_nothing_and_say_why(
    objects: Objects, fault: Exception
) -> None:
    with pytest.raises(type(fault), match="no more"):
        await objects.create_from("a", pieces_of(b"x" * 9_000_000, fault))
    assert [info async for info in objects.list()] == []


async def test_pieces_whose_reader_is_cancelled_leave_nothing(objects: Objects) -> None:
    waiting = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 5_000_000
        waiting.set()
        await asyncio.Event().wait()

    creating = asyncio.create_task(objects.create_from("a", endless()))
    await waiting.wait()
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    assert [info async for info in objects.list()] == []


async def test_pieces_whose_reader_is_cancelled_at_their_end_leave_nothing(
    opener: Callable[[], Objects],
) -> None:
    objects, later = opener(), opener()

    async def some() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        creating.cancel()

    creating = asyncio.create_task(objects.create_from("a", some()))
    with pytest.raises(asyncio.CancelledError):
        await creating
    await objects.close()
    assert [info async for info in later.list()] == []
    await later.close()


async def test_a_presigned_url_reads_one_object_without_keys(objects: Objects) -> None:
    await objects.create("a/b", b"body")
    if not objects.capabilities.presigned:
        with pytest.raises(Faulty, match="capabilities"):
            objects.presigned("a/b", 60)
        return
    url = objects.presigned("a/b", 60)
    async with httpx.AsyncClient() as anybody:
        assert (await anybody.get(url)).content == b"body"
        assert (await anybody.get(url.replace("a/b", "a/c"))).status_code == 403
        assert (await anybody.put(url, content=b"mine")).status_code == 403
    with pytest.raises(BadRequest, match="seconds"):
        objects.presigned("a/b", 0)


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


async def test_cancelled_at_any_await_it_is_done_whole_or_not_at_all(objects: Objects) -> None:
    await objects.create("there", b"1")
    body = b"x" * 100_000
    for turns in range(24):
        tag = (await objects.head("there")).tag
        calls = [
            objects.create(f"c/{turns}", body),
            objects.create_from(f"p/{turns}", pieces_of(body, body)),
            objects.replace("there", b"%d" % turns, tag),
            objects.get("there"),
            objects.delete(f"c/{turns - 1}"),
        ]
        tasks = [asyncio.ensure_future(call) for call in calls]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    alone: list[Callable[[int], Awaitable[object]]] = [
        lambda at: objects.create(f"c/at-{at}", body),
        lambda at: objects.create_from(f"p/at-{at}", pieces_of(body, body)),
        lambda at: objects.get_range("there", -1, 1),
        lambda at: objects.head("there"),
        lambda at: objects.delete(f"c/at-{at}"),
    ]
    for call in alone:
        at = 0
        while await interrupted(call(at), at):
            at += 1
    assert {info.size async for info in objects.list("c")} <= {100_000}
    assert {info.size async for info in objects.list("p")} <= {200_000}
    assert await objects.get("there") in {b"%d" % n for n in range(24)}


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
