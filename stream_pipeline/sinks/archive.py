"""The archive: each source's records as a chain of Parquet objects that are only ever created.

An object's key holds the offset where it starts, which is where the one before it ends, so two
writers that extend a chain from the same place want the same key and one of them wins. The loser
reads how far the winner came, drops what that covers and goes on: nothing is stored twice, and
where objects are cut need not be the same on every run. The chain itself is the frontier.

Late events of a session (more than 64 behind) are kept: what cannot be told to be a duplicate is
not thrown away.
"""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from chassis.errors import AlreadyExists, ConfigurationFault, Faulty, Missing, StoreUnavailable
from chassis.events import Record
from chassis.storage import Objects
from stream_pipeline.operators.decode import Decoded
from stream_pipeline.operators.dedup import Verdict
from stream_pipeline.sinks import Positions
from stream_pipeline.sinks.segment import (
    Footer,
    Limits,
    Segment,
    Window,
    Windows,
    hour_of,
    prefix,
    start_of,
)
from stream_pipeline.source import Source

GROUP = "archive"
METADATA = b"stagedoor"
TAIL_BYTES = 64 << 10


class ArchiveSink:
    """Collects records in segments and turns each into one object when it is due."""

    group = GROUP

    def __init__(self, objects: Objects, limits: Limits) -> None:
        self._objects = objects
        self._limits = limits
        self._chains: dict[Source, Chain] = {}
        self._created: Positions = {}
        self.objects_created = 0
        self.conflicts = 0

    async def prepare(self, name: str) -> None:
        """`ConfigurationFault` when the store would overwrite an object; tried under `name`."""
        key = f"probe/{name}"
        await self._objects.create(key, b"once")
        try:
            await self._objects.create(key, b"twice")
        except AlreadyExists:
            return
        finally:
            await self._objects.delete(key)
        raise ConfigurationFault(
            ["it overwrites what exists; choose one with create-only writes"],
            what="the archive's object store",
        )

    async def resume(self, sources: Sequence[Source]) -> Positions:
        known: Positions = {}
        for place in {prefix(source): source for source in sources}.values():
            heads = await self._heads(place)
            for source in sources:
                if prefix(source) == prefix(place):
                    await self._begin(source, heads.get(source.partition), known)
        return known

    async def read_ahead(self, batch: Sequence[tuple[Source, Decoded | None]]) -> None:
        """A chain needs nothing from the store to grow."""

    async def take(self, source: Source, record: Record, decoded: Decoded | None) -> Verdict:
        return self._chains[source].take(record, decoded)

    def due(self, now: float) -> float:
        return min((chain.left_s(now) for chain in self._chains.values()), default=math.inf)

    async def flush(self, now: float, *, everything: bool = False) -> Positions:
        for source, chain in self._chains.items():
            for segment in chain.ready(now, everything=everything):
                await self._store(chain, segment)
                self._created[source] = chain.end
        created, self._created = self._created, {}
        return created

    async def remember(self, positions: Mapping[Source, int]) -> None:
        """The chain is the frontier."""

    def forget(self) -> None:
        self._chains.clear()
        self._created.clear()

    async def _heads(self, source: Source) -> dict[int, str]:
        """The last object's key of each partition of the source's topic."""
        heads: dict[int, tuple[int, str]] = {}
        async for info in self._objects.list(prefix(source)):
            named = start_of(info.key)
            if named is not None:
                partition, start = named
                heads[partition] = max(heads.get(partition, (-1, "")), (start, info.key))
        return {partition: key for partition, (_, key) in heads.items()}

    async def _begin(self, source: Source, key: str | None, known: Positions) -> None:
        if key is None:
            self._chains[source] = Chain(source, 0, {}, self._limits)
            return
        footer = await read_footer(self._objects, key)
        self._chains[source] = Chain(source, footer.end, footer.windows, self._limits)
        known[source] = footer.end

    async def _store(self, chain: Chain, segment: Segment) -> None:
        """Creates the segment's object, or finds out who was first."""
        while segment.start < segment.end:
            key = segment.key()
            body = await asyncio.to_thread(encode, segment)
            if await self._create(key, body):
                chain.stored(segment, segment.end)
                self.objects_created += 1
                return
            winner = await read_footer(self._objects, key)
            self.conflicts += 1
            segment.drop_below(winner.end)
            chain.covered(winner.end, winner.windows)
        chain.stored(segment, segment.end)

    async def _create(self, key: str, body: bytes) -> bool:
        """False when the key is taken, if only by this body: an unknown outcome is looked up."""
        try:
            await self._objects.create(key, body)
        except AlreadyExists:
            return False
        except StoreUnavailable:
            try:
                await self._objects.head(key)
            except Missing:
                pass
            else:
                return False
            raise
        return True


