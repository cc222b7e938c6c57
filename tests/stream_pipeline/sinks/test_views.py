"""View rows: what one record changes, and what a repeated one does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from chassis.contracts.events import PlayerEvent, PlayStarted
from chassis.contracts.viewing import (
    ContinueWatching,
    Frontier,
    SessionWindow,
    StartSeen,
    TrendingPartial,
    ViewingHistory,
)
from chassis.storage import Tables, open_tables
from stream_pipeline.operators.decode import decode
from stream_pipeline.operators.dedup import Verdict
from stream_pipeline.sinks.views import ViewSink
from tests.support.streams import source
from tests.support.watching import BEGAN_MS, moment, record, start

LIFECYCLE = source(topic="play.lifecycle")


@pytest.fixture
async def tables(tmp_path: Path) -> AsyncIterator[Tables]:
    tables = open_tables(f"sqlite://{tmp_path}/views.db")
    await ViewSink(tables).prepare()
    yield tables
    await tables.close()


async def take(sink: ViewSink, *facts: PlayerEvent | PlayStarted, first: int = 0) -> list[Verdict]:
    verdicts = []
    for offset, fact in enumerate(facts, start=first):
        one = record(fact, offset)
        place = LIFECYCLE if isinstance(fact, PlayStarted) else source()
        verdicts.append(await sink.take(place, one, decode(one)))
    return verdicts


async def test_one_event_makes_a_position_a_view_and_a_window(tables: Tables) -> None:
    sink = ViewSink(tables)
    await take(sink, moment(1, "start"), moment(2), moment(3, "pause"))
    assert await sink.flush(0.0) == {source(): 3}
    stands = await tables.get(ContinueWatching, "p1", "t1")
    view = await tables.get(ViewingHistory, "p1", "s1.1")
    window = await tables.get(SessionWindow, "p1", "s1")
    assert stands is not None and view is not None and window is not None
    assert (stands.position_ms, stands.src_version) == (20_000, source().version(2))
    assert (view.intervals, view.started_ms) == (((0, 20_000),), BEGAN_MS)
    assert (window.last_seq, window.window, window.count) == (3, 0b111, 3)


async def test_nothing_is_written_before_the_flush_and_the_last_state_only_once(
    tables: Tables,
) -> None:
    sink = ViewSink(tables)
    await take(sink, *[moment(seq) for seq in range(1, 30)])
    assert await tables.get(ContinueWatching, "p1", "t1") is None
    await sink.flush(0.0)
    assert sink.rows_written == 3


async def test_a_duplicate_is_told_and_changes_nothing(tables: Tables) -> None:
    sink = ViewSink(tables)
    verdicts = await take(sink, moment(1), moment(2), moment(1), moment(2))
    assert verdicts == [Verdict.FRESH] * 2 + [Verdict.DUPLICATE] * 2
    await sink.flush(0.0)
    window = await tables.get(SessionWindow, "p1", "s1")
    assert window is not None
    assert (window.count, window.src_version) == (2, source().version(1))


async def test_a_replay_from_the_beginning_leaves_every_row_as_it_was(tables: Tables) -> None:
    facts = [moment(seq, session=f"s{seq % 3}") for seq in range(1, 12)]
    first = ViewSink(tables)
    await take(first, *facts, start(), start("s2"))
    await first.flush(0.0)
    kinds = (ContinueWatching, ViewingHistory, SessionWindow, TrendingPartial, StartSeen)
    before = [[row async for row in tables.scan(kind)] for kind in kinds]  # type: ignore[type-var]
    again = ViewSink(tables)
    await take(again, *facts, start(), start("s2"))
    await again.flush(0.0)
    after = [[row async for row in tables.scan(kind)] for kind in kinds]  # type: ignore[type-var]
    assert after == before
    assert again.rows_written == 0


async def test_rows_that_were_written_in_part_are_completed_by_the_replay(tables: Tables) -> None:
    """A store without isolated batches may keep the window and lose the position."""
    sink = ViewSink(tables)
    facts = [moment(1, "start"), moment(2), moment(3)]
    await take(sink, *facts)
    kept = [row for row in sink._rows._changed.values() if isinstance(row, SessionWindow)]
    await tables.put_versioned([(row, row.src_version) for row in kept])
    again = ViewSink(tables)
    await take(again, *facts)
    await again.flush(0.0)
    stands = await tables.get(ContinueWatching, "p1", "t1")
    view = await tables.get(ViewingHistory, "p1", "s1.1")
    window = await tables.get(SessionWindow, "p1", "s1")
    assert stands is not None and view is not None and window is not None
    assert (stands.seq, view.watched_ms, window.count) == (3, 20_000, 3)


async def test_a_start_told_twice_trends_once_and_a_replayed_one_too(tables: Tables) -> None:
    sink = ViewSink(tables)
    verdicts = await take(sink, start(), start(), start("s2"), start("s3", country="FR"))
    assert verdicts.count(Verdict.DUPLICATE) == 1
    await sink.flush(0.0)
    again = ViewSink(tables)
    await take(again, start(), start())
    await again.flush(0.0)
    found = {row.scope: (row.count, row.scores) async for row in tables.scan(TrendingPartial)}
    assert found == {"US": (2, {"t1": 2.0}), "FR": (1, {"t1": 1.0})}


async def test_a_rating_moves_nobody(tables: Tables) -> None:
    sink = ViewSink(tables)
    await take(sink, moment(1), moment(2, "rating", 0, value=9.0))
    await sink.flush(0.0)
    stands = await tables.get(ContinueWatching, "p1", "t1")
    assert stands is not None
    assert stands.seq == 1
    assert [row.view_id async for row in tables.scan(ViewingHistory)] == ["s1.1"]


async def test_the_frontier_is_remembered_by_epoch_and_partition(tables: Tables) -> None:
    sink = ViewSink(tables)
    assert await sink.resume([source()]) == {}
    await sink.remember({source(): 7, source(1): 9})
    await sink.remember({source(): 5})
    assert await sink.resume([source(), source(1), source(epoch=9)]) == {source(): 7, source(1): 9}
    rows = [row async for row in tables.scan(Frontier)]
    assert {row.group for row in rows} == {"state"}


async def test_a_flush_is_due_after_its_time_or_its_rows(tables: Tables) -> None:
    sink = ViewSink(tables, flush_s=0.2, flush_rows=4)
    assert sink.due(5.0) == float("inf")
    await take(sink, moment(1))
    assert sink.due(5.0) == pytest.approx(0.2)
    assert sink.due(5.3) < 0
    await take(sink, moment(1, session="s2", title="t2"), first=1)
    assert sink.due(5.0) == 0.0


async def test_records_that_nobody_folds_still_move_the_position(tables: Tables) -> None:
    sink = ViewSink(tables)
    await sink.take(source(), record(moment(1), 8), None)
    assert await sink.flush(0.0) == {source(): 9}


async def test_a_long_row_cache_makes_room_for_new_rows_only_after_writing(tables: Tables) -> None:
    sink = ViewSink(tables, cached_rows=6)
    await take(sink, *[moment(1, profile=f"p{n}") for n in range(10)])
    assert len(sink._rows) == 30
    await sink.flush(0.0)
    assert len(sink._rows) == 6
    await take(sink, *[moment(2, profile=f"p{n}") for n in range(10)], first=10)
    await sink.flush(0.0)
    windows = [row async for row in tables.scan(SessionWindow)]
    assert [row.count for row in windows] == [2] * 10


class Counting:
    """Tables that count how often rows are asked for one by one, and together."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.alone = self.together = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)

    async def get(self, row: type, *key: Any) -> Any:
        self.alone += 1
        return await self._tables.get(row, *key)

    async def get_many(self, row: type, keys: Sequence[tuple[Any, ...]]) -> Any:
        self.together += 1
        return await self._tables.get_many(row, keys)


async def test_what_a_batch_needs_is_read_together_before_it_is_folded(tables: Tables) -> None:
    facts: list[PlayerEvent | PlayStarted] = [
        *(moment(seq, session=f"s{n}", profile=f"p{n}") for n in range(20) for seq in (1, 2, 90)),
        *(start(f"play-{n}") for n in range(5)),
    ]
    told = [
        (LIFECYCLE if isinstance(fact, PlayStarted) else source(), decode(record(fact, offset)))
        for offset, fact in enumerate(facts)
    ]
    for _ in range(2):  # first with nothing stored, then with every row
        counting = Counting(tables)
        sink = ViewSink(cast(Tables, counting))
        await sink.read_ahead([*told, (source(), None)])
        await take(sink, *facts)
        assert (counting.alone, counting.together) == (0, 5)
        await sink.flush(0.0)
