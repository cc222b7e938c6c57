"""What every adapter of the log port does."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pytest

from chassis.errors import (
    ConfigurationFault,
    Fenced,
    Missing,
    OutOfRange,
    SchemaFault,
    Unprocessable,
)
from chassis.events import Consumer, Log, Message, Record, Topic, open_log
from chassis.events.log import MESSAGE_LIMIT, Partition
from chassis.events.partition import partition_of
from tests.support import real
from tests.support.cancelling import interrupted

T = TypeVar("T")
Open = Callable[[], Log]
PLAYS = Topic("plays", partitions=4)
ALL = frozenset(("plays", number) for number in range(4))


@pytest.fixture(params=["log", "kafka", "kafka-consumer"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same log each time, as several processes would."""
    if request.param == "log":
        return lambda: open_log(f"log://{tmp_path}/events")
    protocol = "consumer" if request.param == "kafka-consumer" else "classic"
    url = f"{real.url('kafka')}?prefix={uuid4().hex}.&protocol={protocol}"
    return lambda: open_log(url)


@pytest.fixture
async def log(opener: Open) -> AsyncIterator[Log]:
    log = opener()
    await log.ensure(PLAYS)
    yield log
    await log.close()


def plays(count: int, first: int = 0) -> list[Message]:
    return [Message("plays", b"k%d" % n, b"v%d" % n) for n in range(first, first + count)]


def key_in(partition: int) -> bytes:
    return next(key for n in range(999) if partition_of(key := b"k%d" % n, 4) == partition)


async def take(consumer: Consumer, count: int) -> list[Record]:
    """The next `count` records."""
    found: list[Record] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += await consumer.consume(count - len(found), 1.0)
    assert len(found) == count
    return found


async def settle(*consumers: Consumer, on: frozenset[Partition] = ALL) -> list[Record]:
    """Consumes until these members own everything between them; what they read meanwhile."""
    found: list[Record] = []
    async with asyncio.timeout(20):
        while True:
            for consumer in consumers:
                found += await consumer.consume(100, 0.01)
            owned = [consumer.assignment for consumer in consumers]
            shares = [len(share) for share in owned]
            if frozenset().union(*owned) == on and max(shares) - min(shares) <= 1:
                return found


def positions(records: list[Record]) -> dict[Partition, int]:
    return {(record.topic, record.partition): record.offset + 1 for record in records}


async def test_offsets_of_a_partition_are_consecutive_and_a_key_keeps_its_partition(
    log: Log,
) -> None:
    messages = plays(200)
    placed = await log.produce(messages[:150]) + await log.produce(messages[150:])
    seen: dict[int, int] = {}
    for message, (partition, offset) in zip(messages, placed, strict=True):
        assert partition == partition_of(message.key, 4)
        assert offset == seen.get(partition, -1) + 1
        seen[partition] = offset
    assert await log.ends("plays") == {number: seen[number] + 1 for number in range(4)}
    assert await log.starts("plays") == dict.fromkeys(range(4), 0)


async def test_records_come_back_as_produced_where_they_were_placed(log: Log) -> None:
    messages = [
        Message("plays", b"", b""),
        Message("plays", b"\x00\xff", b"\n" * 100, (("a", b"1"), ("a", b""), ("é", b"\xff"))),
        Message("plays", b"big", b"x" * (MESSAGE_LIMIT - 3)),
        *plays(70_000),
    ]
    placed = await log.produce(messages)
    consumer = log.consumer("g", ["plays"])
    records = await take(consumer, len(messages))
    found = {(r.partition, r.offset): (r.key, r.value, r.headers) for r in records}
    for message, place in zip(messages, placed, strict=True):
        assert found[place] == (message.key, message.value, message.headers)
    await consumer.close()


