"""What only a real Redis does: passwords, slowness, death and return."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chassis.cache import Cache, Quota, open_cache
from chassis.cache.redis import RedisPlace
from chassis.errors import ConfigurationFault, StoreUnavailable
from tests.support import real
from tests.support.tcp_proxy import TcpProxy

QUOTA = Quota(per_s=10, burst=10)


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    parts = urlsplit(real.fresh("redis"))
    async with TcpProxy(parts.hostname or "", parts.port or 0) as proxy:
        yield proxy


@pytest.fixture
async def cache(proxy: TcpProxy) -> AsyncIterator[Cache]:
    cache = open_cache(f"redis://127.0.0.1:{proxy.port}/0?timeout_s=0.5")
    await cache.put("there", b"v", 60)
    yield cache
    await cache.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[real.RealServer]:
    server = real.own("redis", tmp_path)
    yield server
    server.stop()


async def test_a_silent_server_holds_a_call_for_a_bounded_time(
    cache: Cache, proxy: TcpProxy
) -> None:
    proxy.hold()
    began = time.monotonic()
    asked = [cache.get("there"), cache.lease("q", QUOTA, 1)] * 30
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    assert time.monotonic() - began < 2
    proxy.resume()
    assert await cache.get("there") == b"v"


async def test_a_slow_server_is_waited_for(cache: Cache, proxy: TcpProxy) -> None:
    proxy.delay_s = 0.05
    assert await cache.get("there") == b"v"


async def test_a_late_answer_is_nobody_elses(cache: Cache, proxy: TcpProxy) -> None:
    await cache.put("other", b"w", 60)
    proxy.delay_s = 0.15
    late = await asyncio.gather(*[cache.get("there")] * 1, return_exceptions=True)
    proxy.delay_s = 0
    assert await cache.get("other") == b"w"
    assert late[0] == b"v" or isinstance(late[0], StoreUnavailable)


async def test_connections_that_are_cut_are_made_again(cache: Cache, proxy: TcpProxy) -> None:
    proxy.refuse()
    with pytest.raises(StoreUnavailable, match=rf"127.0.0.1:{proxy.port}.*is it running"):
        await cache.get("there")
    proxy.accept()
    assert await cache.get("there") == b"v"


@pytest.mark.slow
async def test_a_server_killed_in_the_middle_of_calls_comes_back_with_what_it_kept(
    own: real.RealServer,
) -> None:
    cache = open_cache(f"{own.url}?timeout_s=0.5")
    await cache.put("k", b"v", 600)
    assert (await cache.lease("q", Quota(0.001, 10), 7)).tokens == 7
    lost = 0

    async def ask() -> None:
        nonlocal lost
        try:
            while True:
                await cache.get("k")
        except StoreUnavailable:
            lost += 1

    asking = [asyncio.create_task(ask()) for _ in range(8)]
    await asyncio.to_thread(own.kill)
    await asyncio.wait_for(asyncio.gather(*asking), 5)
    assert lost == 8
    await asyncio.to_thread(own.start)
    assert await cache.get("k") == b"v"
    assert (await cache.lease("q", Quota(0.001, 10), 7)).tokens == 3
    await cache.close()


async def test_a_wrong_password_is_told_and_not_shown(own: real.RealServer) -> None:
    parts = urlsplit(own.url)
    where = f"{parts.hostname}:{parts.port}"
    password = parts.password or require(parts.port or 0, "right-one")
    for wrong in ("redis://", "redis://:wrong-one@", "redis://nobody:wrong-one@"):
        cache = open_cache(f"{wrong}{where}/0?timeout_s=1")
        for call in (cache.get("k"), cache.lease("q", QUOTA, 1)):
            with pytest.raises(ConfigurationFault, match="refuses the password") as raised:
                await call
            assert "wrong-one" not in str(raised.value)
        await cache.close()
    right = open_cache(f"redis://:{password}@{where}/0?timeout_s=1")
    assert await right.put("k", b"v", 1)
    assert password not in f"{right!r}"
    await right.close()


async def test_a_database_that_the_server_does_not_have_is_told(own: real.RealServer) -> None:
    where = own.url.rpartition("/")[0]
    cache = open_cache(f"{where}/99?timeout_s=1")
    for call in (cache.get("k"), cache.lease("q", QUOTA, 1)):
        with pytest.raises(ConfigurationFault, match="has no database 99"):
            await call
    await cache.close()


def require(port: int, password: str) -> str:
    """Makes the server ask for a password."""
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(f"CONFIG SET requirepass {password}\r\n".encode())
        assert link.recv(64) == b"+OK\r\n"
    return password


@pytest.mark.parametrize("mark", "/?#[")
def test_a_password_that_was_not_encoded_is_not_shown(mark: str) -> None:
    with pytest.raises(ConfigurationFault, match="percent-encode") as raised:
        open_cache(f"redis://:hus{mark}hot@h:7/3")
    assert "hus" not in str(raised.value)
    assert "hot" not in str(raised.value)


def test_a_password_is_in_no_text_of_a_place() -> None:
    place = RedisPlace.parse("rediss://me:hush%40@h:7/3?timeout_s=0.5")
    assert (place.user, place.password, place.tls) == ("me", "hush@", True)
    assert repr(place) == str(place) == "Redis at h:7/3"
