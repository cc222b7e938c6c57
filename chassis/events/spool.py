"""The spool: events are durable here before anybody is told so, and reach the log in order.

An accepted event survives `kill -9` at any instant. Delivery is at least once: a crash between
delivering and noting it repeats some, with the same event id.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from chassis.clock import SYSTEM, Clock, Timer
from chassis.contracts.events import CONTENT_TYPE, Envelope
from chassis.deadline import Deadline
from chassis.disk.commit import GroupCommit
from chassis.disk.files import FolderLock, make_folder
from chassis.errors import Faulty, Shed, StagedoorError, StoreUnavailable
from chassis.events.batches import check_size
from chassis.events.framing import FRAME_LIMIT, pack_message, unframe, unpack_message
from chassis.events.log import Log, Message, Topic
from chassis.events.segments import Segments

CAPACITY_BYTES = 256 << 20
_SEGMENT_BYTES = 8 << 20
_UNWRITTEN_BYTES = 16 << 20
_CHUNK_BYTES = 512 << 10
_BATCH = 400  # about a millisecond of the loop's time
_GATHER_S = 0.05  # so that events that are offered one by one share an fsync
_LINGER_S = 0.05  # so that events that come one by one share a delivery
_BACKOFF_S = 0.05
_BACKOFF_LIMIT_S = 2.0
_HEADERS = (("content-type", CONTENT_TYPE.encode()),)
_encode = msgspec.json.Encoder().encode
_PASSING = re.compile(r"\(.*\)|[0-9]+")
"""What differs between two tellings of one fault: counts, times, and a driver's last complaint."""

Say = Callable[..., Any]


def _nobody(event: str, **fields: Any) -> None:
    pass