async def test_producers_at_once_get_offsets_of_their_own(opener: Open, log: Log) -> None:
    other = opener()
    logs = [log, other]
    batches = [plays(5, first=n) for n in range(60)]
    placed = await asyncio.gather(*[logs[n % 2].produce(b) for n, b in enumerate(batches)])
    assert len({place for places in placed for place in places}) == 300
    consumer = other.consumer("g", ["plays"])
    found = {(r.partition, r.offset): r.value for r in await take(consumer, 300)}
    for batch, places in zip(batches, placed, strict=True):
        assert [found[place] for place in places] == [message.value for message in batch]
    await consumer.close()
    await other.close()


async def test_nothing_is_produced_by_an_empty_batch(log: Log) -> None:
    assert await log.produce([]) == []


async def test_a_bad_message_appends_nothing_of_its_batch(log: Log) -> None:
    with pytest.raises(Missing, match="nowhere"):
        await log.produce([*plays(3), Message("nowhere", b"", b"")])
    with pytest.raises(Unprocessable, match="at most"):
        await log.produce([*plays(3), Message("plays", b"k", b"x" * MESSAGE_LIMIT)])
    assert sum((await log.ends("plays")).values()) == 0


async def test_a_cancelled_produce_leaves_later_ones_alone(log: Log) -> None:
    tasks = [asyncio.create_task(log.produce(plays(10, first=n * 10))) for n in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await log.produce(plays(1, first=999))
    consumer = log.consumer("g", ["plays"])
    records = await take(consumer, sum((await log.ends("plays")).values()))
    values = {record.value for record in records}
    assert len(values) == len(records)
    for n, result in enumerate(results):
        if not isinstance(result, asyncio.CancelledError):
            assert {m.value for m in plays(10, first=n * 10)} <= values
    await consumer.close()


async def test_ensure_may_be_repeated_but_never_changes_the_partition_count(log: Log) -> None:
    epoch = await log.epoch("plays")
    await log.ensure(PLAYS, Topic("more"))
    assert await log.epoch("plays") == epoch
    assert await log.epoch("more") > epoch > 1_600_000_000_000_000
    with pytest.raises(SchemaFault, match="4 partitions, not 5"):
        await log.ensure(Topic("third"), Topic("plays", partitions=5))


async def test_an_unknown_topic_is_missing(log: Log) -> None:
    for call in (log.ends("no"), log.starts("no"), log.epoch("no")):
        with pytest.raises(Missing, match="ensure"):
            await call
    with pytest.raises(Missing):
        await log.consumer("g", ["no"]).consume(1, 0)


async def test_the_log_outlives_its_opening(opener: Open, log: Log) -> None:
    await log.produce(plays(10))
    epoch = await log.epoch("plays")
    await log.close()
    again = opener()
    assert sum((await again.ends("plays")).values()) == 10
    assert await again.epoch("plays") == epoch
    await again.close()


async def test_a_consumer_goes_on_where_its_group_committed(opener: Open, log: Log) -> None:
    await log.produce(plays(100))
    first = log.consumer("g", ["plays"])
    seen = await take(first, 40)
    await first.commit(positions(seen))
    await take(first, 10)
    await first.close()
    other = opener()
    second = other.consumer("g", ["plays"])
    assert await second.committed() == positions(seen)
    rest = await take(second, 60)
    assert len({r.value for r in seen} | {r.value for r in rest}) == 100
    await second.close()
    await other.close()


async def test_groups_read_independently(log: Log) -> None:
    await log.produce(plays(20))
    for group in ("state", "archive"):
        consumer = log.consumer(group, ["plays"])
        await consumer.commit(positions(await take(consumer, 20)))
        await consumer.close()


async def test_one_consumer_reads_several_topics(log: Log) -> None:
    await log.ensure(Topic("beacons", partitions=2))
    await log.produce([*plays(9), *[Message("beacons", b"%d" % n, b"") for n in range(9)]])
    consumer = log.consumer("g", ["plays", "beacons"])
    records = await take(consumer, 18)
    assert sorted(r.topic for r in records) == ["beacons"] * 9 + ["plays"] * 9
    assert len(consumer.assignment) == 6
    await consumer.close()


async def test_a_long_backlog_starves_no_other_partition(log: Log) -> None:
    backlog = [random.Random(n).randbytes(1000) for n in range(6000)]  # does not compress
    await log.produce([Message("plays", key_in(0), value) for value in backlog])
    await log.produce([Message("plays", key_in(number), b"") for number in range(1, 4)])
    consumer = log.consumer("g", ["plays"])
    seen = {r.partition for r in await take(consumer, 3000)}
    assert seen == {0, 1, 2, 3}
    await consumer.close()


async def test_consume_returns_nothing_when_its_timeout_passes(log: Log) -> None:
    consumer = log.consumer("g", ["plays"])
    assert await consumer.consume(10, 0.0) == []
    assert await consumer.consume(10, 0.05) == []
    await consumer.close()


async def test_a_waiting_consumer_hears_of_records_from_anywhere(opener: Open, log: Log) -> None:
    consumer, other = log.consumer("g", ["plays"]), opener()
    await consumer.consume(1, 0.0)
    for producer in (log, other):
        waiting = asyncio.create_task(consumer.consume(10, 20.0))
        await asyncio.sleep(0)
        await producer.produce(plays(1))
        async with asyncio.timeout(5):
            assert len(await waiting) == 1
    await consumer.close()
    await other.close()


async def test_a_cancelled_consume_loses_nothing(log: Log) -> None:
    consumer = log.consumer("g", ["plays"])
    waiting = asyncio.create_task(consumer.consume(10, 20.0))
    await asyncio.sleep(0)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    await log.produce(plays(10))
    await take(consumer, 10)
    await consumer.close()


async def test_a_consume_cancelled_at_any_await_loses_and_doubles_nothing(log: Log) -> None:
    consumer, found = log.consumer("g", ["plays"]), list[Record]()
    for at in range(12):
        await log.produce(plays(5, first=5 * at))
        await interrupted(consumer.consume(3, 1.0), at, found.extend)
    found += await take(consumer, 60 - len(found))
    assert await consumer.consume(1, 0.05) == []
    assert sorted(r.value for r in found) == sorted(m.value for m in plays(60))
    await consumer.close()


async def test_any_call_cancelled_at_any_await_leaves_the_log_and_the_group_whole(
    log: Log,
) -> None:
    consumer = log.consumer("g", ["plays"])
    await log.produce(plays(1))
    read = positions(await take(consumer, 1))
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: log.produce(plays(3)),
        lambda: log.ensure(PLAYS, Topic("more")),
        lambda: log.starts("plays"),
        lambda: log.ends("plays"),
        lambda: log.epoch("more"),
        lambda: consumer.commit(read),
        consumer.committed,
    ]
    for call in calls:
        at = 0
        while await interrupted(call(), at):
            at += 1
        await call()
    assert await consumer.committed() == read
    await settle(consumer)
    end = sum((await log.ends("plays")).values())
    again = log.consumer("h", ["plays"])
    assert len({(r.partition, r.offset) for r in await take(again, end)}) == end
    await again.close()
    await consumer.close()


