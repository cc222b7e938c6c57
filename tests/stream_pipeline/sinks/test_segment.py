"""Segments, keys and windows: pure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream_pipeline.operators.decode import decode
from stream_pipeline.operators.dedup import Verdict
from stream_pipeline.sinks.archive import Chain
from stream_pipeline.sinks.segment import (
    HOUR_MS,
    SESSIONS_KEPT,
    SILENCE_MS,
    Limits,
    Segment,
    Windows,
    hour_of,
    start_of,
)
from tests.support.streams import source
from tests.support.watching import BEGAN_MS, moment, record

WIDE = Limits(roll_records=1_000, roll_s=100.0)


def take(chain: Chain, offset: int, seq: int | None = None, hours: int = 0) -> Verdict:
    event = moment(seq if seq is not None else offset + 1)
    one = record(event, offset, timestamp_ms=BEGAN_MS + hours * HOUR_MS)
    return chain.take(one, decode(one))


def test_a_key_says_where_its_object_starts() -> None:
    segment = Segment(source(3), 42, BEGAN_MS // HOUR_MS, 0.0)
    place = "raw/playback.beacon/1000000/dt=2023-11-14/hr=22/p=3/"
    assert segment.key() == f"{place}00000000000000000042.parquet"
    assert start_of(segment.key()) == (3, 42)


@given(st.text(max_size=40))
def test_what_is_no_key_of_a_chain_is_passed_over(text: str) -> None:
    assert start_of(text) is None


def test_an_object_starts_where_the_one_before_it_ends_even_over_a_gap() -> None:
    chain = Chain(source(), 0, {}, Limits(roll_records=2))
    for offset in (0, 1, 7, 8):
        take(chain, offset)
    first, second = chain.ready(0.0, everything=False)
    assert [(s.start, s.end) for s in (first, second)] == [(0, 2), (2, 9)]


def test_the_hours_edge_ends_a_segment() -> None:
    chain = Chain(source(), 0, {}, WIDE)
    take(chain, 0)
    take(chain, 1, hours=1)
    first, second = chain.ready(0.0, everything=True)
    assert (first.hour + 1, first.end) == (second.hour, second.start)
    assert "hr=22" in first.key()
    assert "hr=23" in second.key()


def test_a_segment_is_due_by_its_age_its_records_or_its_bytes() -> None:
    old = Chain(source(), 0, {}, Limits(roll_s=5.0))
    assert old.left_s(100.0) == float("inf")
    take(old, 0)
    assert old.left_s(102.0) == 3.0
    assert old.ready(104.9, everything=False) == []
    assert len(old.ready(105.0, everything=False)) == 1
    heavy = Chain(source(), 0, {}, Limits(roll_bytes=100))
    take(heavy, 0)
    assert heavy.left_s(0.0) == 0


def test_duplicates_take_their_offset_and_nothing_else() -> None:
    chain = Chain(source(), 0, {}, WIDE)
    verdicts = [take(chain, 0, 1), take(chain, 1, 1), take(chain, 2, 2)]
    assert verdicts == [Verdict.FRESH, Verdict.DUPLICATE, Verdict.FRESH]
    (segment,) = chain.ready(0.0, everything=True)
    footer = segment.footer()
    assert (footer.start, footer.end, footer.count, footer.duplicates) == (0, 3, 2, 1)


def test_a_chain_goes_on_with_the_windows_of_its_last_object() -> None:
    chain = Chain(source(), 0, {}, WIDE)
    take(chain, 0, 1)
    (segment,) = chain.ready(0.0, everything=True)
    heir = Chain(source(), segment.end, segment.footer().windows, WIDE)
    assert take(heir, 1, 1) is Verdict.DUPLICATE


def test_records_that_another_writer_stored_are_dropped() -> None:
    chain = Chain(source(), 0, {}, Limits(roll_records=3))
    for offset in range(6):
        take(chain, offset)
    chain.covered(4, {})
    first, second = chain.ready(0.0, everything=True)
    assert (first.start, first.end, first.records) == (4, 4, [])
    assert [one.offset for one in second.records] == [4, 5]
    assert take(chain, 3) is Verdict.COVERED
    assert take(chain, 6) is Verdict.FRESH


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(0, 41))
def test_whatever_was_covered_the_rest_is_there_once(steps: list[int], cut: int) -> None:
    offsets = sorted(set(steps))
    chain = Chain(source(), 0, {}, Limits(roll_records=4))
    for offset in offsets:
        take(chain, offset)
    chain.covered(cut, {})
    segments = chain.ready(0.0, everything=True)
    kept = [one.offset for segment in segments for one in segment.records]
    assert kept == [offset for offset in offsets if offset >= cut]
    for segment in segments:
        assert segment.start <= segment.end


def test_silent_sessions_and_too_many_of_them_make_room() -> None:
    windows = Windows({})
    for n in range(SESSIONS_KEPT + 10):
        windows.observe(f"s{n}:1", 0)
    assert len(windows.snapshot()) == SESSIONS_KEPT
    windows.observe("late:1", SILENCE_MS + 1)
    assert list(windows.snapshot()) == ["late"]


def test_the_hour_is_the_logs_and_not_the_devices() -> None:
    one = record(moment(1, at_ms=BEGAN_MS - 5 * HOUR_MS), timestamp_ms=BEGAN_MS)
    assert hour_of(one) == BEGAN_MS // HOUR_MS


lives = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 3), st.booleans()), min_size=1, max_size=8
)


@given(lives, st.lists(st.integers(0, 1), min_size=80, max_size=80), st.integers(1, 5))
def test_whenever_a_writer_dies_its_heir_stores_every_event_once(
    lives: list[tuple[int, int, bool]], edges: list[int], full: int
) -> None:
    """Each life takes some records, stores some of its segments and is gone."""
    hours = [sum(edges[:n]) // 4 for n in range(len(edges))]
    seqs = [1 + n - n // 7 for n in range(len(edges))]
    end, windows, stored = 0, {}, list[int]()
    for takes, stores, everything in [*lives, (len(edges), 99, True)]:
        chain = Chain(source(), end, windows, Limits(roll_records=full, roll_s=100.0))
        for offset in range(end, min(end + takes, len(edges))):
            take(chain, offset, seqs[offset], hours[offset])
        for segment in chain.ready(0.0, everything=everything)[:stores]:
            footer = segment.footer()
            assert footer.start == end
            assert footer.count + footer.duplicates == footer.end - footer.start
            stored += [seqs[one.offset] for one in segment.records]
            end, windows = footer.end, footer.windows
    assert stored == sorted(set(seqs))
