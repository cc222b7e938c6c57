"""The log on Kafka while its broker is killed, silent, slow, strange, or refuses us."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from chassis.clock import SYSTEM
from chassis.errors import ConfigurationFault, StoreUnavailable
from chassis.events import Consumer, Log, Message, Record, Topic, open_log
from deploy.servers import Servers, default_cache, kafka_wire
from deploy.servers.server import Instance, NotReady
from tests.support import real
from tests.support.real import RealServer
from tests.support.tcp_proxy import TcpProxy

RECOVERS_S = 30.0
PLAYS = Topic("plays", partitions=4)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """One that these tests may kill."""
    server = real.own("kafka", tmp_path_factory.mktemp("kafka"))
    yield server
    server.stop()


@pytest.fixture
async def log(broker: RealServer) -> AsyncIterator[Log]:
    broker.start()
    log = open_log(f"{broker.url}?prefix={uuid4().hex}.&wait_s=2&session_s=2")
    await log.ensure(PLAYS)
    yield log
    await log.close()


class Load:
    """Produces numbered messages without a pause, and reads them with one consumer."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.told = 0
        self.acknowledged: set[bytes] = set()
        self.refusals = 0
        self.seen: set[bytes] = set()
        self.consumer = log.consumer("load", ["plays"])
        self.consumer_refusals = 0

    async def produce(self) -> None:
        while True:
            batch = [b"%d" % n for n in range(self.told, self.told + 20)]
            self.told += 20
            try:
                await self.log.produce([Message("plays", value, value) for value in batch])
            except StoreUnavailable:
                self.refusals += 1
            else:
                self.acknowledged.update(batch)

    async def consume(self) -> None:
        while True:
            try:
                records = await self.consumer.consume(500, 0.5)
                self.seen.update(record.value for record in records)
                ends = {(r.topic, r.partition): r.offset + 1 for r in records}
                await self.consumer.commit(ends)
            except StoreUnavailable:
                self.consumer_refusals += 1

    async def grow(self, count: int) -> None:
        """Until so many more were acknowledged, and read."""
        acknowledged, seen = len(self.acknowledged) + count, len(self.seen) + count
        while len(self.acknowledged) < acknowledged or len(self.seen) < seen:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_a_broker_killed_under_load_loses_nothing_acknowledged_and_all_goes_on(
    broker: RealServer, log: Log, record_property: Callable[[str, object], None]
) -> None:
    load = Load(log)
    tasks = [asyncio.ensure_future(work) for work in (load.produce(), load.consume())]
    try:
        for _ in range(2):
            async with asyncio.timeout(RECOVERS_S):
                await load.grow(200)
            await asyncio.to_thread(broker.kill)
            refusals = load.refusals
            async with asyncio.timeout(RECOVERS_S):
                while load.refusals == refusals:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(broker.start)
            began = time.monotonic()
            async with asyncio.timeout(RECOVERS_S):
                await load.grow(200)
            went_on_s = time.monotonic() - began
            told = f"a killed broker answered, and the log went on {went_on_s:.1f} s later"
            record_property("measured", told)
        tasks[0].cancel()
        async with asyncio.timeout(RECOVERS_S):
            while not load.acknowledged <= load.seen:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert load.refusals
    assert load.seen <= {b"%d" % n for n in range(load.told)}
    await load.consumer.close()


@pytest.mark.slow
async def test_a_member_whose_first_poll_finds_no_broker_reads_once_there_is_one(
    broker: RealServer, log: Log
) -> None:
    await log.produce([Message("plays", b"key", b"kept")])
    consumer = log.consumer("early", ["plays"])
    await asyncio.to_thread(broker.kill)
    async with asyncio.timeout(RECOVERS_S):
        with pytest.raises(StoreUnavailable):
            while True:
                await consumer.consume(10, 0.5)
    await asyncio.to_thread(broker.start)
    found: list[bytes] = []
    async with asyncio.timeout(RECOVERS_S):
        while not found:
            with suppress(StoreUnavailable):
                found += [record.value for record in await consumer.consume(10, 0.5)]
    assert found == [b"kept"]


