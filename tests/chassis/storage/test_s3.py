"""What only a bucket on a real server does: keys, buckets, slowness, death and return."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import obstore
import pytest
from obstore.store import S3Store

from chassis.clock import ManualClock
from chassis.errors import ConfigurationFault, Missing, StoreUnavailable
from chassis.storage import Objects, open_objects
from tests.support import buckets, real
from tests.support.scripted import eventually
from tests.support.tcp_proxy import TcpProxy


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    parts = urlsplit(buckets.endpoint())
    async with TcpProxy(parts.hostname or "", parts.port or 0) as proxy:
        yield proxy


@pytest.fixture
async def objects(proxy: TcpProxy) -> AsyncIterator[Objects]:
    """A bucket behind the proxy, whose answers are awaited for a second."""
    objects = open_objects(buckets.fresh(endpoint=f"http://127.0.0.1:{proxy.port}", timeout_s="1"))
    await objects.create("there", b"body")
    yield objects
    proxy.resume()
    proxy.accept()
    await objects.close()


@pytest.mark.parametrize("wrong", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
async def test_wrong_keys_are_named_and_not_shown(wrong: str) -> None:
    url = buckets.fresh()
    objects = open_objects(url, environ={**os.environ, wrong: "not-the-right-one"})
    for call in (objects.head("a"), objects.create("a", b""), objects.delete("a")):
        with pytest.raises(ConfigurationFault, match="AWS_SECRET_ACCESS_KEY") as raised:
            await call
        said = str(raised.value)
        assert "not-the-right-one" not in said
        assert os.environ["AWS_SECRET_ACCESS_KEY"] not in said
    await objects.close()


async def test_a_bucket_that_is_missing_is_made_only_where_that_is_allowed() -> None:
    bucket = urlsplit(buckets.fresh()).netloc
    careful = open_objects(buckets.url(bucket))
    for call in (careful.get("a"), careful.head("a"), careful.create("a", b"")):
        with pytest.raises(ConfigurationFault, match="create=yes"):
            await call
    allowed = [open_objects(buckets.url(bucket, create="yes")) for _ in range(4)]
    await asyncio.gather(*[one.create(f"k/{n}", b"") for n, one in enumerate(allowed)])
    assert [info.key async for info in careful.list()] == [f"k/{n}" for n in range(4)]
    for one in (careful, *allowed):
        await one.close()


async def test_prefixes_of_one_bucket_are_stores_of_their_own() -> None:
    bucket = urlsplit(buckets.fresh()).netloc
    one = open_objects(buckets.url(f"{bucket}/one", create="yes"))
    other = open_objects(buckets.url(f"{bucket}/one/more"))
    await one.create("a", b"1")
    await other.create("a", b"2")
    assert [info.key async for info in other.list()] == ["a"]
    assert (await one.get("a"), await other.get("a")) == (b"1", b"2")
    async with httpx.AsyncClient() as anybody:
        assert (await anybody.get(other.presigned("a", 9))).content == b"2"
    await one.close()
    await other.close()


@pytest.mark.slow
async def test_a_server_that_answers_nothing_holds_a_call_for_a_bounded_time(
    objects: Objects, proxy: TcpProxy
) -> None:
    proxy.hold()
    began = time.monotonic()
    for call in (objects.create("k", b""), objects.head("there"), objects.delete("other")):
        with pytest.raises(StoreUnavailable, match="no answer"):
            await call
    assert time.monotonic() - began < 6
    proxy.resume()
    assert await objects.get("there") == b"body"


async def test_a_slow_server_is_waited_for(objects: Objects, proxy: TcpProxy) -> None:
    proxy.delay_s = 0.1
    await objects.create("slow", b"1")
    assert await objects.get("slow") == b"1"


async def test_connections_cut_in_the_middle_cost_a_read_nothing(
    objects: Objects, proxy: TcpProxy
) -> None:
    proxy.hold()
    reading = [asyncio.create_task(objects.get("there")) for _ in range(4)]
    before = proxy.accepted
    await eventually(lambda: proxy.accepted > before)
    proxy.cut()
    proxy.resume()
    assert await asyncio.gather(*reading) == [b"body"] * 4


async def test_a_server_that_cannot_be_reached_is_named_with_what_to_do(
    objects: Objects, proxy: TcpProxy
) -> None:
    proxy.refuse()
    with pytest.raises(StoreUnavailable, match=rf"127.0.0.1:{proxy.port}.*is it running"):
        await objects.create("k", b"")
    proxy.accept()
    await objects.create("k", b"")


@pytest.mark.slow
async def test_many_callers_of_a_silent_server_all_give_up_in_time(
    objects: Objects, proxy: TcpProxy
) -> None:
    proxy.hold()
    async with asyncio.timeout(8):
        found = await asyncio.gather(
            *[objects.head("there") for _ in range(60)], return_exceptions=True
        )
    assert {type(one) for one in found} == {StoreUnavailable}
    proxy.resume()
    assert (await objects.head("there")).size == 4


async def test_many_first_callers_of_a_silent_server_all_give_up_together(
    proxy: TcpProxy,
) -> None:
    proxy.hold()
    url = buckets.fresh(endpoint=f"http://127.0.0.1:{proxy.port}", timeout_s="0.6")
    objects = open_objects(url)
    async with asyncio.timeout(5):
        found = await asyncio.gather(
            *[objects.head("a") for _ in range(40)], return_exceptions=True
        )
    assert {type(one) for one in found} == {StoreUnavailable}
    proxy.resume()
    await objects.create("a", b"")
    await objects.close()


async def test_who_waits_for_a_bucket_that_is_closed_before_it_opens_is_told(
    proxy: TcpProxy,
) -> None:
    proxy.hold()
    objects = open_objects(buckets.fresh(endpoint=f"http://127.0.0.1:{proxy.port}", timeout_s="1"))
    waiting = asyncio.create_task(objects.head("there"))
    await asyncio.sleep(0)
    await objects.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await waiting


async def test_what_crashed_writers_staged_is_removed_once_it_is_old() -> None:
    url = buckets.fresh()
    first = open_objects(url)
    await first.create("a", b"")
    staged = _store(url)
    obstore.put(staged, ".staging/left", b"half")
    clock = ManualClock(now=(await first.head("a")).modified + 60)
    for age_s, left in ((0, [".staging/left"]), (3700, [])):
        clock.tick(age_s)
        again = open_objects(url, clock)
        assert [info.key async for info in again.list()] == ["a"]
        found = [meta["path"] for meta in obstore.list(staged, ".staging").collect()]
        assert found == left
        await again.close()
    await first.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[real.RealServer]:
    server = real.own("s3", tmp_path)
    os.environ.update(server.environ)
    yield server
    server.stop()


@pytest.mark.slow
async def test_a_server_killed_under_writers_comes_back_with_all_they_were_told(
    own: real.RealServer,
) -> None:
    objects = open_objects(f"{own.url}&create=yes&timeout_s=1")
    told: list[str] = []
    failed = 0

    async def write(writer: int) -> None:
        nonlocal failed
        for n in range(200):
            key = f"w{writer}/{n}"
            try:
                await objects.create(key, key.encode() * 1000)
            except StoreUnavailable:
                failed += 1
            else:
                told.append(key)

    writers = [asyncio.create_task(write(writer)) for writer in range(8)]
    await eventually(lambda: len(told) > 100)
    own.kill()
    await eventually(lambda: failed > 0)
    await asyncio.to_thread(own.start)
    await asyncio.gather(*writers)
    assert len(told) > 200
    kept = {info.key: info.size async for info in objects.list()}
    assert {key: kept.get(key) for key in told} == {key: len(key) * 1000 for key in told}
    assert all(size == len(key) * 1000 for key, size in kept.items())
    await objects.close()


@pytest.mark.slow
async def test_no_part_of_an_upload_stays_behind(own: real.RealServer, tmp_path: Path) -> None:
    objects = open_objects(f"{own.url}&create=yes")

    async def pieces(ends: bool) -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"x" * 5_000_000
        if not ends:
            await eventually(lambda: len(_parts(tmp_path)) == 2)  # 8 MB each, both are there
            raise ValueError("no more")

    await objects.create_from("whole", pieces(ends=True))
    with pytest.raises(ValueError, match="no more"):
        await objects.create_from("half", pieces(ends=False))
    assert _parts(tmp_path) == []
    with pytest.raises(Missing):
        await objects.head("half")
    await objects.close()


def _parts(folder: Path) -> list[Path]:
    """What versitygw keeps of unfinished uploads."""
    return [file for file in folder.rglob(".sgwtmp/**/*") if file.is_file()]


def _store(url: str) -> S3Store:
    """The bucket without our adapter."""
    parts = urlsplit(url)
    return S3Store(
        parts.netloc,
        endpoint=parse_qs(parts.query)["endpoint"][0],
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region="us-east-1",
        client_options={"allow_http": True},
    )