class Spool:
    """One process's spool in a folder of its own. Make it after forking.

    Counts of events, for metrics: `offered` were given to us; of these `spooled` became durable,
    `acked` were also answered for, `dropped` were refused or failed to be written. `delivered`
    went to the log, and `waiting` are durable and still to go, including those found on opening.
    `fault` is why the log does not take them now, or None; `say` hears of it whenever it changes.
    After a fault it makes sure of `topics` again, as somebody may have deleted them.
    """

    def __init__(
        self,
        directory: Path,
        log: Log,
        clock: Clock = SYSTEM,
        capacity_bytes: int = CAPACITY_BYTES,
        *,
        topics: Sequence[Topic] = (),
        say: Say = _nobody,
    ) -> None:
        make_folder(directory)
        self._lock = FolderLock(directory, what="the event spool")
        self._log = log
        self._clock = clock
        self._capacity = capacity_bytes
        self._topics = topics
        self._say = say
        try:
            self._segments = Segments(directory, min(_SEGMENT_BYTES, max(1, capacity_bytes // 8)))
        except StagedoorError:
            self._lock.release()
            raise
        self._writer: GroupCommit[bytes, None] = GroupCommit(
            f"spool {directory.name}", self._segments.write
        )
        self._offers: list[bytes] = []
        self._timer: Timer | None = None
        self._unwritten = 0
        self._running = False
        self._closed = False
        self._changed = asyncio.Event()
        self._progress = asyncio.Event()
        self.offered = self.acked = self.spooled = self.dropped = self.delivered = 0
        self.waiting = self._segments.waiting
        self.fault: StagedoorError | None = None
        self._told = ""

    def __repr__(self) -> str:
        return f"Spool({self._segments.folder}: {self.waiting} waiting, {self.used_bytes} bytes)"

    @property
    def used_bytes(self) -> int:
        """Bytes on disk, or on their way there."""
        return self._segments.size + self._unwritten

    @property
    def damaged_bytes(self) -> int:
        """Bytes found damaged on opening, kept in `*.damaged` files."""
        return self._segments.damaged_bytes

    async def append(self, topic: str, envelopes: Sequence[Envelope]) -> None:
        """Returns once all are on disk. `Shed` at the disk cap, `StoreUnavailable` when the disk
        refuses; then none was kept. A caller that is cancelled does not know."""
        if envelopes:
            data = self._take(topic, envelopes)
            self._write_offered()
            await asyncio.shield(self._write([data], len(envelopes)))
            self.acked += len(envelopes)

    def offer(self, topic: str, envelope: Envelope) -> bool:
        """Spools without waiting, together with what is offered within 50 ms; False when it had to
        be dropped already. Never raises for it."""
        try:
            self._offers.append(self._take(topic, (envelope,)))
        except StagedoorError:
            return False
        if self._timer is None:
            self._timer = self._clock.call_later(_GATHER_S, self._write_offered)
        return True

    async def run(self) -> None:
        """Delivers to the log until cancelled, waiting longer each time the log refuses."""
        if self._running:
            raise Faulty("the spool is running already")
        self._running = True
        try:
            while True:
                await self._deliver_patiently()
        finally:
            self._running = False

    async def drain(self, deadline: Deadline) -> bool:
        """Waits for `run` to deliver everything; False when the deadline passes first."""
        self._write_offered()
        timer = self._clock.call_later(_wait_s(deadline), self._progress.set)
        try:
            while (self.waiting or self._unwritten) and not deadline.expired():
                self._progress.clear()
                await self._progress.wait()
        finally:
            timer.cancel()
        return not (self.waiting or self._unwritten)

    async def close(self) -> None:
        """Writes what was offered, then lets go of the folder. Stop `run` before."""
        if self._closed:
            return
        self._write_offered()
        self._closed = True
        await self._writer.close()
        self._segments.close()
        self._lock.release()

    def _take(self, topic: str, envelopes: Sequence[Envelope]) -> bytes:
        """What there is to write, for which there is room; its bytes count from here on."""
        self.offered += len(envelopes)
        try:
            if self._closed:
                raise StoreUnavailable(f"the event spool {self._segments.folder} is closed")
            data = b"".join([_packed(topic, envelope) for envelope in envelopes])
            self._check_room(len(data))
        except StagedoorError:
            self.dropped += len(envelopes)
            raise
        self._unwritten += len(data)
        return data

    def _write_offered(self) -> None:
        """One write, and one fsync, for all that was offered since the last."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        offers, self._offers = self._offers, []
        if offers:
            self._write(offers, len(offers))

    def _write(self, data: Sequence[bytes], count: int) -> asyncio.Future[None]:
        """A future that the books are kept by: shield it from a caller that may cancel."""
        size = sum(map(len, data))

        def settle(done: asyncio.Future[None]) -> None:
            self._unwritten -= size
            if done.exception() is None:
                self._note_written(count)
            else:
                self.dropped += count
            self._progress.set()

        written = self._writer.submit(b"".join(data))
        written.add_done_callback(settle)
        return written

    def _note_written(self, count: int) -> None:
        self.spooled += count
        self.waiting += count
        self._changed.set()

    def _check_room(self, size: int) -> None:
        used = self.used_bytes
        if used + size > self._capacity:
            raise Shed(
                f"the event spool {self._segments.folder} is full: {used} of"
                f" {self._capacity} bytes wait for the log; bring the log back or raise the cap",
                code="spool_full",
                retry_after_s=5.0,
            )
        if self._unwritten + size > _UNWRITTEN_BYTES:
            raise Shed("the spool's disk does not keep up", code="spool_slow", retry_after_s=1.0)

    async def _deliver_patiently(self) -> None:
        backoff = _BACKOFF_S
        while True:
            self._changed.clear()
            try:
                moved = await self._deliver()
            except StagedoorError as fault:
                self._note(fault)
                await self._clock.sleep(backoff * (0.5 + self._clock.random()))
                backoff = min(_BACKOFF_LIMIT_S, backoff * 2)
                continue
            self._note(None)
            if not moved:
                await self._changed.wait()
                await self._clock.sleep(_LINGER_S)
            return

    async def _deliver(self) -> int:
        """Moves one batch; the number of events in it."""
        messages, size = self._next_batch()
        if not messages:
            return 0
        if self.fault is not None and self._topics:
            await self._log.ensure(*self._topics)
        await self._log.produce(messages)
        self._segments.advance(size)
        self.waiting -= len(messages)
        self.delivered += len(messages)
        self._progress.set()
        return len(messages)

    def _note(self, fault: StagedoorError | None) -> None:
        """Tells why the log takes nothing when that is another reason, and when it takes some."""
        self.fault = fault
        gist = f"{fault.code} {_PASSING.sub('', str(fault))}" if fault else ""
        if gist == self._told:
            return
        self._told = gist
        if fault:
            self._say("log_refuses", why=str(fault), waiting=self.waiting)
        else:
            self._say("log_takes_again", waiting=self.waiting)

    def _next_batch(self) -> tuple[list[Message], int]:
        for size in (_CHUNK_BYTES, FRAME_LIMIT):
            data = self._segments.pending(size)
            payloads, end = unframe(data, _BATCH)
            if payloads or not data:
                return [unpack_message(payload) for payload in payloads], end
        raise StoreUnavailable(f"{self._segments.folder}: a segment was damaged: check the disk")


def _packed(topic: str, envelope: Envelope) -> bytes:
    message = Message(topic, envelope.partitionkey.encode(), _encode(envelope), _HEADERS)
    check_size(message)
    return pack_message(message)


def _wait_s(deadline: Deadline) -> float:
    return min(86400.0, max(0.0, deadline.remaining()))
