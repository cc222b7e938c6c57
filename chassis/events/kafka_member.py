"""The driver's side of a group member: what runs in its thread.

The driver tells of a rebalance inside `consume`, in whichever thread called that. What was granted
or lost is only noted here and told when the poll is over; nothing is read from a partition before
a move says where to start. What is revoked the event loop is told at once, and waited for.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Fetched

from chassis.events.kafka_url import Cluster
from chassis.events.log import Partition, Record

Partitions = frozenset[Partition]

_SLICE = 200


@dataclass(slots=True)
class Polled:
    """What one poll brought. `outside` has offsets that the log does not hold,
    `unmoved` moves that could not be made."""

    records: list[Record] = field(default_factory=list)
    granted: set[Partition] = field(default_factory=set)
    lost: set[Partition] = field(default_factory=set)
    outside: dict[Partition, int] = field(default_factory=dict)
    unmoved: dict[Partition, int] = field(default_factory=dict)
    faults: list[KafkaException] = field(default_factory=list)
    rebalances: int = 0


class Member:
    """One driver, for one thread."""

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        topics: Sequence[str],
        revoke: Callable[[Partitions], bool],
        complain: Callable[[KafkaError], None],
        *,
        driver: type[Consumer] = Consumer,
    ) -> None:
        self._prefix = cluster.options.prefix
        self._names = {self._prefix + topic: topic for topic in topics}
        self._wait_s = cluster.options.wait_s
        self._revoke = revoke
        self._stamp = f"{socket.gethostname()} {os.getpid()}"
        settings = cluster.consumer(group) | {"error_cb": complain}
        self._connect: Callable[[], Consumer] = partial(driver, settings)
        self._driver = self._connect()
        self._subscribed = False
        self._closing = False
        self._given_up = False
        self._granted: set[Partition] = set()
        self._started: set[Partition] = set()
        self._gone = False
        self._polled = Polled()

    def poll(self, moves: Mapping[Partition, int], limit: int, timeout_s: float) -> Polled:
        """Moves to these offsets, then reads up to `limit` records, as soon as there are any."""
        self._polled = polled = Polled()
        try:
            self._subscribe()
            self._move(moves)
            self._read_ready(limit)
            if not self._is_told() and timeout_s > 0:
                self._read(1, timeout_s)
                self._read_ready(limit)
        except KafkaException as fault:
            polled.faults.append(fault)
        if self._given_up:
            self._quit()
        return polled

    def commit(self, positions: Mapping[Partition, int]) -> None:
        """Stores positions, stamped with who did; `KafkaException` when one could not be.

        The group's coordinator checks the member only: whose the partitions are is checked here.
        """
        if not positions.keys() <= self._granted:
            raise KafkaException(KafkaError(KafkaError._ASSIGNMENT_LOST))
        offsets = [
            TopicPartition(self._prefix + topic, number, at, self._stamp)
            for (topic, number), at in positions.items()
        ]
        for stored in self._driver.commit(offsets=offsets, asynchronous=False):
            if stored.error is not None:
                raise KafkaException(stored.error)

    def committed(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        asked = [TopicPartition(self._prefix + topic, number) for topic, number in partitions]
        found: dict[Partition, int] = {}
        for one in self._driver.committed(asked, timeout=self._wait_s):
            if one.error is not None:
                raise KafkaException(one.error)
            if one.offset >= 0:
                found[self._names[one.topic], one.partition] = one.offset
        return found

    def close(self) -> None:
        self._closing = True
        self._driver.close()

    def _subscribe(self) -> None:
        if not self._subscribed:
            self._driver.list_topics(next(iter(self._names)), timeout=self._wait_s)  # connects now
            self._driver.subscribe(
                list(self._names),
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            self._subscribed = True

    def _is_told(self) -> bool:
        told = self._polled
        return bool(told.records or told.granted or told.lost or told.outside or told.faults)

    def _move(self, moves: Mapping[Partition, int]) -> None:
        """Starts partitions, or starts them again elsewhere; not those that have gone meanwhile."""
        due = {place: at for place, at in moves.items() if place in self._granted}
        if not due:
            return
        self._stop(due.keys())
        self._started |= due.keys()
        try:
            self._driver.incremental_assign(
                [TopicPartition(self._prefix + topic, n, at) for (topic, n), at in due.items()]
            )
        except KafkaException:
            self._started -= due.keys()
            self._polled.unmoved = due
            raise

    def _stop(self, partitions: Set[Partition]) -> None:
        stopped = self._started & partitions
        self._started -= stopped
        self._driver.incremental_unassign(
            [TopicPartition(self._prefix + topic, number) for topic, number in stopped]
        )

    def _read_ready(self, limit: int) -> None:
        """What is there already, in slices: the processor's cache holds one, not ten thousand."""
        while (left := limit - len(self._polled.records)) > 0:
            if not self._read(min(left, _SLICE), 0.0):
                return

    def _read(self, limit: int, timeout_s: float) -> bool:
        """Reads one slice; whether there was anything."""
        self._gone = False
        messages = self._driver.consume(limit, timeout_s)
        failed = [message for message in messages if message.error() is not None]
        for message in failed:
            self._note(message)
        if failed:
            messages = [message for message in messages if message.error() is None]
        self._polled.records += _records(messages, self._names)
        if self._gone:
            records = self._polled.records
            fresh = [r for r in records if (r.topic, r.partition) in self._started]
            self._polled.records = fresh
        return bool(messages or failed)

    def _note(self, message: Fetched) -> None:
        error = message.error()
        assert error is not None
        topic, number, offset = message.topic(), message.partition(), message.offset()
        if error.code() == KafkaError._AUTO_OFFSET_RESET and topic and number is not None:
            place = (self._names[topic], number)
            self._stop({place})
            self._polled.outside[place] = offset if offset is not None else -1
        elif error.code() != KafkaError._MAX_POLL_EXCEEDED:  # that is told as a loss, too
            self._polled.faults.append(KafkaException(error))

    def _on_assign(self, driver: Consumer, places: list[TopicPartition]) -> None:
        granted = self._partitions(places)
        self._granted |= granted
        self._polled.granted |= granted
        self._polled.rebalances += 1
        with self._told():
            driver.incremental_assign([])

    def _on_revoke(self, driver: Consumer, places: list[TopicPartition]) -> None:
        going = self._partitions(places)
        self._polled.rebalances += 1
        if going and not self._closing and not self._revoke(going):
            self._polled.lost |= going
            self._given_up = True
        self._leave(going)

    def _on_lost(self, driver: Consumer, places: list[TopicPartition]) -> None:
        going = self._partitions(places)
        self._polled.rebalances += 1
        self._polled.lost |= going
        self._leave(going)

    def _leave(self, partitions: Partitions) -> None:
        self._gone = True
        self._granted -= partitions
        self._polled.granted -= partitions
        with self._told():
            self._stop(partitions)

    def _quit(self) -> None:
        """Leaves the group with all that it has; the next poll joins it again.

        Nobody may poll for long, as whoever should be answering a revocation still is not. The
        driver would wait for a poll before it lets the group go on, and so would the heirs.
        """
        polled = self._polled
        polled.lost |= self._granted
        self._closing = True
        with self._told():
            self._driver.close()
        self._driver = self._connect()
        self._subscribed = self._closing = self._given_up = False
        self._granted.clear()
        self._started.clear()
        polled.granted.clear()
        polled.outside.clear()
        polled.records.clear()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Nothing may be raised in a callback: the driver would drop what it has just read."""
        try:
            yield
        except KafkaException as fault:
            self._polled.faults.append(fault)

    def _partitions(self, places: Sequence[TopicPartition]) -> Partitions:
        return frozenset((self._names[place.topic], place.partition) for place in places)


def _records(messages: Sequence[Fetched], names: Mapping[str, str]) -> list[Record]:
    return [
        Record(
            names[message.topic()],  # type: ignore[index]
            message.partition(),  # type: ignore[arg-type]
            message.offset(),  # type: ignore[arg-type]
            message.key() or b"",
            message.value() or b"",
            tuple(message.headers() or ()),  # type: ignore[arg-type]
            message.timestamp()[1],
        )
        for message in messages
    ]
