"""The embedded log: topics in SQLite files under one folder, shared by any number of processes.

Producers of a process share commits (and fsyncs) in one thread; reading runs inline on the loop.
`records.db` holds the records and `groups.db` the consumer groups.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from chassis.clock import SYSTEM, Clock
from chassis.disk.commit import GroupCommit
from chassis.disk.files import path_of
from chassis.disk.sqlite import (
    Operation,
    commit_together,
    connect,
    transaction,
    translated,
)
from chassis.errors import Missing, StagedoorError
from chassis.events import groups, records
from chassis.events.batches import Parcel, check_size, pack
from chassis.events.log import LogCounts, Message, Partition, Record, Topic
from chassis.events.member import EmbeddedConsumer
from chassis.events.partition import murmur2

T = TypeVar("T")

TRIM_EVERY_S = 10.0
_PAGE_SIZE = 16384
_KEYS_KNOWN = 1 << 16


class EmbeddedLog:
    """The log port on SQLite. Make it after forking, use it from one event loop.

    A member of a group that is silent for `session_s` loses its partitions.
    """

    def __init__(self, folder: Path, clock: Clock = SYSTEM, *, session_s: float = 5.0) -> None:
        self.clock = clock
        self.counts = LogCounts()
        self.session_s = session_s
        self._records = folder / "records.db"
        self._groups = folder / "groups.db"
        self._connections: list[sqlite3.Connection] = []
        self._writer = self._connect(self._records, records.SCHEMA)
        self._reader = self._connect(self._records)
        self._groups_writer = self._connect(self._groups, groups.SCHEMA)
        self._groups_reader = self._connect(self._groups)
        self._produces: GroupCommit[Parcel, dict[Partition, int]] = GroupCommit(
            f"log {folder.name}", self._append
        )
        self._steps: GroupCommit[Operation, Any] = GroupCommit(
            f"groups {folder.name}", partial(commit_together, self._groups_writer, self._groups)
        )
        self._topics: dict[str, records.TopicInfo] = {}
        self._hash = lru_cache(_KEYS_KNOWN)(murmur2)
        self._trim_at = clock.monotonic()
        self._watchers: set[asyncio.Future[None]] = set()

    @classmethod
    def open(cls, url: str, clock: Clock = SYSTEM) -> EmbeddedLog:
        return cls(path_of(url, what="the log URL", example="log:///var/lib/events"), clock)

    def __repr__(self) -> str:
        return f"EmbeddedLog({self._records.parent})"

    async def ensure(self, *topics: Topic) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._ensure, topics)

    async def produce(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        if not messages:
            return []
        for message in messages:
            check_size(message)
        parcel = pack(messages, self._place)
        try:
            bases = await self._produces.submit(parcel)
        except StagedoorError:
            self.counts.produce_failures += len(messages)
            raise
        self.counts.produced += len(messages)
        self._wake()
        return parcel.positions(bases)

    def consumer(self, group: str, topics: Sequence[str]) -> EmbeddedConsumer:
        member = f"{os.getpid()}-{self.clock.entropy(6).hex()}"
        return EmbeddedConsumer(self, group, member, frozenset(topics))

    async def starts(self, topic: str) -> dict[int, int]:
        return {partition: start for partition, (start, _) in self._heads(topic).items()}

    async def ends(self, topic: str) -> dict[int, int]:
        return {partition: end for partition, (_, end) in self._heads(topic).items()}

    async def epoch(self, topic: str) -> int:
        return self.topic(topic).epoch

    async def close(self) -> None:
        await self._produces.close()
        await self._steps.close()
        while self._connections:
            self._connections.pop().close()

    def topic(self, name: str) -> records.TopicInfo:
        """What is known of a topic; `Missing` when nobody has ensured it."""
        if name not in self._topics:
            self._topics = self._read(lambda: records.topics(self._reader))
        if name not in self._topics:
            raise Missing(f"there is no topic {name!r}: ensure() it first")
        return self._topics[name]

    def read(self, positions: Sequence[tuple[Partition, int]], limit: int) -> list[Record]:
        return self._read(lambda: self._snapshot(positions, limit))

    def state(self) -> int:
        """A number that is another one after anything was appended, by any process."""
        found: int = self._read(lambda: self._reader.execute("PRAGMA data_version").fetchone()[0])
        return found

    async def pause(self, seconds: float) -> None:
        """Returns after `seconds`, or when this process has produced something."""
        woken = asyncio.get_running_loop().create_future()
        timer = self.clock.call_later(seconds, _set, woken)
        self._watchers.add(woken)
        try:
            await woken
        finally:
            timer.cancel()
            self._watchers.discard(woken)

    def step(self, operation: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """One step on the groups, `operation(connection, *args)`, in its thread."""
        return self._steps.submit(lambda connection: operation(connection, *args))

    def look(self, operation: Callable[..., T], *args: Any) -> T:
        """One look at the groups, inline."""
        return self._read(lambda: operation(self._groups_reader, *args))

    def _connect(self, path: Path, schema: str = "") -> sqlite3.Connection:
        connection = connect(path, writes=bool(schema), page_size=_PAGE_SIZE)
        self._connections.append(connection)
        try:
            connection.executescript(schema)
        except sqlite3.Error as fault:
            raise translated(fault, path) from fault
        return connection

    def _ensure(self, topics: Sequence[Topic]) -> None:
        connection = connect(self._records, writes=True)
        try:
            with transaction(connection):
                records.ensure(connection, topics, self.clock.now())
        except Exception as fault:
            raise translated(fault, self._records) from fault
        finally:
            connection.close()

    def _append(self, parcels: list[Parcel]) -> list[dict[Partition, int]]:
        try:
            with transaction(self._writer):
                bases = records.append(self._writer, parcels, round(self.clock.now() * 1000))
                self._trim()
                return bases
        except Exception as fault:
            raise translated(fault, self._records) from fault

    def _trim(self) -> None:
        if self.clock.monotonic() >= self._trim_at:
            self._trim_at = self.clock.monotonic() + TRIM_EVERY_S
            records.trim(self._writer, self.clock.now())

    def _place(self, topic: str, key: bytes) -> int:
        return (self._hash(key) & 0x7FFFFFFF) % self.topic(topic).partitions

    def _heads(self, topic: str) -> records.Heads:
        self.topic(topic)
        return self._read(lambda: records.heads(self._reader, topic))

    def _snapshot(self, positions: Sequence[tuple[Partition, int]], limit: int) -> list[Record]:
        self._reader.execute("BEGIN")
        try:
            return records.read(self._reader, positions, limit)
        finally:
            self._reader.execute("COMMIT")

    def _read(self, look: Callable[[], T]) -> T:
        try:
            return look()
        except sqlite3.Error as fault:
            raise translated(fault, self._records) from fault

    def _wake(self) -> None:
        for woken in self._watchers:
            _set(woken)


def _set(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
