"""The log on Kafka. `chassis.events.kafka_url` says how its URL is written.

Wrong credentials, brokers whose certificates we do not trust, and a cluster that is too old are a
`ConfigurationFault` at the first call; a port where nothing, or something else, answers is
`StoreUnavailable`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from confluent_kafka import KafkaException
from confluent_kafka.admin import OffsetSpec

from chassis.authorities import trusting
from chassis.clock import SYSTEM, Clock
from chassis.deadline import Deadline
from chassis.errors import Missing, StoreUnavailable
from chassis.events import kafka_epochs as epochs
from chassis.events.batches import check_size
from chassis.events.kafka_admin import EARLIEST, LATEST, Admin, missing
from chassis.events.kafka_consumer import KafkaConsumer
from chassis.events.kafka_faults import is_passing, translated
from chassis.events.kafka_producer import UNDERWAY_BYTES, UNDERWAY_MESSAGES, KafkaProducer, Room
from chassis.events.kafka_topics import Topics
from chassis.events.kafka_url import Cluster, cluster_of
from chassis.events.log import LogCounts, Message, Topic

_AGAIN_S = 0.05


class KafkaLog:
    """The log port on Kafka. Nothing is opened before the first call: use it after forking."""

    def __init__(self, cluster: Cluster, clock: Clock = SYSTEM) -> None:
        self.cluster = cluster
        self.clock = clock
        self.counts = LogCounts()
        self._prefix = cluster.options.prefix
        self._admin = Admin(cluster, clock)
        self._topics = Topics(cluster, self._admin, clock)
        self._room = Room(UNDERWAY_MESSAGES, UNDERWAY_BYTES)
        self._producer: KafkaProducer | None = None
        self._epochs: dict[str, int] = {}
        self._consumers: set[KafkaConsumer] = set()
        self._closed = False
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    def open(cls, url: str, clock: Clock = SYSTEM) -> KafkaLog:
        cluster = cluster_of(url)
        if cluster.tls:
            trusting(cluster.options.ca, what="the log URL")  # the driver says it less clearly
        return cls(cluster, clock)

    def __repr__(self) -> str:
        return f"KafkaLog({self.cluster.brokers})"

    async def ensure(self, *topics: Topic) -> None:
        named = [_renamed(topic, self._prefix + topic.name) for topic in topics]
        made = await self._topics.ensure([*named, epochs.topic(self._prefix + epochs.NAME)])
        for topic in named:
            if topic.name in made:
                await self._epoch(topic.name)

    async def produce(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        if not messages:
            return []
        sizes = [check_size(message) for message in messages]
        names = {topic: self._prefix + topic for topic in {one.topic for one in messages}}
        for topic, name in names.items():
            if name not in self._topics:
                await self.partitions(topic)
        try:
            return await self._open_producer().send(names, messages, sizes)
        except Missing:
            for name in names.values():
                self._topics.forget(name)
            raise

    def consumer(self, group: str, topics: Sequence[str]) -> KafkaConsumer:
        consumer = KafkaConsumer(self, group, topics)
        self._consumers.add(consumer)
        return consumer

    async def starts(self, topic: str) -> dict[int, int]:
        return await self._offsets(topic, EARLIEST)

    async def ends(self, topic: str) -> dict[int, int]:
        return await self._offsets(topic, LATEST)

    async def epoch(self, topic: str) -> int:
        return await self._epoch(self._prefix + topic)

    async def close(self) -> None:
        """It is done once, and to its end also when the caller is cancelled."""
        self._closed = True
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        producer, self._producer = self._producer, None
        leaving = [consumer.leave() for consumer in self._consumers]
        try:
            await asyncio.gather(*leaving, *([producer.close()] if producer is not None else []))
        finally:
            self._admin.close()

    async def partitions(self, topic: str) -> int:
        """How many the topic has; `Missing` when there is no such topic."""
        return (await self._topics.get(self._prefix + topic)).partitions

    def left(self, consumer: KafkaConsumer) -> None:
        """A consumer of this log has closed."""
        self._consumers.discard(consumer)

    def _open_producer(self) -> KafkaProducer:
        if self._closed:
            raise StoreUnavailable(f"this opening of {self.cluster} is closed")
        if self._producer is not None and self._producer.broken:
            self._producer.retire()
            self._producer = None
        if self._producer is None:
            self._producer = KafkaProducer(self.cluster, self._room, self.counts)
        return self._producer

    async def _offsets(self, topic: str, spec: OffsetSpec) -> dict[int, int]:
        name = self._prefix + topic
        partitions = (await self._topics.get(name)).partitions
        try:
            return await self._topics.ask(
                [name], lambda: self._admin.offsets(name, partitions, spec)
            )
        except Missing:
            self._topics.forget(name)
            raise missing(topic) from None

    async def _epoch(self, name: str) -> int:
        life = (await self._topics.look(name)).id
        if life not in self._epochs:
            await self._read_epochs()
        if life not in self._epochs:
            where = self._prefix + epochs.NAME
            entry = Message(where, life.encode(), name.encode())
            await self._open_producer().send({where: where}, [entry], [check_size(entry)])
            await self._read_epochs()
        return self._epochs[life]

    async def _read_epochs(self) -> None:
        name, loop = self._prefix + epochs.NAME, asyncio.get_running_loop()
        await self._topics.ensure([epochs.topic(name)])
        deadline = Deadline.after(self.clock, self.cluster.options.wait_s)
        while True:
            try:
                self._epochs = await loop.run_in_executor(None, epochs.read, self.cluster, name)
                return
            except KafkaException as fault:
                if not is_passing(fault) or deadline.expired():
                    raise translated(fault, self.cluster, "reading the epochs") from fault
            await self.clock.sleep(_AGAIN_S)


def _renamed(topic: Topic, name: str) -> Topic:
    return Topic(name, topic.partitions, topic.retention_s)