async def test_seek_reads_again(log: Log) -> None:
    await log.produce([Message("plays", key_in(1), b"%d" % n) for n in range(10)])
    consumer = log.consumer("g", ["plays"])
    await take(consumer, 10)
    await consumer.seek("plays", 1, 7)
    assert [r.value for r in await take(consumer, 3)] == [b"7", b"8", b"9"]
    await consumer.seek("plays", 1, 10)
    assert await consumer.consume(1, 0.05) == []
    await consumer.close()


async def test_a_seek_drops_what_was_read_ahead_for_a_cancelled_consume(log: Log) -> None:
    await log.produce([Message("plays", key_in(1), b"%d" % n) for n in range(20)])
    consumer = log.consumer("g", ["plays"])
    await take(consumer, 5)
    for at in range(6):
        await interrupted(consumer.consume(5, 1.0), at)
        await consumer.seek("plays", 1, at)
        assert [r.offset for r in await take(consumer, 5)] == list(range(at, at + 5))
    await consumer.close()


async def test_counts_tell_what_was_produced_and_consumed(log: Log) -> None:
    before, consumer = log.counts.produced, log.consumer("g", ["plays"])
    await log.produce(plays(5))
    await take(consumer, 5)
    assert (log.counts.produced - before, log.counts.consumed) == (5, 5)
    assert log.counts.rebalances >= 1
    assert log.counts.produce_failures == 0
    await consumer.close()


