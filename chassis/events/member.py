"""One member of a consumer group on the embedded log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from chassis.clock import Timer
from chassis.errors import Fenced, StoreUnavailable
from chassis.events import groups
from chassis.events.log import Hook, Partition, Record

if TYPE_CHECKING:
    from chassis.events.embedded import EmbeddedLog

BEATS_A_SESSION = 8
POLL_S = 0.025


class EmbeddedConsumer:
    """The consumer port. Membership is brought up to date inside `consume` only; signs of life
    also go out between two calls, for as long as the event loop turns."""

    def __init__(self, log: EmbeddedLog, group: str, member: str, topics: frozenset[str]) -> None:
        self.on_assigned: Hook | None = None
        self.on_revoked: Hook | None = None
        self.on_lost: Hook | None = None
        self._log = log
        self._group = group
        self._member = member
        self._topics = topics
        self._owned: dict[Partition, int] = {}
        self._positions: dict[Partition, int] = {}
        self._generation = -1
        self._beat_s = log.session_s / BEATS_A_SESSION
        self._sync_at = 0.0
        self._timer: Timer | None = None
        self._turn = 0
        self._seen = -1
        self._closed = False

    def __repr__(self) -> str:
        owned = ", ".join(f"{topic}/{number}" for topic, number in sorted(self._owned))
        return f"EmbeddedConsumer({self._group} {self._member}: {owned or 'nothing'})"

    @property
    def assignment(self) -> frozenset[Partition]:
        return frozenset(self._owned)

    async def consume(self, limit: int, timeout_s: float) -> list[Record]:
        clock = self._log.clock
        until = clock.monotonic() + timeout_s
        fresh = True
        while True:
            fresh |= await self._keep_up()
            fresh |= self._changed()
            records = self._take(limit) if fresh else []
            left = until - clock.monotonic()
            if records or left <= 0:
                self._log.counts.consumed += len(records)
                return records
            fresh = False
            await self._log.pause(min(POLL_S, left))

    async def commit(self, positions: Mapping[Partition, int]) -> None:
        if positions:
            owned = {p: self._owned[p] for p in positions if p in self._owned}
            step = groups.commit
            await self._log.step(step, self._group, self._member, owned, dict(positions))

    async def committed(self) -> dict[Partition, int]:
        stored = self._log.look(groups.committed, self._group)
        return {p: position for p, position in stored.items() if p[0] in self._topics}

    async def seek(self, topic: str, partition: int, offset: int) -> None:
        if (topic, partition) not in self._owned:
            raise Fenced(f"{topic}/{partition} is not this member's in {self._group!r}")
        self._positions[topic, partition] = offset

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        try:
            await self._tell(self.on_revoked, frozenset(self._owned))
        finally:
            self._owned.clear()
            await self._log.step(groups.leave, self._group, self._member)

    def _changed(self) -> bool:
        """Whether anything was appended since this consumer last asked."""
        before, self._seen = self._seen, self._log.state()
        return before != self._seen

    def _take(self, limit: int) -> list[Record]:
        """Reads every owned partition in turn, a different one first each time."""
        order = sorted(self._positions.items())
        self._turn = (self._turn + 1) % max(1, len(order))
        records = self._log.read(order[self._turn :] + order[: self._turn], limit)
        for record in records:
            self._positions[record.topic, record.partition] = record.offset + 1
        return records

    async def _keep_up(self) -> bool:
        """Follows the group; True when the assignment may have changed."""
        now = self._log.clock.monotonic()
        current = self._log.look(groups.generation, self._group)
        if self._timer is not None and now < self._sync_at and current == self._generation:
            return False
        standing = await self._sync()
        self._log.counts.rebalances += standing.owned != self._owned
        self._sync_at = now + self._beat_s
        await self._lose(standing.owned)
        await self._gain(standing.owned)
        await self._revoke(standing.surplus)
        self._generation = standing.generation
        return True

    async def _sync(self) -> groups.Standing:
        if self._timer is None:
            self._timer = self._log.clock.call_later(self._beat_s, self._beat)
        counts = {topic: self._log.topic(topic).partitions for topic in self._topics}
        now, session_s = self._log.clock.now(), self._log.session_s
        return await self._log.step(
            groups.sync, self._group, self._member, self._topics, counts, now, session_s
        )

    async def _lose(self, owned: groups.Owned) -> None:
        lost = frozenset(p for p, claimed in self._owned.items() if owned.get(p) != claimed)
        self._drop(lost)
        await self._tell(self.on_lost, lost)

    async def _gain(self, owned: groups.Owned) -> None:
        gained = frozenset(owned.keys() - self._owned.keys())
        if not gained:
            return
        committed = self._log.look(groups.committed, self._group)
        for topic in {topic for topic, _ in gained}:
            for number, start in (await self._log.starts(topic)).items():
                if (topic, number) in gained:
                    at = (topic, number)
                    self._positions[at] = committed.get(at, start)
                    self._owned[at] = owned[at]
        try:
            await self._tell(self.on_assigned, gained)
        except BaseException:
            self._drop(gained)
            raise

    async def _revoke(self, surplus: frozenset[Partition]) -> None:
        if not surplus:
            return
        await self._tell(self.on_revoked, surplus)
        given = {p: self._owned[p] for p in surplus}
        self._drop(surplus)
        await self._log.step(groups.release, self._group, self._member, given)

    def _drop(self, partitions: frozenset[Partition]) -> None:
        for partition in partitions:
            self._owned.pop(partition, None)
            self._positions.pop(partition, None)

    async def _tell(self, hook: Hook | None, partitions: frozenset[Partition]) -> None:
        if hook is not None and partitions:
            await hook(partitions)

    def _beat(self) -> None:
        if self._closed:
            return
        now = self._log.clock.now()
        with suppress(StoreUnavailable):  # the next sync meets the same failure and raises it
            step = self._log.step(groups.beat, self._group, self._member, now)
            step.add_done_callback(asyncio.Future.exception)
        self._timer = self._log.clock.call_later(self._beat_s, self._beat)
