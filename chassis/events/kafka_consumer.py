"""One member of a consumer group on Kafka: the port's side, on the event loop.

A poll runs in the driver's thread for at most `SLICE_S`. One whose caller was cancelled goes on,
and what it brought is handed out by the next `consume`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from confluent_kafka import OFFSET_BEGINNING, KafkaException

from chassis.deadline import Deadline
from chassis.errors import Fenced, OutOfRange, StagedoorError, StoreUnavailable
from chassis.events.kafka_faults import Complaints, is_passing, translated, unavailable
from chassis.events.kafka_member import Member, Partitions, Polled
from chassis.events.kafka_thread import DriverThread, Question
from chassis.events.log import Hook, Partition, Record

if TYPE_CHECKING:
    from chassis.events.kafka import KafkaLog

T = TypeVar("T")

SLICE_S = 0.1
REVOKE_S = 60.0
"""How long a revocation waits for its hook; then the member leaves the group, and all of its
partitions count as lost. It joins again once the hook has returned."""

_AGAIN_S = 0.05
_NONE: frozenset[Partition] = frozenset()


class KafkaConsumer:
    """The consumer port. Its thread starts with the first call."""

    def __init__(
        self, log: KafkaLog, group: str, topics: Sequence[str], *, revoke_s: float = REVOKE_S
    ) -> None:
        self.on_assigned: Hook | None = None
        self.on_revoked: Hook | None = None
        self.on_lost: Hook | None = None
        self._log = log
        self._group = group
        self._topics = tuple(dict.fromkeys(topics))
        self._revoke_s = revoke_s
        self._owned: set[Partition] = set()
        self._granted: set[Partition] = set()
        self._lost: set[Partition] = set()
        self._moves: dict[Partition, int] = {}
        self._outside: dict[Partition, int] = {}
        self._ready: list[Record] = []
        self._stale: set[Partition] = set()
        self._poll: asyncio.Future[Polled] | None = None
        self._asked: tuple[Question, Partitions] | None = None
        self._bell = asyncio.Event()
        self._member: Member | None = None
        self._complaints = Complaints()
        self._thread = DriverThread(f"kafka group {group}")
        self._closing = self._closed = False
        self._leaving: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        owned = ", ".join(f"{topic}/{number}" for topic, number in sorted(self._owned))
        return f"KafkaConsumer({self._group}: {owned or 'nothing'})"

    @property
    def assignment(self) -> frozenset[Partition]:
        return frozenset(self._owned)

    async def consume(self, limit: int, timeout_s: float) -> list[Record]:
        deadline = Deadline.after(self._log.clock, timeout_s)
        await self._open()
        while True:
            await self._follow()
            await self._complain()
            left = deadline.remaining()
            if not self._ready:
                self._accept(await self._polled(limit, max(0.0, min(SLICE_S, left))))
            records, self._ready = self._ready[:limit], self._ready[limit:]
            if records or (left <= 0 and not self._outside):
                self._log.counts.consumed += len(records)
                return records

    async def commit(self, positions: Mapping[Partition, int]) -> None:
        foreign = positions.keys() - self._owned
        if foreign:
            topic, number = min(foreign)
            raise Fenced(f"{topic}/{number} is not this member's in {self._group!r}")
        if positions:
            member = await self._open()
            await self._asking(lambda: member.commit(positions), "committing")

    async def committed(self) -> dict[Partition, int]:
        member = await self._open()
        places = [
            (topic, number)
            for topic in self._topics
            for number in range(await self._log.partitions(topic))
        ]
        return await self._asking(lambda: member.committed(places), "reading what was committed")

    async def seek(self, topic: str, partition: int, offset: int) -> None:
        place = (topic, partition)
        if place not in self._owned:
            raise Fenced(f"{topic}/{partition} is not this member's in {self._group!r}")
        self._outside.pop(place, None)
        self._moves.pop(place, None)
        self._drop_read({place})
        if offset < 0:
            self._outside[place] = offset  # the driver has meanings of its own for these
        else:
            self._moves[place] = offset

    async def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        try:
            await self._tell(self.on_revoked, self.assignment)
        finally:
            await self.leave()

    async def leave(self) -> None:
        """Leaves the group and lets go of everything; no hook hears of it.

        It is done once, and to its end also when the caller is cancelled.
        """
        if self._leaving is None:
            self._closing = self._closed = True
            self._owned.clear()
            if self._asked is not None:
                self._thread.answer(self._asked[0])
            self._leaving = asyncio.ensure_future(self._leave())
        await asyncio.shield(self._leaving)

    async def _leave(self) -> None:
        try:
            with suppress(TimeoutError, KafkaException):
                async with asyncio.timeout(self._log.cluster.options.wait_s):
                    await self._end()
        finally:
            self._thread.close()
            self._log.left(self)

    async def _end(self) -> None:
        if self._poll is not None:
            await asyncio.wait((self._poll,))
        if self._member is not None:
            await self._thread.call(self._member.close)

    async def _open(self) -> Member:
        if self._closed:
            raise StoreUnavailable(f"this consumer of {self._group!r} is closed")
        if self._member is None:
            for topic in self._topics:
                await self._log.partitions(topic)
        if self._member is None:
            self._complaints.forget()
            revoke, complain = self._asker(), self._complaints.note
            self._member = Member(self._log.cluster, self._group, self._topics, revoke, complain)
        return self._member

    async def _polled(self, limit: int, timeout_s: float) -> Polled:
        """One poll's findings; revocations are answered while it runs."""
        if self._poll is None:
            member = await self._open()
            moves, self._moves = self._moves, {}
            self._stale = set()
            self._poll = self._thread.call(lambda: member.poll(moves, limit, timeout_s))
            self._poll.add_done_callback(lambda _: self._bell.set())
        while not self._poll.done():
            self._bell.clear()
            if self._asked is not None:
                await self._revoke(self._poll, *self._asked)
            else:
                await self._bell.wait()
        poll, self._poll, self._asked = self._poll, None, None
        return poll.result()

    def _accept(self, polled: Polled) -> None:
        """Takes over what a poll found."""
        self._log.counts.rebalances += polled.rebalances
        self._lost |= polled.lost
        self._granted -= polled.lost
        self._granted |= polled.granted
        self._moves = {**polled.unmoved, **self._moves}
        self._outside |= {p: at for p, at in polled.outside.items() if p not in self._stale}
        if self._stale:
            fresh = [r for r in polled.records if (r.topic, r.partition) not in self._stale]
            polled.records = fresh
        self._ready = polled.records
        if polled.records:
            self._complaints.forget()
        elif polled.faults:
            raise self._translated(polled.faults[0], "consuming")

    async def _follow(self) -> None:
        """Tells the hooks of what has come and gone."""
        if self._lost:
            lost, self._lost = frozenset(self._lost), set()
            gone = lost & self._owned
            self._drop(lost)
            await self._tell(self.on_lost, gone)
        if self._granted:
            await self._gain(frozenset(self._granted))

    async def _gain(self, gained: frozenset[Partition]) -> None:
        committed = await self.committed()
        for place in gained:
            self._moves[place] = committed.get(place, OFFSET_BEGINNING)
        self._owned |= gained
        try:
            await self._tell(self.on_assigned, gained)
        except BaseException:
            self._drop(gained)
            raise
        self._granted -= gained

    async def _revoke(
        self, poll: asyncio.Future[Polled], question: Question, asked: Partitions
    ) -> None:
        await self._tell(self.on_revoked, asked & self._owned)
        if poll.done():
            return  # too late: it says that they are lost
        self._asked = None
        self._drop(asked)
        self._granted -= asked
        self._thread.answer(question)

    def _drop(self, partitions: Iterable[Partition]) -> None:
        partitions = frozenset(partitions)
        self._owned -= partitions
        self._drop_read(partitions)
        for place in partitions:
            self._moves.pop(place, None)
            self._outside.pop(place, None)

    def _drop_read(self, partitions: Iterable[Partition]) -> None:
        """What was read ahead of these is not handed out."""
        gone = frozenset(partitions)
        self._stale |= gone
        if self._ready:
            self._ready = [r for r in self._ready if (r.topic, r.partition) not in gone]

    async def _complain(self) -> None:
        """Raises what stands in the way of reading on."""
        for (topic, number), offset in self._outside.items():
            start = (await self._log.starts(topic))[number]
            end = (await self._log.ends(topic))[number]
            raise OutOfRange(
                f"{topic}/{number}: offset {offset} is outside {start}..{end}; records were"
                " lost to retention, or the log was made anew"
            )
        error = self._complaints.refused or self._complaints.away
        if error is not None:
            self._complaints.away = None
            if error is self._complaints.refused:
                raise self._translated(KafkaException(error), "consuming")
            raise unavailable(self._log.cluster, "consuming", error, self._complaints)

    async def _asking(self, operation: Callable[[], T], doing: str) -> T:
        """Asks the group's coordinator, again while the failure is a passing one."""
        options = self._log.cluster.options
        deadline = Deadline.after(self._log.clock, options.wait_s)
        while True:
            try:
                async with asyncio.timeout(max(0.0, deadline.remaining())):
                    found: T = await self._thread.call(operation)
                    return found
            except TimeoutError:
                raise StoreUnavailable(
                    f"{self._log.cluster}: {doing}: no answer within {options.wait_s} s"
                ) from None
            except KafkaException as fault:
                if not is_passing(fault) or deadline.expired():
                    raise self._translated(fault, doing) from fault
            await self._log.clock.sleep(_AGAIN_S)

    def _translated(self, fault: KafkaException, doing: str) -> StagedoorError:
        group = f"{doing} in {self._group!r}"
        return translated(fault, self._log.cluster, group, self._complaints)

    def _asker(self) -> Callable[[Partitions], bool]:
        """What the thread calls to have partitions revoked; False when nobody did in time."""
        loop = asyncio.get_running_loop()

        def ask(partitions: Partitions) -> bool:
            question = Question()
            with suppress(RuntimeError):  # the loop has gone
                loop.call_soon_threadsafe(self._hear, question, partitions)
            return self._thread.serve(question, self._revoke_s)

        return ask

    def _hear(self, question: Question, partitions: Partitions) -> None:
        if self._closed:
            self._thread.answer(question)
        else:
            self._asked = question, partitions
            self._bell.set()

    async def _tell(self, hook: Hook | None, partitions: frozenset[Partition]) -> None:
        if hook is not None and partitions:
            await hook(partitions)
