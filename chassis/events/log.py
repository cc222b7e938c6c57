"""The log port: partitioned topics, offsets, and consumer groups.

A partition is an ordered run of records; a key always goes to the same partition (murmur2 of the
key modulo the partition count, as Kafka's Java client does it). Positions are the offset to read
next, as in Kafka: after handling offset 41, commit 42.

Membership is cooperative. A partition belongs to one live member of the group at a time, under a
generation that grows with every change of owner; a commit under an earlier generation is
`Fenced`. A consumer's hooks run inside `consume`, so that nothing happens between two calls:

- `on_revoked(partitions)`: still owned; flush and commit now, they go when it returns.
- `on_assigned(partitions)`: owned from now on; `seek` here to override the committed position.
- `on_lost(partitions)`: already somebody else's; drop their work, commit nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from chassis.clock import SYSTEM, Clock
from chassis.errors import ConfigurationFault

Partition = tuple[str, int]
Hook = Callable[[frozenset[Partition]], Awaitable[None]]

MESSAGE_LIMIT = 1_000_000
"""Bytes of key, value and headers together; what a Kafka broker accepts unless told otherwise."""


class Topic(msgspec.Struct, frozen=True):
    """`retention_s` None keeps everything. The partition count never changes."""

    name: str
    partitions: int = 8
    retention_s: float | None = None


class Message(msgspec.Struct, frozen=True):
    """What is produced."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Record(msgspec.Struct, frozen=True, gc=False):
    """A message at a position. `timestamp_ms` is when the log took it, UNIX milliseconds."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int


class LogCounts(msgspec.Struct):
    """Counts of one opening of a log, for metrics. `rebalances` are changes of an assignment."""

    produced: int = 0
    produce_failures: int = 0
    consumed: int = 0
    rebalances: int = 0


class Consumer(Protocol):
    """One member of a group. Used by one task; it joins at its first `consume`."""

    on_assigned: Hook | None
    on_revoked: Hook | None
    on_lost: Hook | None

    @property
    def assignment(self) -> frozenset[Partition]: ...

    async def consume(self, limit: int, timeout_s: float) -> list[Record]:
        """Up to `limit` records, as soon as there are any; none when the timeout passes first.

        Reading starts at the committed position, else at the oldest record. `OutOfRange` when a
        position is no longer, or not yet, in the log: never skipped silently.
        """
        ...

    async def commit(self, positions: Mapping[Partition, int]) -> None:
        """Stores the next offset of each; `Fenced`, storing none, unless all are owned."""
        ...

    async def committed(self) -> dict[Partition, int]:
        """The group's stored positions of the subscribed topics, whoever owns them."""
        ...

    async def seek(self, topic: str, partition: int, offset: int) -> None:
        """Reads an owned partition from `offset` on; `Fenced` when it is not owned."""
        ...

    async def close(self) -> None:
        """Revokes everything, leaves the group."""
        ...


class Log(Protocol):
    """Topics. Every method raises `StoreUnavailable` when the log cannot do it now."""

    @property
    def counts(self) -> LogCounts: ...

    async def ensure(self, *topics: Topic) -> None:
        """Creates what is missing; `SchemaFault` when a topic has another partition count."""
        ...

    async def produce(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        """Appends; the (partition, offset) of each once all are durable.

        Messages of one partition keep their order. `Missing` for an unknown topic and
        `Unprocessable` beyond `MESSAGE_LIMIT`, appending none. After another failure, or when the
        caller is cancelled, any of them may have been appended.
        """
        ...

    def consumer(self, group: str, topics: Sequence[str]) -> Consumer: ...

    async def starts(self, topic: str) -> dict[int, int]:
        """The oldest offset still held, for each partition."""
        ...

    async def ends(self, topic: str) -> dict[int, int]:
        """The offset that the next record of each partition will have."""
        ...

    async def epoch(self, topic: str) -> int:
        """When the topic's life began, UNIX microseconds: its identity.

        A topic made anew, which is the only way to another partition count, has a higher one, so
        `epoch + offset` only rises within a partition.
        """
        ...

    async def close(self) -> None:
        """Finishes what was produced, then lets go of everything."""
        ...


def open_log(url: str, clock: Clock = SYSTEM) -> Log:
    """The adapter that `url` names: `log:///absolute/folder` or `kafka://host:port`."""
    scheme = url.partition("://")[0]
    if scheme == "log":
        from chassis.events.embedded import EmbeddedLog

        return EmbeddedLog.open(url, clock)
    if scheme in ("kafka", "kafkas"):
        from chassis.events.kafka import KafkaLog

        return KafkaLog.open(url, clock)
    raise ConfigurationFault(
        ["unknown scheme; write log:///absolute/folder or kafka://host:port"], what="the log URL"
    )
