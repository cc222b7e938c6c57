"""What only the log on Kafka has: its URL, its topics' settings, epochs, and evicted members."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from chassis.clock import SYSTEM
from chassis.deadline import Deadline
from chassis.errors import ConfigurationFault, Fenced, Missing, SchemaFault, StoreUnavailable
from chassis.events import Message, Record, Spool, Topic, open_log
from chassis.events.kafka import KafkaLog
from chassis.events.kafka_admin import Admin, TopicInfo
from chassis.events.kafka_epochs import decided
from chassis.events.kafka_faults import translated
from chassis.events.kafka_member import Member
from chassis.events.kafka_producer import KafkaProducer, Room, cuts, is_fatal
from chassis.events.kafka_topics import Topics, faults_of, settings_of
from chassis.events.kafka_url import cluster_of
from chassis.events.log import LogCounts, Partition
from tests.support import real
from tests.support.events import envelope

PLAYS = Topic("plays", partitions=2)


@pytest.fixture
def url() -> str:
    return f"{real.url('kafka')}?prefix={uuid4().hex}."


@pytest.fixture
async def log(url: str) -> AsyncIterator[KafkaLog]:
    log = KafkaLog.open(url)
    await log.ensure(PLAYS)
    yield log
    await log.close()


def test_a_url_says_where_and_how_and_never_shows_its_password() -> None:
    cluster = cluster_of("kafkas://us:p%40ss@a:9092,b:9093?prefix=dev.&protocol=consumer&wait_s=2")
    assert (cluster.brokers, cluster.user, cluster.password) == ("a:9092,b:9093", "us", "p@ss")
    assert cluster.client()["security.protocol"] == "SASL_SSL"
    assert cluster.consumer("g")["group.id"] == "dev.g"
    assert cluster.consumer("g")["group.protocol"] == "consumer"
    assert cluster.producer()["delivery.timeout.ms"] == 2000
    assert "p@ss" not in repr(cluster) + str(cluster) + repr(KafkaLog(cluster))


@pytest.mark.parametrize(
    "url",
    [
        "kafka://us:sec/ret@a:1",
        "kafka://us:sec#ret@a:1",
        "kafka://us:sec?ret@a:1",
        "kafka://us:sec[ret@a:1",
    ],
)
def test_a_password_that_was_not_encoded_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationFault, match="percent-encode") as caught:
        open_log(url)
    assert "sec" not in str(caught.value)
    assert "ret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("kafka://", "write host:port"),
        ("kafka://a:9092,b", "address 2: write host:port"),
        ("kafka://a:99999", "write host:port"),
        ("kafka://a:1/plays", "nothing may stand between"),
        ("kafka://us@a:1", "user:password"),
        ("kafka://a:1?retries=3", "unknown field `retries`"),
        ("kafka://a:1?protocol=eager", "protocol"),
        ("kafka://a:1?wait_s=soon", "wait_s"),
        ("kafka://a:1?ca=/x.pem", "kafkas://"),
    ],
)
def test_a_wrong_url_says_what_is_wrong_with_it(url: str, said: str) -> None:
    with pytest.raises(ConfigurationFault, match="for example kafka://") as caught:
        open_log(url)
    assert said in str(caught.value)


def test_settings_that_would_lose_records_are_faults_and_safer_ones_are_not() -> None:
    topic = Topic("plays", retention_s=60)
    made = settings_of(topic, replicas=3)
    assert made["min.insync.replicas"] == "2"
    assert faults_of(topic, made, 3) == []
    assert faults_of(topic, made | {"max.message.bytes": "9000000"}, 3) == []
    assert faults_of(topic, made | {"min.insync.replicas": "3"}, 3) == []
    assert faults_of(topic, made | {"min.insync.replicas": "1"}, 1) == []
    for key, value in (
        ("cleanup.policy", "compact"),
        ("retention.bytes", "1000"),
        ("max.message.bytes", "1000"),
        ("message.timestamp.type", "CreateTime"),
        ("unclean.leader.election.enable", "true"),
        ("min.insync.replicas", "1"),
    ):
        assert [key in fault for fault in faults_of(topic, made | {key: value}, 3)] == [True]


async def test_a_topic_made_by_hand_with_other_settings_is_a_schema_fault(log: KafkaLog) -> None:
    name = log.cluster.options.prefix + "byhand"
    admin = AdminClient(log.cluster.admin())
    new = NewTopic(name, 1, 1, config={"cleanup.policy": "compact", "retention.bytes": "1000"})
    admin.create_topics([new])[name].result()
    with pytest.raises(SchemaFault, match=r"cleanup\.policy=compact.*retention\.bytes=1000"):
        await log.ensure(Topic("byhand", partitions=1))


async def test_an_existing_topic_takes_a_new_retention(log: KafkaLog, url: str) -> None:
    await log.ensure(Topic("plays", partitions=2, retention_s=3600))
    retention = "-1"
    async with asyncio.timeout(10):  # a broker tells of a change once it has heard of it itself
        while retention == "-1":
            found = await log._admin.settings([log.cluster.options.prefix + "plays"])
            (retention,) = (one["retention.ms"] for one in found.values())
    assert retention == "3600000"


class TwoBrokers:
    """Answer in turn; the second has not heard of any topic until it does."""

    def __init__(self) -> None:
        self.made: set[str] = set()
        self.heard = False
        self._asked = 0

    async def describe(self, topics: Sequence[str]) -> dict[str, TopicInfo]:
        self._asked += 1
        if self._asked % 2 == 0 and not self.heard:
            return {}
        return {name: TopicInfo(2, name, True, 2) for name in topics if name in self.made}

    async def brokers(self) -> int:
        return 2

    async def create(self, topics: Sequence[NewTopic]) -> set[str]:
        self.made |= (new := {one.topic for one in topics})
        return new


async def test_a_topic_that_not_every_broker_has_heard_of_is_no_missing_one() -> None:
    cluster, brokers = cluster_of("kafka://a:1"), TwoBrokers()
    topics = Topics(cluster, cast(Admin, brokers), SYSTEM)
    assert await topics.ensure([PLAYS]) == {"plays"}
    for _ in range(4):
        assert (await topics.look("plays")).partitions == 2
    brokers.heard, brokers.made = True, set()
    began = time.monotonic()
    with pytest.raises(Missing, match="plays"):
        await topics.look("plays")
    assert time.monotonic() - began < 3
    began = time.monotonic()
    with pytest.raises(Missing, match="never"):
        await topics.look("never")
    assert time.monotonic() - began < 0.5


def test_the_first_record_of_a_life_decides_its_epoch_and_epochs_only_rise() -> None:
    entries = [("a", 5), ("a", 9), ("b", 5), ("c", 3), ("b", 7), ("d", 8)]
    assert decided(entries) == {"a": 5000, "b": 5001, "c": 5002, "d": 8000}


async def test_all_who_make_a_topic_at_once_agree_on_its_epoch(url: str) -> None:
    logs = [KafkaLog.open(url) for _ in range(6)]

    async def ensured(log: KafkaLog) -> int:
        await log.ensure(PLAYS)
        return await log.epoch("plays")

    epochs = await asyncio.gather(*map(ensured, logs))
    assert len(set(epochs)) == 1
    assert abs(epochs[0] / 1e6 - SYSTEM.now()) < 60
    for log in logs:
        await log.close()


async def test_a_topic_made_anew_has_a_higher_epoch(log: KafkaLog) -> None:
    name, epoch = log.cluster.options.prefix + "plays", await log.epoch("plays")
    await log.produce([Message("plays", b"k", b"v")])
    admin = AdminClient(log.cluster.admin())
    admin.delete_topics([name])[name].result()
    async with asyncio.timeout(20):
        while await is_there(log):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.02)
        await log.ensure(Topic("plays", partitions=3))
    assert await log.epoch("plays") > epoch
    assert await log.ends("plays") == {0: 0, 1: 0, 2: 0}
    assert await log.produce([Message("plays", b"k", b"v")])


async def test_a_committed_position_says_who_committed_it(log: KafkaLog) -> None:
    await log.produce([Message("plays", b"k", b"v")])
    consumer = log.consumer("g", ["plays"])
    found: list[Record] = []
    while not found:
        found = await consumer.consume(1, 1.0)
    (record,) = found
    await consumer.commit({("plays", record.partition): 1})
    place = TopicPartition(log.cluster.options.prefix + "plays", record.partition)
    reader = Consumer(log.cluster.consumer("g"))
    (stored,) = await asyncio.to_thread(reader.committed, [place], 10.0)
    reader.close()
    assert (stored.offset, stored.metadata) == (1, f"{socket.gethostname()} {os.getpid()}")
    await consumer.close()


@pytest.mark.slow
async def test_a_spool_makes_its_topic_anew(url: str, tmp_path: Path) -> None:
    log, said = KafkaLog.open(f"{url}&wait_s=3"), list[str]()
    await log.ensure(PLAYS)
    spool = Spool(tmp_path, log, topics=[PLAYS], say=lambda event, **told: said.append(event))
    await log.produce([Message("plays", b"k", b"v")])
    admin = AdminClient(log.cluster.admin())
    name = log.cluster.options.prefix + "plays"
    admin.delete_topics([name])[name].result()
    delivering = asyncio.create_task(spool.run())
    await spool.append("plays", [envelope(1)])
    assert await spool.drain(Deadline.after(SYSTEM, 30)), spool.fault
    assert (said[0], said[-1]) == ("log_refuses", "log_takes_again")
    assert sum((await log.ends("plays")).values()) == 1
    delivering.cancel()
    await asyncio.gather(delivering, return_exceptions=True)
    await log.close()
    await spool.close()


async def is_there(log: KafkaLog) -> bool:
    try:
        await log.epoch("plays")
    except Missing:
        return False
    return True


ZOMBIE = """
import asyncio, os, signal, sys
from chassis.errors import Fenced
from chassis.events import open_log