@pytest.mark.slow
async def test_a_silent_broker_is_unavailable_within_the_bound_and_missed_no_more_afterwards(
    broker: RealServer, log: Log
) -> None:
    consumer = log.consumer("silence", ["plays"])
    await log.produce([Message("plays", b"k", b"before")])
    assert [r.value for r in await some(consumer)] == [b"before"]
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        for call in (
            lambda: log.produce([Message("plays", b"k", b"during")]),
            lambda: log.ends("plays"),
            lambda: log.ensure(PLAYS),
            lambda: log.epoch("plays"),
            lambda: consumer.commit({("plays", n): 0 for n in range(1)}),
            consumer.committed,
        ):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1"):
                await call()
            assert time.monotonic() - began < 6
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    async with asyncio.timeout(RECOVERS_S):
        while True:
            try:
                await log.produce([Message("plays", b"k", b"after")])
                break
            except StoreUnavailable:
                continue
        values: list[bytes] = []
        while b"after" not in values:
            values += [r.value for r in await some(consumer)]
    await consumer.close()


async def some(consumer: Consumer) -> list[Record]:
    while True:
        try:
            records = await consumer.consume(100, 1.0)
        except StoreUnavailable:
            continue
        if records:
            return records


@pytest.mark.slow
async def test_a_cluster_first_met_through_a_slow_link_is_only_slow(broker: RealServer) -> None:
    host, _, port = broker.url.removeprefix("kafka://").partition(":")
    async with TcpProxy(host, int(port), delay_s=0.2) as proxy:
        log = open_log(f"kafka://127.0.0.1:{proxy.port}?prefix={uuid4().hex}.")
        await log.ensure(PLAYS)
        assert await log.produce([Message("plays", b"k", b"v")])
        await log.close()


@pytest.mark.slow
async def test_a_link_that_answers_nothing_is_unavailable_within_the_bound(
    broker: RealServer,
) -> None:
    host, _, port = broker.url.removeprefix("kafka://").partition(":")
    async with TcpProxy(host, int(port)) as proxy:
        proxy.hold()
        await refused_within(4, f"kafka://127.0.0.1:{proxy.port}?wait_s=1")


@pytest.mark.slow
async def test_a_port_where_nobody_listens_is_unavailable_within_the_bound() -> None:
    await refused_within(4, "kafka://127.0.0.1:1?wait_s=1")


@pytest.mark.slow
async def test_a_port_that_is_no_kafka_is_unavailable_and_the_message_asks() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await refused_within(4, f"kafka://127.0.0.1:{port}?wait_s=1")
    server.close()


async def refused_within(seconds: float, url: str) -> None:
    log = open_log(url)
    consumer = log.consumer("g", ["plays"])
    for call in (
        lambda: log.ensure(PLAYS),
        lambda: log.produce([Message("plays", b"", b"")]),
        lambda: log.ends("plays"),
        lambda: consumer.consume(1, 0.1),
        consumer.committed,
    ):
        async with asyncio.timeout(seconds):
            with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:\d+.*is it Kafka"):
                await call()
    async with asyncio.timeout(seconds):
        await consumer.close()
        await log.close()


@pytest.mark.slow
async def test_a_wrong_password_is_a_configuration_fault_that_tells_no_secret(
    tmp_path: Path,
) -> None:
    real.require("kafka")
    servers = Servers(tmp_path, default_cache(os.environ), SYSTEM)
    running = (await servers.up(["kafka"], auth=["kafka"]))["kafka"]
    url, (broker,) = running.url, running.processes
    try:
        log = open_log(url)
        await log.ensure(PLAYS)
        assert await log.produce([Message("plays", b"k", b"v")])
        await log.close()
        brokers = url.rpartition("@")[2]
        wrong = open_log(f"kafka://stagedoor:letmein@{brokers}")
        consumer = wrong.consumer("g", ["plays"])
        for call in (lambda: wrong.ensure(PLAYS), lambda: consumer.consume(1, 0.1)):
            async with asyncio.timeout(5):
                with pytest.raises(ConfigurationFault, match="refuses us") as caught:
                    await call()
            assert "letmein" not in str(caught.value) + repr(wrong)
        await consumer.close()
        await wrong.close()
        with pytest.raises(NotReady):  # whoever shows none at all
            place = Instance("kafka", 1, broker.address, {"main": broker.port}, tmp_path)
            await kafka_wire.check(place, 1)
    finally:
        await servers.kill("kafka")
        await servers.down()


async def test_the_driver_prints_nothing_of_its_own() -> None:
    script = (
        "import asyncio\n"
        "from chassis.events import Message, Topic, open_log\n"
        "from chassis.errors import StoreUnavailable\n"
        "async def main():\n"
        "    log = open_log('kafka://127.0.0.1:1?wait_s=0.5')\n"
        "    for call in (log.ensure(Topic('t')), log.consumer('g', ['t']).consume(1, 0.1)):\n"
        "        try:\n"
        "            await call\n"
        "        except StoreUnavailable:\n"
        "            pass\n"
        "    await log.close()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert (process.returncode, output) == (0, b"")
