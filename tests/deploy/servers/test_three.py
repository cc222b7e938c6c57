"""Three brokers, three nodes: what stands on them goes on while one is dead, and loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chassis.errors import ConfigurationFault, StoreUnavailable
from chassis.events import Message, Topic, open_log
from chassis.storage import open_tables
from chassis.storage.cassandra import CassandraTables
from chassis.storage.cassandra_link import Answer, Link
from chassis.storage.cassandra_url import address_of
from deploy.servers import Running, Servers
from deploy.servers.kinds import servers as kinds
from deploy.servers.room import available_memory, memory_fault
from tests.support import real
from tests.support.needs import missing
from tests.support.rows import Alone

pytestmark = pytest.mark.slow  # three servers on Java
RECOVERS_S = 30.0
PLAYS = Topic("plays", partitions=6)


@asynccontextmanager
async def three(servers: Servers, name: str, *, auth: bool = False) -> AsyncIterator[Running]:
    real.require(name)
    if memory_fault({name: 3 * kinds([name])[name].memory}, available_memory()):
        missing("not enough memory for three")
    running = await servers.up([name], sizes={name: 3}, auth=[name] if auth else [])
    assert [one.name for one in running[name].processes] == [f"{name}-{n}" for n in (1, 2, 3)]
    yield running[name]
    await servers.down()


async def dies_and_comes_back(
    servers: Servers, running: Running, meanwhile: Callable[[], Awaitable[None]]
) -> None:
    """The third is killed, `meanwhile` is done, and it is started again."""
    name = running.name
    await servers.kill(f"{name}-3")
    assert [one.pid > 0 for one in await servers.status()] == [True, True, False]
    await meanwhile()
    again = await servers.restart(f"{name}-3")
    assert again.processes[0].pid == running.pid
    assert {one.status for one in await servers.status()} == {"up"}
    with pytest.raises(ConfigurationFault, match="has the data of 3 and you ask for 1"):
        await servers.up([name], sizes={name: 1})


async def until_it_works(work: Callable[[], Awaitable[object]]) -> None:
    """Again and again while the store is unavailable, for as long as a recovery may take."""
    async with asyncio.timeout(RECOVERS_S):
        while True:
            try:
                await work()
            except StoreUnavailable:
                await asyncio.sleep(0.1)
            else:
                return


async def test_a_log_on_three_brokers_goes_on_without_one_and_keeps_every_message(
    servers: Servers, home: Path
) -> None:
    async with three(servers, "kafka") as running:
        log = open_log(f"{running.url}?wait_s=5")
        written: set[bytes] = set()

        async def produce(prefix: str) -> None:
            values = [b"%s-%d" % (prefix.encode(), n) for n in range(60)]
            messages = [Message("plays", value, value) for value in values]
            await until_it_works(lambda: log.produce(messages))
            written.update(values)

        await log.ensure(PLAYS)
        await produce("before")
        await dies_and_comes_back(servers, running, lambda: produce("without"))
        await produce("again")
        consumer = log.consumer("readers", ["plays"])
        read: set[bytes] = set()
        async with asyncio.timeout(RECOVERS_S):
            while read < written:
                read |= {record.value for record in await consumer.consume(100, 1.0)}
        assert read == written
        await consumer.close()
        await log.close()


async def asks_who_has_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row has one copy, and the node that has it is the one that is asked."""
    asked: list[Any] = []
    hear = Link._hear

    def listen(link: Link, answer: Any, future: asyncio.Future[Answer]) -> None:
        asked.append((answer.query.routing_key, answer))
        hear(link, answer, future)

    single = replace(address_of(url), keyspace="single", replication=1)
    tables = CassandraTables(single)
    await tables.prepare(Alone)
    monkeypatch.setattr(Link, "_hear", listen)
    for n in range(40):
        await tables.put_versioned([(Alone(str(n), n), 1)])
        assert await tables.get(Alone, str(n)) == Alone(str(n), n)
    monkeypatch.undo()
    metadata = asked[0][1].session.cluster.metadata
    owners = [metadata.get_replicas("single", routing) for routing, _ in asked]
    assert [answer.coordinator_host for _, answer in asked] == [host for (host,) in owners]
    assert len({host.address for (host,) in owners}) == 3
    await tables.close()


async def test_tables_on_three_nodes_go_on_without_one_and_let_their_user_in(
    servers: Servers, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third node is the one that the user's role would be on, had it only one copy."""
    async with three(servers, "cassandra", auth=True) as running:
        before = open_tables(running.url)
        await before.prepare(Alone)
        await before.put(Alone("before", 1))

        async def without() -> None:
            await until_it_works(lambda: before.put(Alone("without", 2)))
            after = open_tables(running.url)
            await until_it_works(lambda: after.put(Alone("after", 3)))
            assert await after.get(Alone, "before") == Alone("before", 1)
            await after.close()

        await asks_who_has_it(running.url, monkeypatch)
        await dies_and_comes_back(servers, running, without)
        found = [await before.get(Alone, name) for name in ("before", "without", "after")]
        assert [one and one.value for one in found] == [1, 2, 3]
        await before.close()
