"""What only the embedded log promises: silence, zombies, retention, faults of its disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chassis.clock import ManualClock
from chassis.errors import Fenced, OutOfRange, StoreUnavailable
from chassis.events import Message, Topic
from chassis.events.embedded import TRIM_EVERY_S, EmbeddedLog
from chassis.events.log import Partition
from chassis.events.member import EmbeddedConsumer
from tests.support.disks import file_size_limit, remount_read_only, small_disk

PLAYS = Topic("plays", partitions=4)
ALL = frozenset(("plays", number) for number in range(4))


def plays(count: int) -> list[Message]:
    return [Message("plays", b"k%d" % n, b"v%d" % n) for n in range(count)]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def log(tmp_path: Path, clock: ManualClock) -> AsyncIterator[EmbeddedLog]:
    log = EmbeddedLog(tmp_path, clock)
    await log.ensure(PLAYS)
    yield log
    await log.close()


async def consumed(consumer: EmbeddedConsumer, rounds: int = 4) -> int:
    return sum([len(await consumer.consume(1000, 0.0)) for _ in range(rounds)])


async def test_a_member_that_falls_silent_loses_its_partitions_and_is_fenced(
    tmp_path: Path, log: EmbeddedLog, clock: ManualClock
) -> None:
    """The zombie's own clock stands still, as that of a stopped process does."""
    await log.produce(plays(100))
    frozen = EmbeddedLog(tmp_path, ManualClock(seed=1))
    zombie = frozen.consumer("g", ["plays"])
    lost: list[frozenset[Partition]] = []

    async def on_lost(partitions: frozenset[Partition]) -> None:
        lost.append(partitions)

    zombie.on_lost = on_lost
    stale = {
        (record.topic, record.partition): record.offset + 1
        for record in await zombie.consume(50, 0.0)
    }
    heir = log.consumer("g", ["plays"])
    await consumed(heir)
    assert heir.assignment == frozenset()
    await clock.advance(log.session_s + 0.1)
    assert await consumed(heir) == 100
    assert heir.assignment == ALL
    with pytest.raises(Fenced):
        await zombie.commit(stale)
    assert await heir.committed() == {}
    await zombie.consume(50, 0.0)
    assert lost == [ALL]
    assert zombie.assignment == frozenset()
    await zombie.close()
    await heir.close()
    await frozen.close()


async def test_a_member_busy_between_two_calls_stays_as_long_as_its_loop_turns(
    log: EmbeddedLog, clock: ManualClock
) -> None:
    a, b = log.consumer("g", ["plays"]), log.consumer("g", ["plays"])
    await consumed(a)
    for _ in range(40):
        await clock.advance(log.session_s / 8)
        await log.step(lambda connection: None)
        await b.consume(10, 0.0)
    assert a.assignment == ALL
    await a.commit({("plays", 0): 0})
    await a.close()
    await b.close()


async def test_a_partition_claimed_again_has_a_new_generation(
    log: EmbeddedLog, clock: ManualClock
) -> None:
    """Away and back, the same member: what it did under the earlier claim stays fenced."""
    a = log.consumer("g", ["plays"])
    await consumed(a)
    before = dict(a._owned)
    b = log.consumer("g", ["plays"])
    for consumer in (b, a, b, a):
        await consumer.consume(1, 0.0)
    moved = b.assignment
    assert len(moved) == 2
    await b.close()
    await consumed(a)
    assert a.assignment == ALL
    assert all(
        (a._owned[partition] > before[partition]) == (partition in moved) for partition in ALL
    )
    await a.close()


async def test_records_beyond_their_retention_go_and_reading_them_is_out_of_range(
    log: EmbeddedLog, clock: ManualClock
) -> None:
    await log.ensure(Topic("short", partitions=1, retention_s=60.0))
    one = [Message("short", b"k", b"old")]
    await log.produce(one * 3)
    await clock.advance(50)
    await log.produce([*one, *plays(1)])
    assert await log.starts("short") == {0: 0}
    await clock.advance(TRIM_EVERY_S + 1)
    await log.produce(one)
    assert (await log.starts("short"), await log.ends("short")) == ({0: 3}, {0: 5})
    consumer = log.consumer("g", ["short"])
    assert [record.offset for record in await consumer.consume(9, 0.0)] == [3, 4]
    await consumer.commit({("short", 0): 2})
    await consumer.close()
    late = log.consumer("g", ["short"])
    with pytest.raises(OutOfRange, match=r"short/0: offset 2 is outside 3\.\.5"):
        await late.consume(9, 0.0)
    await late.close()
    await clock.advance(1000)
    await log.produce(plays(1))
    assert (await log.starts("short"), await log.ends("short")) == ({0: 5}, {0: 5})
    assert sum((await log.ends("plays")).values()) == 2
    assert sum((await log.starts("plays")).values()) == 0


async def test_a_waiting_consumer_polls_by_the_clock(log: EmbeddedLog, clock: ManualClock) -> None:
    consumer = log.consumer("g", ["plays"])
    waiting = asyncio.create_task(consumer.consume(1, 10.0))
    await asyncio.wait([waiting], timeout=0.05)
    await clock.advance(9.5)
    assert not waiting.done()
    await clock.advance(1)
    async with asyncio.timeout(5):
        assert await waiting == []
    await consumer.close()


async def test_what_this_process_produces_needs_no_poll(log: EmbeddedLog) -> None:
    consumer = log.consumer("g", ["plays"])
    await consumed(consumer)
    waiting = asyncio.create_task(consumer.consume(1, 10.0))
    await asyncio.sleep(0)
    await log.produce(plays(1))
    async with asyncio.timeout(5):
        assert len(await waiting) == 1
    await consumer.close()


async def test_a_disk_that_refuses_appends_nothing_and_recovers(log: EmbeddedLog) -> None:
    await log.produce(plays(10))
    huge = [Message("plays", b"k", b"x" * 900_000)]
    with file_size_limit(400_000), pytest.raises(StoreUnavailable, match=r"records\.db"):
        await log.produce(huge)
    assert sum((await log.ends("plays")).values()) == 10
    assert len(await log.produce(huge)) == 1


async def test_a_full_disk_and_a_read_only_one_say_what_to_do(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 1 << 20) as disk:
        log = EmbeddedLog(disk / "log")
        await log.ensure(PLAYS)
        with pytest.raises(StoreUnavailable, match="the disk is full: free some space"):
            await log.produce([Message("plays", b"k", b"x" * 900_000)])
        await log.produce(plays(3))
        await log.close()
        remount_read_only(disk)
        with pytest.raises(StoreUnavailable, match=r"cannot be (written|opened)"):
            EmbeddedLog(disk / "log")


async def test_a_closed_log_takes_nothing(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log")
    await log.ensure(PLAYS)
    await log.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await log.produce(plays(1))
    await log.close()
