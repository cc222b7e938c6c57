"""The archive, on a local folder and on S3: what is written, and who wins."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pyarrow.parquet as pq
import pytest

from chassis.errors import ConfigurationFault, Faulty, StoreUnavailable
from chassis.events import Record
from chassis.storage import Objects, open_objects
from stream_pipeline.operators.decode import decode
from stream_pipeline.sinks.archive import TAIL_BYTES, ArchiveSink, read_footer
from stream_pipeline.sinks.segment import Limits
from stream_pipeline.source import Source
from tests.support import buckets
from tests.support.streams import source
from tests.support.watching import BEGAN_MS, moment, record

LIMITS = Limits(roll_records=1_000, roll_s=100.0)


@pytest.fixture(params=["file", "s3"])
async def objects(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Objects]:
    url = f"file://{tmp_path}" if request.param == "file" else buckets.fresh()
    objects = open_objects(url)
    yield objects
    await objects.close()


async def opened(objects: Objects, *sources: Source) -> ArchiveSink:
    sink = ArchiveSink(objects, LIMITS)
    await sink.resume(sources or (source(),))
    return sink


def records(first: int, end: int, partition: int = 0) -> list[Record]:
    return [
        record(moment(n + 1), n, partition, timestamp_ms=BEGAN_MS + n) for n in range(first, end)
    ]


async def take(sink: ArchiveSink, told: list[Record], at: Source | None = None) -> None:
    for one in told:
        await sink.take(at or source(), one, decode(one))


async def keys(objects: Objects) -> list[str]:
    return [info.key async for info in objects.list("raw")]


async def offsets(objects: Objects) -> list[int]:
    found: list[int] = []
    for key in await keys(objects):
        table = pq.read_table(io.BytesIO(await objects.get(key)))
        found += table.column("ko").to_pylist()
    return found


async def test_an_object_holds_the_records_as_they_were(objects: Objects) -> None:
    sink, told = await opened(objects), records(0, 5)
    await take(sink, told)
    assert await sink.flush(0.0, everything=True) == {source(): 5}
    (key,) = await keys(objects)
    table = pq.read_table(io.BytesIO(await objects.get(key)))
    assert table.column("value").to_pylist() == [one.value for one in told]
    assert table.column("key").to_pylist() == [b"p1"] * 5
    assert table.column("event_id").to_pylist() == [f"s1:{n}" for n in range(1, 6)]
    assert table.column("kp").to_pylist() == [0] * 5


async def test_the_footer_tells_end_count_checksum_and_event_times(objects: Objects) -> None:
    sink, told = await opened(objects), records(0, 5)
    await take(sink, told)
    await sink.flush(0.0, everything=True)
    footer = await read_footer(objects, (await keys(objects))[0])
    assert (footer.start, footer.end, footer.count) == (0, 5, 5)
    assert footer.crc32 == crc32(b"".join(one.value for one in told))
    assert (footer.first_ms, footer.last_ms) == (BEGAN_MS, BEGAN_MS + 40_000)


async def test_a_footer_larger_than_the_first_read_is_read_whole(objects: Objects) -> None:
    sink = await opened(objects)
    for n in range(1_000):
        one = record(moment(1, session=f"{'s' * 90}{n}", at_ms=BEGAN_MS), n)
        await sink.take(source(), one, decode(one))
    await sink.flush(0.0, everything=True)
    (key,) = await keys(objects)
    footer = await read_footer(objects, key)
    assert len(footer.windows) == 1_000
    assert (await objects.head(key)).size > TAIL_BYTES


async def test_what_is_no_object_of_ours_is_said_to_be_none(objects: Objects) -> None:
    key = "raw/playback.beacon/1000000/dt=x/hr=1/p=0/00000000000000000000.parquet"
    await objects.create(key, b"not parquet at all")
    with pytest.raises(Faulty, match="is no object of this archive"):
        await opened(objects)


async def test_only_what_is_due_is_stored_and_the_rest_waits(objects: Objects) -> None:
    sink = await opened(objects)
    assert sink.due(0.0) == float("inf")
    await take(sink, records(0, 3))
    assert sink.due(0.0) == 100.0
    assert await sink.flush(99.0) == {}
    assert await sink.flush(100.0) == {source(): 3}


async def test_the_chain_says_where_to_go_on(objects: Objects) -> None:
    first = await opened(objects)
    await take(first, records(0, 5))
    await first.flush(0.0, everything=True)
    await take(first, records(5, 8))
    await first.flush(0.0, everything=True)
    other = source(1)
    sink = ArchiveSink(objects, LIMITS)
    assert await sink.resume([source(), other]) == {source(): 8}
    await take(sink, records(6, 10))
    await sink.flush(0.0, everything=True)
    assert sorted(await offsets(objects)) == list(range(10))


async def test_a_topic_made_anew_begins_another_chain(objects: Objects) -> None:
    sink = await opened(objects)
    await take(sink, records(0, 5))
    await sink.flush(0.0, everything=True)
    anew = source(epoch=2_000_000)
    assert await ArchiveSink(objects, LIMITS).resume([anew]) == {}


@pytest.mark.parametrize(("winner", "loser"), [(5, 3), (5, 5), (3, 9), (1, 2)])
async def test_the_loser_drops_what_the_winner_stored_and_goes_on(
    objects: Objects, winner: int, loser: int
) -> None:
    one, two = await opened(objects), await opened(objects)
    await take(one, records(0, winner))
    await take(two, records(0, loser))
    await one.flush(0.0, everything=True)
    assert await two.flush(0.0, everything=True) == {source(): max(winner, loser)}
    assert two.conflicts == 1
    assert sorted(await offsets(objects)) == list(range(max(winner, loser)))
    await take(two, records(max(winner, loser), 12))
    await two.flush(0.0, everything=True)
    assert sorted(await offsets(objects)) == list(range(12))


async def test_the_loser_knows_the_events_that_only_the_winner_saw(objects: Objects) -> None:
    one, two = await opened(objects), await opened(objects)
    await take(one, records(0, 6))
    await take(two, records(0, 3))
    await one.flush(0.0, everything=True)
    await two.flush(0.0, everything=True)
    await take(two, [record(moment(5), 6), record(moment(7), 7)])
    await two.flush(0.0, everything=True)
    assert sorted(await offsets(objects)) == [0, 1, 2, 3, 4, 5, 7]


class Uncertain:
    """A store whose creates fail: after they were done, or before."""

    def __init__(self, inner: Objects, *, done: bool) -> None:
        self._inner = inner
        self._done = done
        self.failing = True

    async def create(self, key: str, body: bytes) -> None:
        if not self.failing or self._done:
            await self._inner.create(key, body)
        if self.failing:
            raise StoreUnavailable("no answer")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_a_create_of_unknown_outcome_that_happened_counts_as_done(objects: Objects) -> None:
    sink = await opened(Uncertain(objects, done=True))  # type: ignore[arg-type]
    await take(sink, records(0, 5))
    assert await sink.flush(0.0, everything=True) == {source(): 5}
    assert await offsets(objects) == list(range(5))


async def test_a_create_that_did_not_happen_is_tried_again(objects: Objects) -> None:
    store = Uncertain(objects, done=False)
    sink = await opened(store)  # type: ignore[arg-type]
    await take(sink, records(0, 5))
    with pytest.raises(StoreUnavailable):
        await sink.flush(0.0, everything=True)
    store.failing = False
    assert await sink.flush(0.0, everything=True) == {source(): 5}
    assert await offsets(objects) == list(range(5))


class Overwriting(Uncertain):
    async def create(self, key: str, body: bytes) -> None:
        await self._inner.delete(key)
        await self._inner.create(key, body)


async def test_a_store_that_overwrites_is_refused_at_the_start(objects: Objects) -> None:
    await ArchiveSink(objects, LIMITS).prepare("one")
    with pytest.raises(ConfigurationFault, match="overwrites"):
        await ArchiveSink(Overwriting(objects, done=True), LIMITS).prepare("two")  # type: ignore[arg-type]
    assert [info.key async for info in objects.list("probe")] == []


async def test_an_object_of_nothing_but_duplicates_still_moves_the_chain(objects: Objects) -> None:
    sink = await opened(objects)
    await take(sink, [record(moment(1), 0), record(moment(1), 1)])
    await sink.flush(0.0, everything=True)
    await take(sink, [record(moment(1), 2)])
    assert await sink.flush(0.0, everything=True) == {source(): 3}
    assert await offsets(objects) == [0]
    assert await ArchiveSink(objects, LIMITS).resume([source()]) == {source(): 3}