async def main():
    log = open_log(sys.argv[1])
    consumer = log.consumer("g", ["plays"])
    async def lost(partitions):
        print("lost", len(partitions), flush=True)
    consumer.on_lost = lost
    while len(consumer.assignment) < 2:
        await consumer.consume(1, 0.1)
    held = dict.fromkeys(consumer.assignment, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        await consumer.commit(held)
    except Fenced as fault:
        print("fenced", flush=True)
    while consumer.assignment:
        await consumer.consume(1, 0.1)
    await consumer.close()
    await log.close()

asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_member_that_was_stopped_is_fenced_and_told_of_its_loss(
    log: KafkaLog, url: str
) -> None:
    await log.produce([Message("plays", b"k%d" % n, b"v") for n in range(10)])
    zombie = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ZOMBIE, url, stdout=asyncio.subprocess.PIPE
    )
    heir = log.consumer("g", ["plays"])
    try:
        async with asyncio.timeout(40):
            await asyncio.to_thread(wait_until_stopped, zombie.pid)
            while len(heir.assignment) < 2:
                await heir.consume(1, 0.1)
            mine: dict[Partition, int] = dict.fromkeys(heir.assignment, 1)
            await heir.commit(mine)
            zombie.send_signal(signal.SIGCONT)
            output, _ = await zombie.communicate()
    finally:
        if zombie.returncode is None:
            zombie.kill()
            await zombie.wait()
    assert output.decode().split("\n")[:2] == ["fenced", "lost 2"]
    assert await heir.committed() == mine
    await heir.close()


