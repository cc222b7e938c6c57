"""What only tables on a real server do: users, versions, silence, death and return."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chassis.clock import SYSTEM
from chassis.errors import ConfigurationFault, SchemaFault, StoreUnavailable
from chassis.storage import Tables, open_tables
from tests.support import real
from tests.support.keyspaces import Keyspace, changed, shared
from tests.support.rows import Alone, Every, OnlyKey, Place
from tests.support.tcp_proxy import TcpProxy

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT_S = 1.5


def through(proxy: TcpProxy) -> str:
    return changed(shared().url, port=proxy.port, timeout_s=TIMEOUT_S)


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    parts = urlsplit(shared().url)
    async with TcpProxy(parts.hostname or "", parts.port or 0) as proxy:
        yield proxy


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Tables]:
    tables = open_tables(url)
    try:
        yield tables
    finally:
        await tables.close()


@pytest.fixture
async def tables(proxy: TcpProxy) -> AsyncIterator[Tables]:
    """Tables behind the proxy, whose answers are awaited for `TIMEOUT_S`."""
    async with opened(shared().url) as direct:
        await direct.prepare(Alone, Place)
    shared().empty("alone", "place")
    async with opened(through(proxy)) as tables:
        await tables.put(Alone("there", 1))
        yield tables
        proxy.resume()
        proxy.accept()


async def recovered(tables: Tables, within_s: float = 30.0) -> float:
    """Waits until a write succeeds again; how long that took."""
    start = time.monotonic()
    async with asyncio.timeout(within_s):
        while True:
            try:
                await tables.put(Alone("recovered", 1))
                return time.monotonic() - start
            except StoreUnavailable:
                await SYSTEM.sleep(0.05)


async def test_a_silent_server_fails_every_call_in_time_and_is_used_again_when_it_speaks(
    tables: Tables, proxy: TcpProxy
) -> None:
    assert await tables.insert(Alone("a", 1))
    proxy.hold()
    start = time.monotonic()
    calls = (
        tables.get(Alone, "there"),
        tables.get_many(Alone, [("there",)]),
        tables.page(Alone, "there"),
        tables.put(Alone("b", 1)),
        tables.put_versioned([(Alone("c"), 1)]),
        tables.insert(Alone("d", 1)),
        tables.delete(Alone, "a", only=Alone("a", 1)),
    )
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert time.monotonic() - start < 5 * TIMEOUT_S
    assert [type(one).__mro__[-5:] for one in outcomes] == [StoreUnavailable.__mro__[-5:]] * 7
    assert all(isinstance(one, StoreUnavailable) for one in outcomes)
    proxy.resume()
    await recovered(tables)
    assert await tables.get(Alone, "there") == Alone("there", 1)


async def test_slow_answers_are_waited_for(tables: Tables, proxy: TcpProxy) -> None:
    """By one who waits for long: how fast a busy machine is does not matter here."""
    async with opened(changed(shared().url, port=proxy.port, timeout_s=20)) as patient:
        proxy.delay_s = 0.1
        assert await patient.get(Alone, "there") == Alone("there", 1)
        assert await patient.insert(Alone("slow", 1))
        await patient.put_versioned([(Place("p", f"t{n}", n), n) for n in range(2_000)])
        proxy.delay_s = 0
        assert len(await patient.page(Place, "p", limit=5_000)) == 2_000


async def test_a_conditional_write_whose_answer_was_lost_knows_that_it_happened(
    tables: Tables, proxy: TcpProxy
) -> None:
    assert not await tables.insert(Alone("there", 5)), "every statement is prepared by now"
    assert await tables.insert(Alone("b", 1))
    assert await tables.replace(Alone("b", 1), Alone("b", 2))
    await tables.version(Alone, "b")
    for write in (
        lambda: tables.insert(Alone("a", 1)),
        lambda: tables.replace(Alone("a", 1), Alone("a", 2)),
    ):
        proxy.delay_s = 0.6 * TIMEOUT_S
        writing = asyncio.ensure_future(write())
        await SYSTEM.sleep(0.8 * TIMEOUT_S)  # it has reached the server, its answer is on the way
        proxy.delay_s = 0
        assert await writing
    assert await tables.get(Alone, "a") == Alone("a", 2)


async def test_cut_connections_are_made_again(tables: Tables, proxy: TcpProxy) -> None:
    acknowledged: list[int] = []

    async def write(first: int) -> None:
        for n in range(first, first + 200):
            try:
                await tables.put(Place("cut", f"t{n:04d}", n))
            except StoreUnavailable:
                await SYSTEM.sleep(0.05)
            else:
                acknowledged.append(n)

    writing = [asyncio.create_task(write(1000 * n)) for n in range(8)]
    for _ in range(3):
        await SYSTEM.sleep(0.1)
        proxy.cut()
    await asyncio.gather(*writing)
    await recovered(tables)
    found = {row.position_ms for row in await tables.page(Place, "cut", limit=10_000)}
    assert set(acknowledged) <= found


async def test_a_server_that_is_not_there_is_said_so_at_first_use() -> None:
    url = "cassandra://127.0.0.1:9/play"
    async with opened(url) as tables:
        for call in (tables.prepare(Alone), tables.get(Alone, "a")):
            with pytest.raises(StoreUnavailable, match="see whether Cassandra runs"):
                await call


async def test_tables_that_were_never_reached_connect_once_the_server_is_there(
    proxy: TcpProxy,
) -> None:
    async with opened(shared().url) as direct:
        await direct.prepare(Alone)
    proxy.refuse()
    async with opened(through(proxy)) as tables:
        with pytest.raises(StoreUnavailable):
            await tables.get(Alone, "a")
        proxy.accept()
        assert await recovered(tables) < 10


async def test_something_else_than_cassandra_is_said_so() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(9)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, opened(f"cassandra://127.0.0.1:{port}/play") as tables:
        with pytest.raises((StoreUnavailable, ConfigurationFault), match="Cassandra"):
            await tables.get(Alone, "a")


class Older(TcpProxy):
    """Lets a server say that it is of an older version."""

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            writer.write(piece.replace(b"\x00\x00\x00\x055.0.", b"\x00\x00\x00\x053.0."))
            await writer.drain()


async def test_an_old_version_is_said_so() -> None:
    parts = urlsplit(shared().url)
    proxy = Older(parts.hostname or "", parts.port or 0)
    async with proxy, opened(through(proxy)) as tables:
        with pytest.raises(ConfigurationFault, match=r"Cassandra 3\.0\.\d+; version 4\.0"):
            await tables.prepare(Alone)


async def test_another_data_centre_is_named() -> None:
    async with opened(changed(shared().url, dc="elsewhere")) as tables:
        with pytest.raises(ConfigurationFault, match=r"\?dc=datacenter1"):
            await tables.prepare(Alone)


async def test_copies_that_are_not_as_asked_are_named() -> None:
    async with opened(shared().url) as direct:
        await direct.prepare(Alone)
    async with opened(changed(shared().url, replication=2)) as tables:
        with pytest.raises(SchemaFault, match="keeps 1 copies"):
            await tables.prepare(Alone)


async def test_nothing_is_read_or_written_where_most_copies_are_missing() -> None:
    """Of three copies on one node only one can answer: that is no quorum, for any call."""
    keyspace = Keyspace(real.fresh("cassandra"))
    async with opened(keyspace.url) as tables:
        await tables.prepare(Alone)
        await tables.put(Alone("a", 1))
        keyspace.run(
            f"ALTER KEYSPACE {keyspace.name} WITH replication ="
            " {'class': 'NetworkTopologyStrategy', 'datacenter1': 3}"
        )
        for call in (
            lambda: tables.get(Alone, "a"),
            lambda: tables.page(Alone, "a"),
            lambda: tables.put(Alone("b", 1)),
            lambda: tables.put_versioned([(Alone("b", 1), 1)]),
            lambda: tables.insert(Alone("b", 1)),
        ):
            said = ""
            async with asyncio.timeout(20):  # a busy node may be out of reach at first
                while "consistency" not in said:
                    with pytest.raises(StoreUnavailable) as refused:
                        await call()
                    said = str(refused.value)
    keyspace.drop()


async def test_a_keyspace_without_data_centres_is_refused() -> None:
    name = f"{shared().name}_simple"
    shared().run(
        f"CREATE KEYSPACE {name} WITH replication ="
        " {'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    async with opened(changed(shared().url, keyspace=name)) as tables:
        with pytest.raises(SchemaFault, match="NetworkTopologyStrategy"):
            await tables.prepare(Alone)
    shared().run(f"DROP KEYSPACE {name}")


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


PREPARE = """
    import asyncio, sys
    from chassis.storage import open_tables
    from tests.support.rows import Alone, Every, OnlyKey, Place

    async def main():
        tables = open_tables(sys.argv[1])
        await tables.prepare(Alone, Every, OnlyKey, Place)
        await tables.put(Alone(sys.argv[2], 1))
        await tables.close()

    asyncio.run(main())
