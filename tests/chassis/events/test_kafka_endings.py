"""What the log on Kafka does when something ends badly: a hook that hangs, a close that is
cancelled, a producer that can do no more, a move that the driver refuses."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Coroutine
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from chassis.errors import Fenced, StoreUnavailable
from chassis.events import Message, Topic
from chassis.events.kafka import KafkaLog
from chassis.events.kafka_consumer import KafkaConsumer
from chassis.events.kafka_held import Held
from chassis.events.kafka_member import Member, Polled
from chassis.events.kafka_producer import Chunk
from chassis.events.log import Partition
from tests.support import real
from tests.support.scripted import eventually

PLAYS = Topic("plays", partitions=2)
PATIENCE_S = 30.0


@pytest.fixture
async def log() -> AsyncIterator[KafkaLog]:
    log = opened(session_s=4)
    await log.ensure(PLAYS)
    yield log
    await log.close()


def opened(session_s: int, more: str = "") -> KafkaLog:
    url = f"{real.url('kafka')}?prefix={uuid4().hex}.&session_s={session_s}{more}"
    return KafkaLog.open(url)


async def has_everything(member: KafkaConsumer) -> None:
    """Until it owns both partitions."""
    while len(member.assignment) < 2:
        await member.consume(1, 0.05)


async def cancelled(closing: Coroutine[Any, Any, None]) -> None:
    """Begins it, and cancels it in the middle."""
    task = asyncio.create_task(closing)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_a_member_whose_hook_outlasts_its_time_is_out_until_the_hook_has_returned(
    protocol: str,
) -> None:
    log = opened(session_s=6, more=f"&protocol={protocol}")
    await log.ensure(PLAYS)
    slow = KafkaConsumer(log, "g", ["plays"], revoke_s=0.3)
    heir = log.consumer("g", ["plays"])
    let_go, heard = asyncio.Event(), list[str]()

    async def hangs(partitions: frozenset[Partition]) -> None:
        heard.append("revoked")
        await let_go.wait()
        assert await slow.committed() == {("plays", 0): 0, ("plays", 1): 0}
        with pytest.raises(Fenced):
            await slow.commit(dict.fromkeys(partitions, 1))
        slow.on_revoked = None

    async def told(partitions: frozenset[Partition]) -> None:
        heard.append(f"lost {len(partitions)}")

    slow.on_lost = told
    async with asyncio.timeout(PATIENCE_S):
        await has_everything(slow)
        slow.on_revoked = hangs
        reading = [asyncio.create_task(consuming(one)) for one in (slow, heir)]
        await eventually(lambda: len(heir.assignment) == 2, PATIENCE_S)
        await heir.commit(dict.fromkeys(heir.assignment, 0))
        assert heard == ["revoked"]
        let_go.set()
        await eventually(lambda: len(slow.assignment) == len(heir.assignment) == 1, PATIENCE_S)
        assert heard == ["revoked", "lost 2"]
    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    await log.close()


async def consuming(consumer: KafkaConsumer) -> None:
    while True:
        await consumer.consume(1, 0.05)


async def test_a_member_whose_close_was_cancelled_has_left_and_may_be_told_again() -> None:
    log = opened(session_s=45)  # for so long a member that only falls silent stays
    await log.ensure(PLAYS)
    leaver = log.consumer("g", ["plays"])
    async with asyncio.timeout(PATIENCE_S):
        await has_everything(leaver)
        await cancelled(leaver.close())
        await asyncio.gather(leaver.close(), leaver.leave(), leaver.leave())
        heir = log.consumer("g", ["plays"])
        await has_everything(heir)
    await log.close()


async def test_a_log_whose_close_was_cancelled_has_closed_and_its_members_have_left() -> None:
    log = opened(session_s=45)  # for so long a member that only falls silent stays
    await log.ensure(PLAYS)
    await log.produce([Message("plays", b"k", b"1")])
    member = log.consumer("g", ["plays"])
    async with asyncio.timeout(PATIENCE_S):
        await has_everything(member)
        await cancelled(log.close())
        other = KafkaLog(log.cluster)
        heir = other.consumer("g", ["plays"])
        await has_everything(heir)
        await asyncio.gather(other.close(), log.close(), log.close())
    with pytest.raises(StoreUnavailable, match="is closed"):
        await log.produce([Message("plays", b"k", b"2")])


async def test_a_new_producer_takes_over_from_one_that_failed_for_good(log: KafkaLog) -> None:
    await log.produce([Message("plays", b"k", b"1")])
    failed = log._producer
    assert failed is not None
    done = asyncio.get_running_loop().create_future()
    chunk = Chunk(1, 10, done, failed._finished)
    chunk.report(0, KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "a gap", True), None)  # type: ignore[arg-type]
    await eventually(done.done)
    assert log.counts.produce_failures == 1
    async with asyncio.timeout(PATIENCE_S):
        assert await log.produce([Message("plays", b"k", b"2")])
        assert log._producer is not failed
        await failed.close()
    with pytest.raises(StoreUnavailable, match="is closed"):
        await failed.send({"plays": "plays"}, [Message("plays", b"k", b"3")], [2])


class Reluctant(Consumer):
    """Refuses the first move."""

    refused = False

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        if partitions and not self.refused:
            self.refused = True
            raise KafkaException(KafkaError(KafkaError._STATE, "not now"))
        super().incremental_assign(partitions)


async def test_a_move_that_the_driver_refused_is_made_with_the_next_poll(log: KafkaLog) -> None:
    await log.produce([Message("plays", b"k", b"v")])
    member = Member(log.cluster, "g", ["plays"], lambda _: True, lambda _: None, driver=Reluctant)
    granted: set[Partition] = set()

    def poll(moves: dict[Partition, int]) -> Polled:
        return member.poll(moves, 10, 0.1)

    async with asyncio.timeout(PATIENCE_S):
        while len(granted) < 2:
            granted |= (await asyncio.to_thread(poll, {})).granted
        refused = await asyncio.to_thread(poll, dict.fromkeys(granted, 0))
        assert refused.unmoved == dict.fromkeys(granted, 0)
        assert [fault.args[0].str() for fault in refused.faults] == ["not now"]
        found = await asyncio.to_thread(poll, refused.unmoved)
        while not found.records:
            found = await asyncio.to_thread(poll, {})
    assert [record.value for record in found.records] == [b"v"]
    await asyncio.to_thread(member.close)


async def test_moves_that_did_not_happen_are_made_unless_newer_ones_are_wanted(
    log: KafkaLog,
) -> None:
    consumer = log.consumer("g", ["plays"])
    here, there = ("plays", 0), ("plays", 1)
    consumer._owned = {here, there}
    await consumer.seek("plays", 0, 7)
    consumer._accept(Polled(unmoved={here: 3, there: 4}))
    assert consumer._moves == {here: 7, there: 4}
    consumer._owned = set()
    await consumer.close()


async def test_an_administrator_is_ended_in_a_thread_of_its_own(log: KafkaLog) -> None:
    await log.ensure(PLAYS)
    held = log._admin._held
    assert held is not None
    ended: list[threading.Thread] = []
    weakref.finalize(held.driver, lambda: ended.append(threading.current_thread()))
    log._admin.close()
    await eventually(lambda: len(ended) == 1)
    assert ended[0] is not threading.main_thread()
    assert await log.ends("plays") == {0: 0, 1: 0}


async def test_what_is_still_used_is_let_go_of_afterwards() -> None:
    held = Held(set[int]())
    alive = weakref.ref(held.driver)
    with held.used():
        held.retire()
        assert alive() is not None
    await eventually(lambda: alive() is None)
