"""The cluster's administration, asked from the event loop: topics, settings, offsets.

Every question is asked again while its failure is a passing one, until `wait_s` has gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from chassis.clock import Clock
from chassis.deadline import Deadline
from chassis.errors import Missing
from chassis.events.kafka_faults import Complaints, is_outdated, is_passing, translated
from chassis.events.kafka_held import Held
from chassis.events.kafka_url import Cluster

K = TypeVar("K")
V = TypeVar("V")
Futures = Mapping[K, "Future[V]"]

_AGAIN_S = 0.05
_LISTEN_S = 0.1


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """`id` is the broker's name for this life of the topic; `led` whether all of it is usable;
    `replicas` is how many copies its least copied partition has."""

    partitions: int
    id: str
    led: bool
    replicas: int


class Admin:
    """One administrative client. Made at its first question, in the process that asks."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock
        self._held: Held[AdminClient] | None = None
        self.complaints = Complaints()

    async def describe(self, topics: Sequence[str]) -> dict[str, TopicInfo]:
        """What there is of these topics."""

        def ask(client: AdminClient, wait_s: float) -> Futures[str, Any]:
            return client.describe_topics(TopicCollection(list(topics)), request_timeout=wait_s)

        found = await self._ask(ask, "describing topics", but=KafkaError.UNKNOWN_TOPIC_OR_PART)
        return {
            name: TopicInfo(
                len(one.partitions),
                str(one.topic_id),
                _is_led(one.partitions),
                min(len(partition.replicas) for partition in one.partitions),
            )
            for name, one in found.items()
        }

    async def brokers(self) -> int:
        def ask(client: AdminClient, wait_s: float) -> Futures[str, Any]:
            return {"": client.describe_cluster(request_timeout=wait_s)}

        answer = await self._ask(ask, "describing the cluster")
        return len(answer[""].nodes)

    async def create(self, topics: Sequence[NewTopic]) -> set[str]:
        """Those of them that did not exist; others may create them at the same time."""

        def ask(client: AdminClient, wait_s: float) -> Futures[str, Any]:
            return client.create_topics(list(topics), request_timeout=wait_s)

        made = await self._ask(ask, "creating topics", but=KafkaError.TOPIC_ALREADY_EXISTS)
        return set(made)

    async def settings(self, topics: Iterable[str]) -> dict[str, dict[str, str]]:
        """Every setting of each topic."""
        wanted = [ConfigResource(ResourceType.TOPIC, name) for name in topics]

        def ask(client: AdminClient, wait_s: float) -> Futures[ConfigResource, Any]:
            return client.describe_configs(wanted, request_timeout=wait_s)

        found = await self._ask(ask, "reading the topics' settings")
        return {
            resource.name: {key: entry.value for key, entry in entries.items()}
            for resource, entries in found.items()
        }

    async def set(self, topic: str, key: str, value: str) -> None:
        entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        wanted = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])

        def ask(client: AdminClient, wait_s: float) -> Futures[ConfigResource, Any]:
            return client.incremental_alter_configs([wanted], request_timeout=wait_s)

        await self._ask(ask, f"setting {key} of {topic}")

    async def offsets(self, topic: str, partitions: int, spec: OffsetSpec) -> dict[int, int]:
        wanted = {TopicPartition(topic, number): spec for number in range(partitions)}

        def ask(client: AdminClient, wait_s: float) -> Futures[TopicPartition, Any]:
            return client.list_offsets(wanted, request_timeout=wait_s)

        doing = f"asking for offsets of {topic}"
        found = await self._ask(ask, doing)
        if any(info.offset < 0 for info in found.values()):  # so the driver tells of a timeout
            error = KafkaError(KafkaError._TIMED_OUT, "no answer for some partition")
            raise translated(error, self._cluster, doing, self.complaints)
        return {place.partition: info.offset for place, info in found.items()}

    async def _ask(
        self,
        ask: Callable[[AdminClient, float], Futures[K, V]],
        doing: str,
        but: int | None = None,
    ) -> dict[K, V]:
        """The answers, without those that failed with `but`."""
        deadline = Deadline.after(self._clock, self._cluster.options.wait_s)
        while True:
            try:
                return await self._ask_once(ask, deadline, but)
            except KafkaException as fault:
                if not is_passing(fault) or deadline.expired() or self.complaints.refused:
                    raise translated(fault, self._cluster, doing, self.complaints) from fault
                if is_outdated(fault):
                    self.close()
            await self._clock.sleep(_AGAIN_S)

    async def _ask_once(
        self,
        ask: Callable[[AdminClient, float], Futures[K, V]],
        deadline: Deadline,
        but: int | None,
    ) -> dict[K, V]:
        held = self._open()
        answers: dict[K, V] = {}
        with held.used():
            for key, future in ask(held.driver, max(0.1, deadline.remaining())).items():
                try:
                    answers[key] = await self._heard(held, future)
                except KafkaException as fault:
                    if fault.args[0].code() != but:
                        raise
        return answers

    async def _heard(self, held: Held[AdminClient], future: Future[V]) -> V:
        """The future's result; fails as soon as the client hears that it is refused."""
        answer = asyncio.wrap_future(future)
        try:
            while not answer.done():
                await asyncio.wait((answer,), timeout=_LISTEN_S)
                held.driver.poll(0)
                if self.complaints.refused is not None and not answer.done():
                    raise KafkaException(self.complaints.refused)
            return answer.result()
        finally:
            answer.cancel()  # else it is told later that nobody heard it

    def _open(self) -> Held[AdminClient]:
        if self._held is None:
            self.complaints.forget()
            settings = self._cluster.admin() | {"error_cb": self.complaints.note}
            self._held = Held(AdminClient(settings))
        return self._held

    def close(self) -> None:
        """Waits for nothing; questions under way are answered."""
        if self._held is not None:
            self._held.retire()
            self._held = None


EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]


def missing(topic: str) -> Missing:
    return Missing(f"there is no topic {topic!r}: ensure() it first")


def _is_led(partitions: Sequence[Any]) -> bool:
    return all(one.leader is not None and one.leader.id >= 0 for one in partitions)