def wait_until_stopped(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


async def test_a_member_whose_hook_fails_while_it_must_let_go_is_asked_again(
    log: KafkaLog,
) -> None:
    a, b = log.consumer("g", ["plays"]), log.consumer("g", ["plays"])
    calls = 0

    async def fails_once(partitions: frozenset[Partition]) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionError("cannot flush")

    a.on_revoked = fails_once
    failures = 0
    async with asyncio.timeout(20):
        while not (a.assignment and b.assignment):
            try:
                await a.consume(1, 0.02)
            except ConnectionError:
                failures += 1
                assert len(a.assignment) == 2
            if a.assignment:
                await b.consume(1, 0.02)
    assert (calls, failures) == (2, 1)
    await a.close()
    await b.close()


async def test_who_finds_no_room_waits_by_turns_and_a_cancelled_one_gives_way() -> None:
    room, entered = Room(10, 1000), list[int]()

    async def enter(n: int) -> None:
        await room.enter()
        room.take(10, 10)
        entered.append(n)

    room.take(10, 10)
    tasks = [asyncio.create_task(enter(n)) for n in range(4)]
    await asyncio.sleep(0)
    assert entered == []
    tasks[0].cancel()
    for done in ([1], [1, 2], [1, 2, 3]):
        room.give(10, 10)
        for _ in range(3):
            await asyncio.sleep(0)
        assert entered == done
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_place_given_to_one_who_is_cancelled_goes_to_the_next() -> None:
    room = Room(1, 1000)
    room.take(1, 1)
    first, second = (asyncio.create_task(room.enter()) for _ in range(2))
    await asyncio.sleep(0)
    room.give(1, 1)
    first.cancel()
    async with asyncio.timeout(1):
        await second
    await asyncio.gather(first, return_exceptions=True)


def test_messages_are_handed_over_in_parts_of_bounded_count_and_bytes() -> None:
    assert list(cuts([])) == []
    assert list(cuts([5])) == [(0, 1, 5)]
    assert [end - start for start, end, _ in cuts([1] * 2500)] == [1000, 1000, 500]
    assert [end - start for start, end, _ in cuts([400_000] * 7)] == [3, 3, 1]


async def test_messages_that_still_wait_for_room_when_a_producer_closes_are_refused(
    log: KafkaLog,
) -> None:
    room = Room(1000, 1 << 20)
    producer = KafkaProducer(log.cluster, room, LogCounts())
    names = {"plays": log.cluster.options.prefix + "plays"}
    many = [Message("plays", b"", b"")] * 50_000
    calls = [asyncio.create_task(producer.send(names, many, [0] * len(many))) for _ in range(3)]
    async with asyncio.timeout(20):
        while not room.full:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0)
        await producer.close()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}


