"""The link to Cassandra when too much is asked at once, and when it ends in the wrong moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from chassis.errors import StoreUnavailable
from chassis.storage import open_tables
from chassis.storage.cassandra import CassandraTables
from chassis.storage.cassandra_link import Link
from chassis.storage.cassandra_url import address_of
from tests.support.keyspaces import changed, shared
from tests.support.rows import Alone
from tests.support.scripted import eventually
from tests.support.tcp_proxy import TcpProxy

TIMEOUT_S = 1.5
AT_ONCE = 3
ASKING = "SELECT release_version FROM system.local"


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    parts = urlsplit(shared().url)
    async with TcpProxy(parts.hostname or "", parts.port or 0) as proxy:
        yield proxy


def through(proxy: TcpProxy) -> str:
    return changed(shared().url, port=proxy.port, timeout_s=TIMEOUT_S)


@pytest.fixture
async def link(proxy: TcpProxy) -> AsyncIterator[Link]:
    """Three requests may be under way."""
    link = Link(address_of(through(proxy)), AT_ONCE)
    await link.prepared(ASKING)
    yield link
    proxy.resume()
    await link.close()


async def test_who_asks_while_enough_is_under_way_waits_for_a_turn(
    link: Link, proxy: TcpProxy
) -> None:
    proxy.hold()
    asked = [link.read(link.ready[ASKING]) for _ in range(5 * AT_ONCE)]
    assert f"under_way={AT_ONCE}, waiting={4 * AT_ONCE}" in repr(link)
    asked[AT_ONCE].cancel()
    proxy.resume()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers.pop(AT_ONCE), asyncio.CancelledError)
    assert len({str(answer) for answer in answers}) == 1
    assert "under_way=0, waiting=0" in repr(link)


async def test_nobody_waits_for_a_turn_longer_than_for_an_answer(
    link: Link, proxy: TcpProxy
) -> None:
    proxy.hold()
    asked = [link.read(link.ready[ASKING]) for _ in range(3 * AT_ONCE)]
    async with asyncio.timeout(10 * TIMEOUT_S):
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert {isinstance(answer, StoreUnavailable) for answer in answers} == {True}
    assert "too many requests are under way" in str(answers[-1])


async def test_who_waits_for_a_turn_is_told_when_the_link_closes(
    link: Link, proxy: TcpProxy
) -> None:
    proxy.hold()
    asked = [link.read(link.ready[ASKING]) for _ in range(2 * AT_ONCE)]
    closing = asyncio.create_task(link.close())
    with pytest.raises(StoreUnavailable, match="is closed"):
        await asked[-1]
    proxy.resume()
    await closing
    await asyncio.gather(*asked, return_exceptions=True)


async def closed_while_opening(
    proxy: TcpProxy,
) -> tuple[Link, asyncio.Task[None], asyncio.Task[None]]:
    """A link, its opening, which waits for the server behind the proxy, and its close, begun."""
    proxy.hold()
    link = Link(address_of(through(proxy)))
    opening = asyncio.create_task(link.open())
    await eventually(lambda: proxy.accepted > 0)
    closing = asyncio.create_task(link.close())
    await asyncio.sleep(0)
    return link, opening, closing


async def test_a_link_that_is_closed_before_it_is_open_stays_closed(proxy: TcpProxy) -> None:
    link, opening, closing = await closed_while_opening(proxy)
    proxy.resume()
    await closing
    with pytest.raises(StoreUnavailable, match="is closed"):
        await opening
    with pytest.raises(StoreUnavailable, match="is closed"):
        await link.run(ASKING)


async def test_a_close_that_nobody_waits_for_still_ends_the_session(proxy: TcpProxy) -> None:
    link, opening, closing = await closed_while_opening(proxy)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    proxy.resume()
    await asyncio.gather(opening, return_exceptions=True)
    await eventually(lambda: proxy.connections == 0)
    await link.close()


async def test_nothing_is_asked_when_one_of_many_keys_is_none(proxy: TcpProxy) -> None:
    async with asyncio.timeout(60):
        direct = open_tables(shared().url)
        await direct.prepare(Alone)
        await direct.close()
    tables = CassandraTables.open(through(proxy))
    await tables.get(Alone, "a")
    with pytest.raises(TypeError, match="alone needs"):
        await tables.get_many(Alone, [("a",), ("b", "too much")])
    assert "under_way=0" in repr(tables._link)
    await tables.close()