"""


@pytest.mark.slow
async def test_many_processes_may_prepare_a_new_keyspace_at_once() -> None:
    keyspace = Keyspace(real.fresh("cassandra"))
    children = [child(PREPARE, keyspace.url, f"child-{n}") for n in range(13)]
    outcomes = [await asyncio.to_thread(one.communicate, timeout=120) for one in children]
    assert [one.returncode for one in children] == [0] * 13, outcomes
    async with opened(keyspace.url) as tables:
        assert len([row async for row in tables.scan(Alone)]) == 13
    names = ["_schema_lease", "alone", "every", "only_key", "place"]
    assert sorted(keyspace.tables()) == names
    keyspace.drop()


async def test_a_driver_without_libev_is_refused() -> None:
    code = """
        import asyncio, sys
        sys.modules["cassandra.io.libevwrapper"] = None
        from chassis.errors import ConfigurationFault
        from chassis.storage import open_tables
        from tests.support.rows import Alone

        try:
            asyncio.run(open_tables("cassandra://127.0.0.1:9/play").get(Alone, "a"))
        except ConfigurationFault as fault:
            print(fault)
    """
    out, err = await asyncio.to_thread(child(code).communicate, timeout=60)
    assert "libev" in out, err


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real.RealServer]:
    """A server that may be killed, and that lets nobody in without a password."""
    server = real.own("cassandra", tmp_path_factory.mktemp("servers"), auth=True)
    yield server
    server.stop()


@pytest.mark.slow
def test_a_wrong_password_is_named_and_not_shown(own: real.RealServer) -> None:
    async def run(url: str) -> None:
        async with opened(url) as tables:
            await tables.prepare(Alone)
            await tables.put(Alone("a", 1))
            assert await tables.get(Alone, "a") == Alone("a", 1)

    parts = urlsplit(own.url)
    assert parts.username and parts.password
    for user in (f"{parts.username}:not-the-right-one@", "nobody:not-the-right-one@", ""):
        wrong = own.url.replace(f"{parts.username}:{parts.password}@", user)
        with pytest.raises(ConfigurationFault, match="is refused") as raised:
            asyncio.run(run(wrong))
        assert "not-the-right-one" not in str(raised.value)
    asyncio.run(run(own.url))


@pytest.mark.slow
async def test_a_killed_server_loses_nothing_acknowledged_and_is_found_again_when_it_is_back(
    own: real.RealServer,
) -> None:
    keyspace = real.unique("k").replace("-", "_")
    acknowledged: dict[str, set[int]] = {"put": set(), "versioned": set(), "inserted": set()}
    stopping = asyncio.Event()

    async with opened(changed(own.url, keyspace=keyspace, timeout_s=2)) as tables:
        await tables.prepare(Place, Alone, OnlyKey, Every)

        async def write(kind: str, n: int) -> None:
            row = Place(kind, f"t{n:06d}", n)
            if kind == "put":
                await tables.put(row)
            elif kind == "versioned":
                await tables.put_versioned([(row, n + 1)])
            else:
                await tables.insert(row)

        async def keep_writing(kind: str, first: int) -> None:
            n = first
            while not stopping.is_set():
                try:
                    await write(kind, n)
                    acknowledged[kind].add(n)
                except StoreUnavailable:
                    await SYSTEM.sleep(0.1)
                n += 1

        writing = [
            asyncio.create_task(keep_writing(kind, 100_000 * n))
            for kind in acknowledged
            for n in range(4)
        ]
        async with asyncio.timeout(30):
            while min(map(len, acknowledged.values())) < 50:
                await SYSTEM.sleep(0.05)
        await asyncio.to_thread(own.kill)
        before = {kind: len(done) for kind, done in acknowledged.items()}
        with pytest.raises(StoreUnavailable):
            await tables.get(Place, "put", "t000000")
        await asyncio.to_thread(own.start)
        took = await recovered(tables)
        async with asyncio.timeout(30):
            while any(len(done) <= before[kind] for kind, done in acknowledged.items()):
                await SYSTEM.sleep(0.05)
        stopping.set()
        await asyncio.gather(*writing)
        assert took < 30
        for kind, done in acknowledged.items():
            found = {row.position_ms for row in await tables.page(Place, kind, limit=1_000_000)}
            assert done <= found, f"{kind}: {len(done - found)} of {len(done)} are lost"