@pytest.mark.parametrize("offset", [-1, 11])
async def test_a_position_outside_the_log_is_never_skipped(log: Log, offset: int) -> None:
    await log.produce([Message("plays", key_in(1), b"") for n in range(10)])
    consumer = log.consumer("g", ["plays"])
    await take(consumer, 10)
    await consumer.seek("plays", 1, offset)
    for _ in range(2):
        with pytest.raises(OutOfRange, match=r"plays/1.*0\.\.10"):
            await consumer.consume(1, 1.0)
    await consumer.seek("plays", 1, 9)
    await take(consumer, 1)
    await consumer.close()


async def test_members_share_every_partition_once(opener: Open, log: Log) -> None:
    other = opener()
    a, b = log.consumer("g", ["plays"]), other.consumer("g", ["plays"])
    await settle(a, b)
    assert a.assignment | b.assignment == ALL
    assert not a.assignment & b.assignment
    await log.produce(plays(100))
    found: list[Record] = []
    async with asyncio.timeout(20):
        while len(found) < 100:
            found += await a.consume(30, 0.05) + await b.consume(30, 0.05)
    assert len({record.value for record in found}) == len(found) == 100
    await a.close()
    await settle(b)
    assert b.assignment == ALL
    await b.close()
    await other.close()


class Reader:
    """A member that commits what it has read of a partition before it lets the partition go."""

    def __init__(self, consumer: Consumer, done: list[Record]) -> None:
        self.consumer = consumer
        self.pending: list[Record] = []
        self._done = done
        consumer.on_revoked = self._flush

    async def read(self, limit: int = 5) -> None:
        records = await self.consumer.consume(limit, 0.01)  # the hook changes what is pending
        self.pending += records

    async def _flush(self, partitions: frozenset[Partition]) -> None:
        gone = [r for r in self.pending if (r.topic, r.partition) in partitions]
        await self.consumer.commit(positions(gone))
        self._done.extend(gone)
        self.pending = [r for r in self.pending if r not in gone]


async def test_nothing_is_lost_or_doubled_when_partitions_move_with_commits(log: Log) -> None:
    await log.produce(plays(60))
    done: list[Record] = []
    a, b = (Reader(log.consumer("g", ["plays"]), done) for _ in range(2))
    a.pending += await take(a.consumer, 25)
    async with asyncio.timeout(20):
        while len(done + a.pending + b.pending) < 60 or not b.consumer.assignment:
            await a.read()
            await b.read()
    await a.consumer.close()
    await b.consumer.close()
    assert sorted(r.value for r in done) == sorted(m.value for m in plays(60))


async def test_members_come_and_go_while_others_produce_and_nothing_is_lost_or_doubled(
    opener: Open, log: Log
) -> None:
    other, done, told = opener(), list[Record](), 0
    members = [Reader(log.consumer("g", ["plays"]), done)]

    async def until_shared() -> None:
        nonlocal told
        async with asyncio.timeout(30):
            while True:
                await other.produce(plays(7, first=told))
                told += 7
                for member in members:
                    await member.read(50)
                shares = [member.consumer.assignment for member in members]
                if frozenset[Partition]().union(*shares) == ALL and all(shares):
                    return

    await until_shared()
    for joining in (log, other):
        members.append(Reader(joining.consumer("g", ["plays"]), done))
        await until_shared()
    for _ in range(2):
        await members.pop(0).consumer.close()
        await until_shared()
    async with asyncio.timeout(20):
        while len(done + members[0].pending) < told:
            await members[0].read(500)
    await members[0].consumer.close()
    assert sorted(r.value for r in done) == sorted(m.value for m in plays(told))
    order: dict[int, int] = {}
    for record in done:
        assert record.offset == order.get(record.partition, -1) + 1
        order[record.partition] = record.offset
    await other.close()