class Chain:
    """One source's end of its chain, and the segments that will extend it. Pure."""

    def __init__(
        self, source: Source, end: int, windows: Mapping[str, Window], limits: Limits
    ) -> None:
        self.source = source
        self.end = end
        self._next = end
        self._windows = Windows(windows)
        self._limits = limits
        self._segments: list[Segment] = []
        self._now = 0.0

    def take(self, record: Record, decoded: Decoded | None) -> Verdict:
        if record.offset < self._next:
            return Verdict.COVERED
        segment = self._open(hour_of(record))
        verdict = (
            Verdict.FRESH
            if decoded is None
            else self._windows.observe(decoded.id, record.timestamp_ms)
        )
        if verdict is Verdict.DUPLICATE:
            segment.skip(record)
        else:
            segment.add(record, decoded)
        self._next = segment.end
        if segment.left_s(self._limits, self._now) <= 0:
            segment.close(self._windows.snapshot())
        return verdict

    def left_s(self, now: float) -> float:
        self._now = now
        return self._segments[0].left_s(self._limits, now) if self._segments else math.inf

    def ready(self, now: float, *, everything: bool) -> list[Segment]:
        """The segments to store now, in order, closed."""
        self._now = now
        ready = [s for s in self._segments if everything or s.left_s(self._limits, now) <= 0]
        for segment in ready:
            segment.close(self._windows.snapshot())
        return ready

    def stored(self, segment: Segment, end: int) -> None:
        self._segments.remove(segment)
        self.end = max(self.end, end)

    def covered(self, end: int, windows: Mapping[str, Window]) -> None:
        """Another writer's object reaches up to `end`, with these windows there."""
        self.end = max(self.end, end)
        if end > self._next:
            self._next, self._windows = end, Windows(windows)
        for segment in self._segments:
            segment.drop_below(end)

    def _open(self, hour: int) -> Segment:
        last = self._segments[-1] if self._segments else None
        if last is not None and last.hour != hour:
            last.close(self._windows.snapshot())
        if last is None or last.closed:
            last = Segment(self.source, self._next, hour, self._now)
            self._segments.append(last)
        return last


def encode(segment: Segment) -> bytes:
    """The segment as Parquet, zstd, its footer in the file's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    records, decoded = segment.records, segment.decoded
    columns = {
        "kp": pa.array([segment.source.partition] * len(records), pa.int32()),
        "ko": pa.array([record.offset for record in records], pa.int64()),
        "appended_ms": pa.array([record.timestamp_ms for record in records], pa.int64()),
        "at_ms": pa.array([one.at_ms if one else None for one in decoded], pa.int64()),
        "event_id": pa.array([one.id if one else None for one in decoded], pa.string()),
        "type": pa.array([one.type if one else None for one in decoded], pa.string()),
        "key": pa.array([record.key for record in records], pa.binary()),
        "value": pa.array([record.value for record in records], pa.binary()),
    }
    metadata = {METADATA: msgspec.json.encode(segment.footer())}
    table = pa.table(columns).replace_schema_metadata(metadata)
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", use_dictionary=["type"])
    return out.getvalue()


async def read_footer(objects: Objects, key: str) -> Footer:
    """What the object under `key` says of itself, from its last bytes only."""
    size = (await objects.head(key)).size
    return await _parse(objects, key, size, min(size, TAIL_BYTES))


async def _parse(objects: Objects, key: str, size: int, wanted: int) -> Footer:
    tail = await objects.get_range(key, -wanted, wanted)
    needed = int.from_bytes(tail[-8:-4], "little") + 8
    if needed > len(tail) and wanted < size:
        return await _parse(objects, key, size, min(size, needed))
    return _decoded(key, tail, size)


def _decoded(key: str, tail: bytes, size: int) -> Footer:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found: Any = pq.read_metadata(pa.PythonFile(_Tail(tail, size), mode="r"))
        return msgspec.json.decode(found.metadata[METADATA], type=Footer)
    except (pa.ArrowException, KeyError, TypeError, msgspec.MsgspecError, OSError) as fault:
        raise Faulty(f"{key} is no object of this archive: {fault}") from fault


class _Tail(io.RawIOBase):
    """A file of `size` bytes of which only the last are at hand."""

    def __init__(self, tail: bytes, size: int) -> None:
        self._tail = tail
        self._from = size - len(tail)
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def read(self, count: int = -1) -> bytes:
        start = self._at - self._from
        if start < 0:
            raise OSError("read before the bytes at hand")
        end = len(self._tail) if count < 0 else start + count
        found = self._tail[start:end]
        self._at += len(found)
        return found
