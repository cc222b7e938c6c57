"""Topics of a Kafka cluster: made with the settings that the port needs, and checked for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from confluent_kafka.admin import NewTopic

from chassis.clock import Clock
from chassis.deadline import Deadline
from chassis.errors import Missing, SchemaFault, StoreUnavailable
from chassis.events.kafka_admin import Admin, TopicInfo, missing
from chassis.events.kafka_url import Cluster
from chassis.events.log import MESSAGE_LIMIT, Topic

REPLICAS = 3
_AGAIN_S = 0.02
_SPREADS_S = 2.0
"""How much later than others a broker hears of a new topic; until then it says there is none."""
_IN_SYNC = "min.insync.replicas"
_LARGEST = 1_048_588  # what a broker takes by default: our limit and what framing adds

Values = Mapping[str, str]
T = TypeVar("T")


class Topics:
    """What is known of the topics, by their names in the cluster."""

    def __init__(self, cluster: Cluster, admin: Admin, clock: Clock) -> None:
        self._cluster = cluster
        self._admin = admin
        self._clock = clock
        self._known: dict[str, TopicInfo] = {}
        self._spread: dict[str, Deadline] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def forget(self, name: str) -> None:
        self._known.pop(name, None)

    async def get(self, name: str) -> TopicInfo:
        """What was found once; `Missing` when there is no such topic."""
        return self._known.get(name) or await self.look(name)

    async def look(self, name: str) -> TopicInfo:
        """What there is now; `Missing` when there is no such topic."""
        return await self.ask([name], lambda: self._look(name))

    async def ask(self, names: Sequence[str], question: Callable[[], Awaitable[T]]) -> T:
        """The answer; asks again while a broker may not have heard of those that are new."""
        while True:
            try:
                return await question()
            except Missing:
                if all(self._has_spread(name) for name in names):
                    raise
            await self._clock.sleep(_AGAIN_S)

    def _has_spread(self, name: str) -> bool:
        deadline = self._spread.get(name)
        if deadline is not None and deadline.expired():
            del self._spread[name]
        return name not in self._spread

    async def _look(self, name: str) -> TopicInfo:
        found = await self._admin.describe([name])
        if name not in found:
            self.forget(name)
            raise missing(name)
        self._known |= found
        return found[name]

    async def ensure(self, topics: Sequence[Topic]) -> set[str]:
        """Makes what is missing, checks and adjusts the rest; the names of those it made."""
        wanted = {topic.name: topic for topic in topics}
        there = await self._admin.describe(list(wanted))
        absent = [topic for name, topic in wanted.items() if name not in there]
        made: set[str] = set()
        if absent:
            _check_counts(wanted, there)
            replicas = min(REPLICAS, await self._admin.brokers())
            made = await self._admin.create([_new(topic, replicas) for topic in absent])
            there = await self._wait_for(list(wanted))
            soon = Deadline.after(self._clock, _SPREADS_S)
            self._spread |= dict.fromkeys([topic.name for topic in absent], soon)
        _check_counts(wanted, there)
        await self._adjust([topic for name, topic in wanted.items() if name not in made], there)
        self._known |= there
        return made

    async def _wait_for(self, names: Sequence[str]) -> dict[str, TopicInfo]:
        deadline = Deadline.after(self._clock, self._cluster.options.wait_s)
        while True:
            there = await self._admin.describe(names)
            if len(there) == len(names) and all(info.led for info in there.values()):
                return there
            if deadline.expired():
                raise StoreUnavailable(
                    f"{self._cluster}: no broker leads all of {', '.join(names)}; are all up?"
                )
            await self._clock.sleep(_AGAIN_S)

    async def _adjust(self, topics: Sequence[Topic], there: Mapping[str, TopicInfo]) -> None:
        if not topics:
            return
        names = [topic.name for topic in topics]
        settings = await self.ask(names, lambda: self._admin.settings(names))
        faults = [
            fault
            for topic in topics
            for fault in faults_of(topic, settings[topic.name], there[topic.name].replicas)
        ]
        if faults:
            raise SchemaFault("; ".join(faults))
        for topic in topics:
            retention = _retention_ms(topic)
            if settings[topic.name]["retention.ms"] != retention:
                await self._admin.set(topic.name, "retention.ms", retention)


def settings_of(topic: Topic, replicas: int) -> dict[str, str]:
    """The settings that a topic is made with."""
    return {
        "cleanup.policy": "delete",
        "retention.ms": _retention_ms(topic),
        "retention.bytes": "-1",
        _IN_SYNC: str(max(1, replicas - 1)),
        "unclean.leader.election.enable": "false",
        "max.message.bytes": str(_LARGEST),
        "message.timestamp.type": "LogAppendTime",
    }


def faults_of(topic: Topic, found: Values, replicas: int) -> list[str]:
    """What of an existing topic's settings would lose records or give them another meaning."""
    right = settings_of(topic, replicas)
    wrong = [key for key in right if key in _EXACT and found[key] != right[key]]
    if int(found[_IN_SYNC]) < int(right[_IN_SYNC]):
        wrong.append(_IN_SYNC)
    faults = [f"topic {topic.name} has {key}={found[key]}: set it to {right[key]}" for key in wrong]
    if int(found["max.message.bytes"]) < MESSAGE_LIMIT:
        faults.append(
            f"topic {topic.name} has max.message.bytes={found['max.message.bytes']}:"
            f" set it to {_LARGEST}"
        )
    return faults


_EXACT = frozenset(
    (
        "cleanup.policy",
        "retention.bytes",
        "unclean.leader.election.enable",
        "message.timestamp.type",
    )
)


def _new(topic: Topic, replicas: int) -> NewTopic:
    return NewTopic(topic.name, topic.partitions, replicas, config=settings_of(topic, replicas))


def _retention_ms(topic: Topic) -> str:
    return "-1" if topic.retention_s is None else str(max(1, round(topic.retention_s * 1000)))


def _check_counts(wanted: Mapping[str, Topic], there: Mapping[str, TopicInfo]) -> None:
    for name, info in there.items():
        if info.partitions != wanted[name].partitions:
            raise SchemaFault(
                f"topic {name} has {info.partitions} partitions, not {wanted[name].partitions}:"
                " keep the count, or start a new topic"
            )
