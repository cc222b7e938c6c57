"""Producing to Kafka: handed over on the event loop, reported by one thread that polls.

Delivery reports are gathered in that thread and reach the loop with one wake-up a poll, however
many they are. What is under way is bounded, in messages and in bytes: who comes then, waits.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Report

from chassis.errors import StoreUnavailable
from chassis.events.kafka_faults import Complaints, translated
from chassis.events.kafka_url import Cluster
from chassis.events.log import LogCounts, Message

Place = tuple[int, int]
T = TypeVar("T")

UNDERWAY_MESSAGES = 200_000
UNDERWAY_BYTES = 64 << 20
_CHUNK_MESSAGES = 1_000
_CHUNK_BYTES = 1 << 20
_POLL_S = 0.2
_ANY_PARTITION = -1
_NOWHERE: Place = (-1, -1)


class Chunk:
    """Some messages of one call on their way. `report` runs in the thread that polls."""

    __slots__ = ("_finished", "bytes", "count", "done", "fault", "places", "reported", "settled")

    def __init__(
        self, count: int, size: int, done: asyncio.Future[None], finished: list[Chunk]
    ) -> None:
        self.count = count
        self.bytes = size
        self.done = done
        self.places: list[Place] = [_NOWHERE] * count
        self.fault: KafkaError | None = None
        self.reported = 0
        self.settled = False
        self._finished = finished

    def report(self, index: int, error: KafkaError | None, report: Report) -> None:
        if error is None:
            self.places[index] = (report.partition(), report.offset())  # type: ignore[assignment]
        elif self.fault is None:
            self.fault = error
        self.reported += 1
        if self.reported == self.count:
            self._finished.append(self)


class Room:
    """How much may be under way at once; those who wait get in by turns."""

    def __init__(self, messages: int, size: int) -> None:
        self._messages = messages
        self._bytes = size
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def full(self) -> bool:
        return self._messages <= 0 or self._bytes <= 0

    async def enter(self) -> None:
        """Returns when there is room; `take` before anything else is awaited."""
        while self.full or self._waiting:
            place = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            try:
                await place
            except asyncio.CancelledError:
                self._leave(place)
                raise
            if not self.full:
                return

    def take(self, messages: int, size: int) -> None:
        self._messages -= messages
        self._bytes -= size
        self._call()

    def give(self, messages: int, size: int) -> None:
        self._messages += messages
        self._bytes += size
        self._call()

    def _call(self) -> None:
        while self._waiting and not self.full:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return

    def _leave(self, place: asyncio.Future[None]) -> None:
        if place in self._waiting:
            self._waiting.remove(place)
        elif not place.cancelled():
            self._call()


class KafkaProducer:
    """One idempotent producer. Make it in the process, and on the loop, that uses it."""

    def __init__(self, cluster: Cluster, room: Room, counts: LogCounts) -> None:
        self.complaints = Complaints()
        self.counts = counts
        self.broken = False
        self._cluster = cluster
        self._room = room
        self._loop = asyncio.get_running_loop()
        self._driver = Producer(cluster.producer() | {"error_cb": self.complaints.note})
        self._finished: list[Chunk] = []
        self._closing = False
        self._ended = self._loop.create_future()
        threading.Thread(target=self._poll, name=f"{cluster} reports", daemon=True).start()

    async def send(
        self, names: Mapping[str, str], messages: Sequence[Message], sizes: Sequence[int]
    ) -> list[Place]:
        """The places of the messages; `names` has their topics' names in the cluster."""
        chunks: list[Chunk] = []
        for start, end, size in cuts(sizes):
            await self._room.enter()
            self._check_open()
            chunks.append(self._hand_over(names, messages[start:end], size))
            if end < len(messages):
                await asyncio.sleep(0)
        places: list[Place] = []
        for chunk in chunks:
            await chunk.done
            places += chunk.places
        for chunk in chunks:
            if chunk.fault is not None:
                raise self._failure(chunk.fault)
        return places

    async def close(self) -> None:
        """Sends what was handed over, within the time that a call may take."""
        self.retire()
        await asyncio.shield(self._ended)

    def retire(self) -> None:
        """Takes no more: the thread sends what was handed over, and ends."""
        self._closing = True

    def _check_open(self) -> None:
        """Nobody would report what is handed over from now on."""
        if self._closing:
            self._room.give(0, 0)  # the next one who waits is to hear of it as well
            raise StoreUnavailable(f"{self._cluster}: producing: this producer is closed")

    def _hand_over(self, names: Mapping[str, str], messages: Sequence[Message], size: int) -> Chunk:
        count = len(messages)
        chunk = Chunk(count, size, self._loop.create_future(), self._finished)
        self._room.take(count, size)
        produce, report = self._driver.produce, chunk.report
        index = 0
        try:
            for index, message in enumerate(messages):
                produce(
                    names[message.topic],
                    message.value,
                    message.key,
                    _ANY_PARTITION,
                    partial(report, index),
                    None,
                    0,
                    list(message.headers),
                )
        except (KafkaException, BufferError) as fault:
            self._break_off(chunk, index, fault)
        except Exception as fault:  # no message that the driver could take
            self._break_off(chunk, index, fault)
            raise
        return chunk

    def _break_off(self, chunk: Chunk, handed: int, fault: Exception) -> None:
        """The rest of a chunk was not taken: it is done when the first part of it is."""
        error = fault.args[0] if isinstance(fault, KafkaException) else None
        chunk.fault = error or KafkaError(KafkaError._QUEUE_FULL, str(fault))
        self._room.give(chunk.count - handed, 0)
        chunk.count = handed
        if chunk.reported == handed:
            self._settle([chunk])

    def _poll(self) -> None:
        """The thread: reports, until closed and then for as long as a call may take."""
        with suppress(KafkaException):
            self._driver.list_topics(timeout=self._cluster.options.wait_s)  # connects now
        while not self._closing:
            self._driver.poll(_POLL_S)
            self._tell()
        self._driver.flush(self._cluster.options.wait_s)
        self._tell()
        self._driver.purge()
        self._driver.flush(_POLL_S)
        self._tell()
        self._soon(_end, self._ended)

    def _tell(self) -> None:
        if self._finished:
            finished = self._finished.copy()
            self._finished.clear()
            self._soon(self._settle, finished)

    def _soon(self, callback: Callable[[T], None], argument: T) -> None:
        with suppress(RuntimeError):  # the loop has gone, and with it everybody who waited
            self._loop.call_soon_threadsafe(callback, argument)

    def _settle(self, finished: Sequence[Chunk]) -> None:
        for chunk in finished:
            if not chunk.settled:
                chunk.settled = True
                self._room.give(chunk.count, chunk.bytes)
                self._note(chunk)
                if not chunk.done.done():
                    chunk.done.set_result(None)

    def _note(self, chunk: Chunk) -> None:
        if chunk.fault is None:
            self.counts.produced += len(chunk.places)
            self.complaints.forget()
            return
        failed = chunk.places.count(_NOWHERE)
        self.counts.produce_failures += failed
        self.counts.produced += len(chunk.places) - failed
        self.broken |= is_fatal(chunk.fault)

    def _failure(self, error: KafkaError) -> Exception:
        if is_fatal(error) or error.code() == KafkaError._QUEUE_FULL:
            return StoreUnavailable(f"{self._cluster}: producing: {error.str()}")
        return translated(error, self._cluster, "producing", self.complaints)


def cuts(sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(start, end, bytes) of parts that are small enough to hand over in one go."""
    start = size = 0
    for index, one in enumerate(sizes):
        size += one
        if index + 1 - start >= _CHUNK_MESSAGES or size >= _CHUNK_BYTES:
            yield start, index + 1, size
            start, size = index + 1, 0
    if start < len(sizes):
        yield start, len(sizes), size


def is_fatal(error: KafkaError) -> bool:
    """Whether its producer is of no more use; the driver flags only what it tells by itself."""
    return error.fatal() or error.code() == KafkaError._FATAL


def _end(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
