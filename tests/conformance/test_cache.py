"""What every adapter of the cache port does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis

from chassis.cache import Cache, Grant, Quota, open_cache
from chassis.errors import BadRequest, ConfigurationFault, StoreUnavailable
from tests.support import real
from tests.support.cancelling import interrupted

MISER = Quota(per_s=0.001, burst=5)


@pytest.fixture(params=["memory", "redis"])
async def opener(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[], Cache]]:
    """Opens the same cache again; a cache in memory is one object for all of its process."""
    async with AsyncExitStack() as closing:
        if request.param == "memory":
            shared = open_cache("memory://")
            yield lambda: shared
            return

        def another() -> Cache:
            cache = open_cache(f"{url}?timeout_s=5")
            closing.push_async_callback(cache.close)
            return cache

        url = real.fresh("redis")
        async with Redis.from_url(url) as server:  # there are fewer databases than tests
            await server.flushdb()
        yield another


@pytest.fixture
def cache(opener: Callable[[], Cache]) -> Cache:
    return opener()


async def lapsed(cache: Cache, key: str) -> float:
    """When the value was gone, watched for two seconds."""
    until = time.monotonic() + 2
    while await cache.get(key) is not None:
        assert time.monotonic() < until
        await asyncio.sleep(0.002)
    return time.monotonic()


@pytest.mark.parametrize("value", [b"", b"v", bytes(range(256)) * 4096])
async def test_a_value_is_read_back_everywhere(
    opener: Callable[[], Cache], cache: Cache, value: bytes
) -> None:
    assert await cache.get("k") is None
    assert await cache.put("k", value, 60)
    assert await opener().get("k") == value
    assert await cache.put("k", b"other", 60)
    assert await opener().get("k") == b"other"


async def test_a_value_lapses_after_its_time_and_not_before(cache: Cache) -> None:
    began = time.monotonic()
    await cache.put("k", b"v", 0.2)
    assert 0.19 < await lapsed(cache, "k") - began < 1
    assert not await cache.delete("k")
    assert await cache.put("k", b"v", 60, absent=True)


async def test_a_value_that_is_written_again_lives_anew(cache: Cache) -> None:
    await cache.put("k", b"1", 0.05)
    await cache.put("k", b"2", 60)
    await cache.put("gone", b"", 0.05)
    await lapsed(cache, "gone")
    assert await cache.get("k") == b"2"


async def test_only_one_of_many_finds_the_key_absent(
    opener: Callable[[], Cache], cache: Cache
) -> None:
    others = [opener() for _ in range(4)]
    tries = [others[n % 4].put("k", b"%d" % n, 60, absent=True) for n in range(32)]
    kept = await asyncio.gather(*tries)
    assert kept.count(True) == 1
    assert await cache.get("k") == b"%d" % kept.index(True)


async def test_delete_says_whether_there_was_a_value(cache: Cache) -> None:
    await cache.put("k", b"", 60)
    assert await cache.delete("k")
    assert not await cache.delete("k")
    assert await cache.get("k") is None


@pytest.mark.parametrize("key", ["", "a b", "é", "k" * 251, "a\n"])
async def test_a_key_that_cannot_be_is_refused(cache: Cache, key: str) -> None:
    for call in (cache.get(key), cache.delete(key), cache.put(key, b"", 1)):
        with pytest.raises(BadRequest, match="1 to 250"):
            await call


async def test_a_value_that_is_too_big_or_lives_too_long_is_refused(cache: Cache) -> None:
    with pytest.raises(BadRequest, match="1048576 at most"):
        await cache.put("k", b"x" * ((1 << 20) + 1), 1)
    for ttl_s in (0, -1, 0.0001, 31 * 86400):
        with pytest.raises(BadRequest, match="seconds"):
            await cache.put("k", b"", ttl_s)


async def test_a_quota_gives_its_burst_and_then_says_when_to_come_back(cache: Cache) -> None:
    assert await cache.lease("q", MISER, 3) == Grant(3, 0)
    assert await cache.lease("q", MISER, 3) == Grant(2, 0)
    empty = await cache.lease("q", MISER, 3)
    assert empty.tokens == 0
    assert 900 < empty.retry_after_s <= 1000
    assert await cache.lease("other", MISER, 5) == Grant(5, 0)


async def test_a_quota_gives_nothing_rather_than_too_little(cache: Cache) -> None:
    await cache.lease("q", MISER, 3)
    assert (await cache.lease("q", MISER, 4, 4)).tokens == 0
    assert await cache.lease("q", MISER, 4, 2) == Grant(2, 0)


async def test_a_quota_is_refilled_at_its_rate_and_not_beyond_its_burst(cache: Cache) -> None:
    quota = Quota(per_s=200, burst=20)
    began = time.monotonic()
    taken = 0
    while time.monotonic() < began + 0.5:
        grant = await cache.lease("q", quota, 7)
        taken += grant.tokens
        if not grant.tokens:
            await asyncio.sleep(grant.retry_after_s)
    passed = time.monotonic() - began
    assert 20 + 200 * (passed - 0.25) < taken <= 20 + 200 * passed
    await asyncio.sleep(0.2)
    assert (await cache.lease("q", quota, 1000)).tokens == 20


@pytest.mark.slow
async def test_many_at_once_never_get_more_than_the_quota(opener: Callable[[], Cache]) -> None:
    clients = [opener() for _ in range(4)]
    await asyncio.gather(*[client.get("warm") for client in clients * 8])
    quota = Quota(per_s=1000, burst=500)
    began = time.monotonic()

    async def take(client: Cache, times: int) -> int:
        return sum([(await client.lease("q", quota, 1)).tokens for _ in range(times)])

    # 10,000 takes: eight takers on each of four clients
    taken = sum(await asyncio.gather(*[take(client, 313) for client in clients * 8]))
    passed = time.monotonic() - began
    assert 500 <= taken <= 500 + 1000 * passed  # what refills a full bucket meanwhile is lost


async def test_a_quota_that_could_never_be_met_is_refused(cache: Cache) -> None:
    for wanted, least in ((0, 0), (1, 2), (9, 6)):
        with pytest.raises(BadRequest):
            await cache.lease("q", MISER, wanted, least)
    for quota in (Quota(0, 1), Quota(1, 0), Quota(-1, 5)):
        with pytest.raises(BadRequest, match="burst"):
            await cache.lease("q", quota, 1)


async def test_cancelled_at_any_await_it_goes_on_working(cache: Cache) -> None:
    generous = Quota(per_s=1e-6, burst=1000)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: cache.get("k"),
        lambda: cache.put("k", b"v", 60),
        lambda: cache.delete("other"),
        lambda: cache.lease("q", generous, 1),
    ]
    at = 0
    for call in calls:
        at = 0
        while await interrupted(call(), at):
            at += 1
        await call()
    for turns in range(16):
        tasks = [asyncio.ensure_future(call()) for call in calls]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await cache.put("k", b"last", 60)
    assert await cache.get("k") == b"last"
    taken = 1000 - (await cache.lease("q", generous, 1000)).tokens
    assert 2 <= taken <= at + 2 + 16


async def test_a_closed_cache_says_so(opener: Callable[[], Cache]) -> None:
    cache = opener()
    await cache.close()
    for call in (cache.get("k"), cache.put("k", b"", 1), cache.lease("q", MISER, 1)):
        with pytest.raises(StoreUnavailable, match="closed"):
            await call


@pytest.mark.parametrize(
    "url", ["memory", "memory://x", "redis://", "redis://h/x", "redis://h?zone=1", "memcached://h"]
)
def test_a_wrong_url_says_how_to_write_one_and_shows_no_password(url: str) -> None:
    with pytest.raises(ConfigurationFault, match=r"redis://.*password.?@"):
        open_cache(url)
    with pytest.raises(ConfigurationFault) as raised:
        open_cache(url.replace("://", "://:hush@"))
    assert "hush" not in str(raised.value)
