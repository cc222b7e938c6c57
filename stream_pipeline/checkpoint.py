"""The numbered steps of one group, in the order that makes its effects exactly once.

    1 consume    records, from where the sink's own frontier says
    2 decode     what cannot be is kept as a dead letter
    3 dedup      by the window of the session, itself a folded row
    4 fold       in memory, record by record with 3
    5 flush      rows under their offsets' versions; objects that only ever are created
    6 settle     the dead letters are acknowledged
    7 commit     the frontier, then the group's offsets, which are only a hint

A crash after any of them repeats what follows the frontier: rows skip versions they have, and
objects that exist are left alone. Nothing is lost because 7 comes last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from chassis.clock import Clock
from chassis.errors import StagedoorError
from chassis.events import Consumer, Log, Record
from chassis.events.log import Partition
from stream_pipeline.dead_letter import DeadLetters
from stream_pipeline.measures import GroupMeasures
from stream_pipeline.operators.decode import Decoded, Undecodable, decode
from stream_pipeline.sinks import Positions, Sink
from stream_pipeline.source import Source

REVOKE_S = 3.0

Step = Callable[[int], None]


def _go_on(step: int) -> None:
    """Nothing happens after a step."""


class Checkpoint:
    """One member of a group. `dead_letters` None keeps undecodable records in the sink itself.

    `after` is called with the number of each step once it is done: tests crash there.
    """

    def __init__(
        self,
        log: Log,
        consumer: Consumer,
        sink: Sink,
        dead_letters: DeadLetters | None,
        measures: GroupMeasures,
        clock: Clock,
        after: Step = _go_on,
    ) -> None:
        self._log = log
        self._consumer = consumer
        self._sink = sink
        self._dead_letters = dead_letters
        self._measures = measures
        self._clock = clock
        self._after = after
        self._sources: dict[Partition, Source] = {}
        self._flushed: Positions = {}
        consumer.on_assigned = self._assigned
        consumer.on_revoked = self._revoked
        consumer.on_lost = self._lost

    async def take(self, limit: int, timeout_s: float) -> int:
        """Steps 1 to 4 for the next records; how many there were. After a failure: `restart`."""
        wait_s = max(0.0, min(timeout_s, self._sink.due(self._clock.monotonic())))
        records = await self._consumer.consume(limit, wait_s)
        self._after(1)
        if not records:
            return 0
        pairs = [(record, self._decode(record)) for record in records]
        self._after(2)
        await self._read_ahead(pairs)
        for record, decoded in pairs:
            await self._fold(record, decoded)
            if record is records[0]:
                self._after(3)
        self._after(4)
        return len(records)

    def due(self) -> bool:
        """Whether `finish` has something to do."""
        return bool(self._flushed) or self._sink.due(self._clock.monotonic()) <= 0

    async def finish(self, *, everything: bool = False) -> None:
        """Steps 5 to 7. After a failure: repeat it, or `restart`."""
        self._flushed |= await self._timed_flush(everything)
        self._after(5)
        if self._dead_letters is not None:
            await self._dead_letters.settle()
        self._after(6)
        if self._flushed:
            await self._sink.remember(self._flushed)
            offsets = {(s.topic, s.partition): at for s, at in self._flushed.items()}
            await self._consumer.commit(offsets)
            self._measures.visible(self._flushed, self._clock.now())
            self._flushed = {}
        self._after(7)

    async def restart(self) -> None:
        """Drops what is not durable and reads on from the sink's frontier."""
        self._forget()
        await self._seek(self._consumer.assignment)

    async def lag(self) -> dict[str, int]:
        """Records in the log that this member has not taken yet, by topic."""
        behind: dict[str, int] = {}
        for topic in {topic for topic, _ in self._sources}:
            ends = await self._log.ends(topic)
            for partition, position in self._measures.positions(topic).items():
                behind[topic] = behind.get(topic, 0) + max(0, ends.get(partition, 0) - position)
        return behind

    async def close(self) -> None:
        """Finishes what was taken, then leaves the group."""
        await self._consumer.close()

    async def _read_ahead(self, pairs: Sequence[tuple[Record, Decoded | None]]) -> None:
        batch = [(self._sources[record.topic, record.partition], one) for record, one in pairs]
        try:
            await self._sink.read_ahead(batch)
        except StagedoorError:
            raise
        except Exception:  # the record that breaks it is told when it is folded
            pass

    async def _fold(self, record: Record, decoded: Decoded | None) -> None:
        source = self._sources[record.topic, record.partition]
        try:
            verdict = await self._sink.take(source, record, decoded)
        except StagedoorError:
            raise
        except Exception as fault:  # a record that breaks a fold must not stop its partition
            if self._dead_letters is None:
                raise
            self._dead_letters.add(record, Undecodable(repr(fault), code="fold"))
            return
        self._measures.taken(source, record, decoded, verdict)

    def _decode(self, record: Record) -> Decoded | None:
        try:
            return decode(record)
        except Undecodable as fault:
            if self._dead_letters is not None:
                self._dead_letters.add(record, fault)
            return None

    async def _timed_flush(self, everything: bool) -> Positions:
        began = self._clock.monotonic()
        try:
            flushed = await self._sink.flush(began, everything=everything)
        except StagedoorError:
            self._measures.failed()
            raise
        if flushed:
            self._measures.flushed(self._clock.monotonic() - began)
        return flushed

    async def _assigned(self, partitions: frozenset[Partition]) -> None:
        for topic in {topic for topic, _ in partitions}:
            epoch = await self._log.epoch(topic)
            for one in partitions:
                if one[0] == topic:
                    self._sources[one] = Source(topic, one[1], epoch)
        await self._seek(partitions)

    async def _revoked(self, partitions: frozenset[Partition]) -> None:
        try:
            async with asyncio.timeout(REVOKE_S):
                await self.finish(everything=True)
        except (StagedoorError, TimeoutError):
            self._forget()
            await self._seek(self._consumer.assignment)
        self._leave(partitions)

    async def _lost(self, partitions: frozenset[Partition]) -> None:
        self._leave(partitions)
        await self.restart()

    async def _seek(self, partitions: frozenset[Partition]) -> None:
        sources = [self._sources[one] for one in sorted(partitions)]
        known = await self._sink.resume(sources)
        self._flushed |= known  # the hint may be older: a crash can come between the two
        for source in sources:
            at = known.get(source)
            if at is None:
                at = (await self._log.starts(source.topic))[source.partition]
            await self._consumer.seek(source.topic, source.partition, at)
            self._measures.at(source, at)

    def _leave(self, partitions: frozenset[Partition]) -> None:
        for one in partitions:
            source = self._sources.pop(one, None)
            if source is not None:
                self._measures.left(source)
                self._flushed.pop(source, None)

    def _forget(self) -> None:
        self._sink.forget()
        self._flushed = {}
        if self._dead_letters is not None:
            self._dead_letters.forget()