def test_a_producer_is_of_no_more_use_after_a_fatal_error_however_it_is_told() -> None:
    assert is_fatal(KafkaError(KafkaError._FATAL))
    assert is_fatal(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "gap", True))
    assert not is_fatal(KafkaError(KafkaError._MSG_TIMED_OUT))


def test_a_member_stores_no_position_of_a_partition_that_it_was_not_given() -> None:
    nobody = cluster_of("kafka://127.0.0.1:9")
    member = Member(nobody, "g", ["plays"], lambda _: True, lambda _: None)
    with pytest.raises(KafkaException) as told:
        member.commit({("plays", 0): 1})
    assert isinstance(translated(told.value, nobody, "committing"), Fenced)
    member.close()


async def test_a_consumer_whose_close_is_cancelled_still_ends_its_thread(log: KafkaLog) -> None:
    group = uuid4().hex
    consumer = log.consumer(group, ["plays"])
    await consumer.consume(1, 0.0)
    closing = asyncio.create_task(consumer.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    async with asyncio.timeout(20):
        while any(group in one.name for one in threading.enumerate()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_closed_consumer_and_a_closed_log_say_so(url: str) -> None:
    log = KafkaLog.open(url)
    await log.ensure(PLAYS)
    consumer = log.consumer("g", ["plays"])
    await consumer.consume(1, 0.0)
    await log.close()
    for call in (lambda: consumer.consume(1, 0), lambda: log.produce([Message("plays", b"", b"")])):
        with pytest.raises(Exception, match="closed"):
            await call()
    with pytest.raises(Fenced):
        await consumer.commit({("plays", 0): 1})