async def test_a_commit_of_a_partition_that_moved_is_fenced_whole(log: Log) -> None:
    await log.produce(plays(50))
    a, b = log.consumer("g", ["plays"]), log.consumer("g", ["plays"])
    stale = positions(await take(a, 50))
    await settle(a, b)
    kept = next(iter(a.assignment))
    with pytest.raises(Fenced, match="plays/"):
        await a.commit(stale)
    assert await a.committed() == {}
    await a.commit({kept: stale[kept]})
    assert await b.committed() == {kept: stale[kept]}
    for consumer in (a, b):
        await consumer.close()


async def test_only_the_owner_may_seek_or_commit(log: Log) -> None:
    consumer = log.consumer("g", ["plays"])
    with pytest.raises(Fenced):
        await consumer.seek("plays", 0, 0)
    with pytest.raises(Fenced):
        await consumer.commit({("plays", 0): 0})
    await consumer.commit({})
    await consumer.close()


async def test_hooks_tell_what_comes_and_goes(log: Log) -> None:
    told: list[tuple[str, frozenset[Partition]]] = []

    def watch(consumer: Consumer, name: str) -> None:
        async def assigned(partitions: frozenset[Partition]) -> None:
            assert partitions <= consumer.assignment
            told.append((f"{name}+", partitions))

        async def revoked(partitions: frozenset[Partition]) -> None:
            assert partitions <= consumer.assignment
            told.append((f"{name}-", partitions))

        consumer.on_assigned, consumer.on_revoked = assigned, revoked

    a, b = log.consumer("g", ["plays"]), log.consumer("g", ["plays"])
    watch(a, "a")
    watch(b, "b")
    await settle(a)
    await settle(a, b)
    assert told[0] == ("a+", ALL)
    moved = told[1][1]
    assert told[1:] == [("a-", moved), ("b+", moved)]
    await b.close()
    assert told[3:] == [("b-", moved)]
    await a.close()


async def test_an_assignment_hook_may_set_the_position(log: Log) -> None:
    await log.produce([Message("plays", key_in(2), b"%d" % n) for n in range(5)])
    consumer = log.consumer("g", ["plays"])

    async def from_the_frontier(partitions: frozenset[Partition]) -> None:
        await consumer.seek("plays", 2, 3)

    consumer.on_assigned = from_the_frontier
    assert [r.value for r in await take(consumer, 2)] == [b"3", b"4"]
    await consumer.close()


async def test_a_partition_is_not_read_until_its_assignment_hook_succeeds(log: Log) -> None:
    await log.produce(plays(10))
    consumer = log.consumer("g", ["plays"])
    calls: list[frozenset[Partition]] = []

    async def fails_once(partitions: frozenset[Partition]) -> None:
        calls.append(partitions)
        if len(calls) == 1:
            raise ConnectionError("the frontier cannot be read")

    consumer.on_assigned = fails_once
    with pytest.raises(ConnectionError):
        await consumer.consume(10, 1.0)
    assert not consumer.assignment
    await take(consumer, 10)
    assert calls == [ALL, ALL]
    await consumer.close()


@pytest.mark.parametrize("url", ["events", "log://events", "log:///", "amqp://h/x"])
def test_a_wrong_url_says_how_to_write_one(url: str) -> None:
    with pytest.raises(ConfigurationFault, match="log:///"):
        open_log(url)
