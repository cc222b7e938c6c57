"""What was watched, against an account of every millisecond."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.contracts.events import PlayerEvent
from chassis.contracts.viewing import ViewingHistory
from stream_pipeline.operators.history import GAP_MS, REORDER, Views, history, place
from stream_pipeline.operators.intervals import LIMIT, add, bounded, length, union
from tests.support.watching import BEGAN_MS, moment

pairs = st.tuples(st.integers(0, 60), st.integers(0, 60))


@given(st.lists(pairs, max_size=30))
def test_a_union_of_intervals_holds_the_same_points_as_a_set(drawn: list[tuple[int, int]]) -> None:
    intervals = union((), drawn)
    points = {point for start, end in drawn for point in range(start, end)}
    assert {point for start, end in intervals for point in range(start, end)} == points
    assert length(intervals) == len(points)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(intervals))


@given(st.lists(pairs, max_size=12), st.randoms())
def test_the_order_of_intervals_does_not_matter(
    drawn: list[tuple[int, int]], random: object
) -> None:
    shuffled = list(drawn)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert union((), shuffled) == union((), drawn)


def test_very_many_intervals_are_joined_where_the_gap_is_smallest() -> None:
    many = (*tuple((n * 100, n * 100 + 10) for n in range(LIMIT)), (LIMIT * 100 - 85, LIMIT * 100))
    joined = bounded(many)
    assert len(joined) == LIMIT
    assert joined[-1] == ((LIMIT - 1) * 100, LIMIT * 100)
    assert add(joined, 0, 5) == joined


def watch(events: list[PlayerEvent]) -> dict[int, ViewingHistory]:
    """The rows of one session's views, as the sink keeps them."""
    views: Views = ()
    rows: dict[int, ViewingHistory] = {}
    for version, event in enumerate(events, start=1):
        number, views = place(views, event.seq, event.at_ms)
        rows[number] = history(rows.get(number), event, number, version)
    return rows


def only(events: list[PlayerEvent]) -> ViewingHistory:
    rows = watch(events)
    assert len(rows) == 1
    return next(iter(rows.values()))


def test_playing_on_is_watching_and_repeats_count_once() -> None:
    beats = [moment(seq) for seq in range(1, 7)]
    rewound = moment(7, "seek", 20_000, at_ms=beats[-1].at_ms + 1_000)
    again = [
        moment(8 + n, position_ms=30_000 + n * 10_000, at_ms=rewound.at_ms + (n + 1) * 10_000)
        for n in range(4)
    ]
    row = only([*beats, rewound, *again])
    assert row.intervals == ((0, 60_000),)
    assert (row.watched_ms, row.position_ms, row.max_position_ms) == (60_000, 60_000, 60_000)


def test_a_pause_and_a_jump_are_not_watching() -> None:
    row = only(
        [
            moment(1, "start", 0, at_ms=BEGAN_MS),
            moment(2, "pause", 10_000, at_ms=BEGAN_MS + 10_000),
            moment(3, "resume", 10_000, at_ms=BEGAN_MS + 100_000),
            moment(4, "heartbeat", 20_000, at_ms=BEGAN_MS + 110_000),
            moment(5, "seek", 90_000, at_ms=BEGAN_MS + 111_000),
            moment(6, "stop", 95_000, at_ms=BEGAN_MS + 116_000),
        ]
    )
    assert row.intervals == ((0, 20_000), (90_000, 95_000))
    assert row.ended


def test_a_leap_that_no_player_can_make_is_not_watching() -> None:
    assert only([moment(1, position_ms=0), moment(2, position_ms=3_000_000)]).intervals == ()


def test_five_minutes_of_silence_end_a_view() -> None:
    first, second = moment(1, at_ms=BEGAN_MS), moment(2, at_ms=BEGAN_MS + GAP_MS)
    third = moment(3, at_ms=second.at_ms + GAP_MS + 1)
    rows = watch([first, second, third])
    assert sorted(rows) == [1, 3]
    assert [rows[1].view_id, rows[3].view_id] == ["s1.1", "s1.3"]


def test_a_late_event_joins_the_view_it_belongs_to() -> None:
    late = moment(2)
    after_a_break = moment(9, at_ms=BEGAN_MS + 2 * GAP_MS)
    rows = watch([moment(1), moment(3), after_a_break, late])
    assert sorted(rows) == [1, 9]
    assert [point[0] for point in rows[1].recent] == [1, 2, 3]


def test_a_view_keeps_its_number_when_its_beginning_arrives_late() -> None:
    rows = watch([moment(2), moment(1), moment(3)])
    assert list(rows) == [2]
    assert rows[2].started_ms == BEGAN_MS
    assert rows[2].intervals == ((0, 20_000),)


def steps(draws: list[tuple[str, int]]) -> list[PlayerEvent]:
    """A session that plays, pauses and jumps, in order."""
    at_ms, position, playing, told = BEGAN_MS, 0, True, [moment(1, "start", 0)]
    for seq, (kind, seconds) in enumerate(draws, start=2):
        at_ms += seconds * 1_000
        position += seconds * 1_000 if playing and kind != "seek" else 0
        if kind == "seek":
            position = seconds * 50_000
        playing = kind not in ("pause", "stop", "error")
        told.append(moment(seq, kind, position, at_ms=at_ms))
    return told


sessions = st.lists(
    st.tuples(
        st.sampled_from(["heartbeat", "pause", "resume", "seek", "stop", "error", "quality"]),
        st.integers(1, 90),
    ),
    max_size=30,
).map(steps)


def meaning(row: ViewingHistory) -> tuple[object, ...]:
    return (
        row.intervals,
        row.watched_ms,
        row.position_ms,
        row.max_position_ms,
        row.started_ms,
        row.last_ms,
        row.ended,
        row.recent,
    )


@given(sessions, st.lists(st.integers(0, 3), min_size=31, max_size=31), st.integers(1, 5))
def test_events_that_come_late_or_twice_make_the_same_history(
    told: list[PlayerEvent], delays: list[int], again: int
) -> None:
    late = [told[n] for n in sorted(range(len(told)), key=lambda n: (n + delays[n], n))]
    twice = [event for n, event in enumerate(late) for _ in range(1 + (n % again == 0))]
    expected, found = only(told), watch(twice)
    assert [meaning(row) for row in found.values()] == [meaning(expected)]


@given(sessions)
def test_streaming_finds_what_a_batch_over_all_events_finds(told: list[PlayerEvent]) -> None:
    watched: set[int] = set()
    for one, two in itertools.pairwise(told):
        runs = one.kind not in ("pause", "stop", "error")
        joins = two.kind in ("heartbeat", "quality", "pause", "stop", "error")
        if runs and joins:
            watched.update(range(one.position_ms // 1000, two.position_ms // 1000))
    assert only(told).watched_ms == len(watched) * 1000


@pytest.mark.parametrize("repeat", [1, REORDER + 2])
def test_what_was_folded_already_changes_nothing(repeat: int) -> None:
    told = [moment(seq) for seq in range(1, 20)]
    row = only(told)
    assert history(row, told[-repeat], 1, 99) is row
