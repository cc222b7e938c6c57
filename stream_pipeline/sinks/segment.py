"""What the next object of one source's chain will hold, and how its key is written. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from zlib import crc32

import msgspec

from chassis.events import Record
from stream_pipeline.operators.decode import Decoded, identity
from stream_pipeline.operators.dedup import Verdict, observe
from stream_pipeline.source import Source

HOUR_MS = 3_600_000
RECORD_OVERHEAD = 64
SESSIONS_KEPT = 2_000
SILENCE_MS = 15 * 60 * 1000

Window = tuple[int, int, int]  # last sequence number, 64 bits below it, when last heard (ms)


class Footer(msgspec.Struct, frozen=True, kw_only=True):
    """What an object says of itself. It holds the records of [start, end) but for duplicates.

    `crc32` runs over the values in order. `windows` is the deduplication state at `end`, which
    whoever extends the chain goes on with.
    """

    topic: str
    partition: int
    epoch: int
    start: int
    end: int
    count: int
    duplicates: int
    crc32: int
    first_ms: int | None
    last_ms: int | None
    windows: dict[str, Window] = {}


class Limits(msgspec.Struct, frozen=True):
    """When an object is full. `roll_s` counts from its first record."""

    roll_bytes: int = 64 << 20
    roll_records: int = 1_000_000
    roll_s: float = 300.0


class Segment:
    """Records of one source from `start` on, in order, all appended in one hour."""

    def __init__(self, source: Source, start: int, hour: int, opened: float) -> None:
        self.source = source
        self.start = start
        self.end = start
        self.hour = hour
        self.opened = opened
        self.size = 0
        self.repeated: list[int] = []
        self.closed = False
        self.records: list[Record] = []
        self.decoded: list[Decoded | None] = []
        self.windows: Mapping[str, Window] = {}

    def add(self, record: Record, decoded: Decoded | None) -> None:
        self.end = record.offset + 1
        self.size += len(record.value) + len(record.key) + RECORD_OVERHEAD
        self.records.append(record)
        self.decoded.append(decoded)

    def skip(self, record: Record) -> None:
        """A duplicate takes its offset and nothing else."""
        self.end = record.offset + 1
        self.repeated.append(record.offset)

    def close(self, windows: Mapping[str, Window]) -> None:
        if not self.closed:
            self.closed = True
            self.windows = dict(windows)

    def drop_below(self, offset: int) -> None:
        """Somebody else's object holds everything before `offset`."""
        kept = [at for at, record in enumerate(self.records) if record.offset >= offset]
        self.records = [self.records[at] for at in kept]
        self.decoded = [self.decoded[at] for at in kept]
        self.repeated = [at for at in self.repeated if at >= offset]
        self.start = max(self.start, offset)
        self.end = max(self.end, offset)

    def left_s(self, limits: Limits, now: float) -> float:
        """Seconds until this must become an object."""
        full = self.size >= limits.roll_bytes or len(self.records) >= limits.roll_records
        return 0.0 if self.closed or full else self.opened + limits.roll_s - now

    def key(self) -> str:
        place = f"{prefix(self.source)}/{self._hour()}/p={self.source.partition}"
        return f"{place}/{self.start:020d}.parquet"

    def footer(self) -> Footer:
        checksum = 0
        for record in self.records:
            checksum = crc32(record.value, checksum)
        times = [one.at_ms for one in self.decoded if one is not None and one.at_ms is not None]
        return Footer(
            topic=self.source.topic,
            partition=self.source.partition,
            epoch=self.source.epoch,
            start=self.start,
            end=self.end,
            count=len(self.records),
            duplicates=len(self.repeated),
            crc32=checksum,
            first_ms=min(times, default=None),
            last_ms=max(times, default=None),
            windows=dict(self.windows),
        )

    def _hour(self) -> str:
        return datetime.fromtimestamp(self.hour * HOUR_MS / 1000, UTC).strftime("dt=%Y-%m-%d/hr=%H")


class Windows:
    """The deduplication windows of a source's sessions; the longest silent make room.

    What is kept depends on the records alone, so every writer of a chain decides alike.
    """

    def __init__(self, known: Mapping[str, Window]) -> None:
        self._known: OrderedDict[str, Window] = OrderedDict(known)

    def observe(self, event_id: str, at_ms: int) -> Verdict:
        """Whether this event is new here; ids without a sequence number always are."""
        named = identity(event_id)
        if named is None:
            return Verdict.FRESH
        session, seq = named
        last, bits, _ = self._known.get(session, (-1, 0, 0))
        verdict, last, bits = observe(last, bits, seq)
        self._known[session] = (last, bits, at_ms)
        self._known.move_to_end(session)
        self._make_room(at_ms - SILENCE_MS)
        return verdict

    def _make_room(self, silent_since: int) -> None:
        known = self._known
        while len(known) > SESSIONS_KEPT or known[next(iter(known))][2] < silent_since:
            known.popitem(last=False)

    def snapshot(self) -> dict[str, Window]:
        return dict(self._known)


def prefix(source: Source) -> str:
    return f"raw/{source.topic}/{source.epoch}"


def hour_of(record: Record) -> int:
    """Hours since the epoch at which the log took the record: the same for every reader."""
    return record.timestamp_ms // HOUR_MS


def start_of(key: str) -> tuple[int, int] | None:
    """Partition and start offset in an object's key; None when it is no object of a chain."""
    folder, _, name = key.rpartition("/")
    partition = folder.rpartition("/p=")[2]
    number, _, kind = name.partition(".")
    if kind != "parquet" or not (partition.isdigit() and number.isdigit()):
        return None
    return int(partition), int(number)
