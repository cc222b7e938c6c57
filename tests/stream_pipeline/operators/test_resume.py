"""One position, whatever the order, the delay and the repetition of the events."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from chassis.contracts.events import PlayerEvent
from chassis.contracts.viewing import ContinueWatching
from stream_pipeline.operators.resume import order, resume
from tests.support.watching import BEGAN_MS, FILM_MS, moment

KINDS = ("start", "heartbeat", "pause", "resume", "seek", "stop", "error", "quality", "rating")


def folded(events: Iterable[PlayerEvent]) -> ContinueWatching | None:
    row = None
    for version, event in enumerate(events, start=1):
        row = resume(row, event, version)
    return row


def standing(row: ContinueWatching | None) -> tuple[object, ...] | None:
    if row is None:
        return None
    return row.position_ms, row.session_id, row.seq, row.last_watched_ms, row.done


events = st.builds(
    lambda session, seq, kind, position, explicit: moment(
        seq,
        kind,
        position,
        session=f"s{session}",
        at_ms=BEGAN_MS + session * 1_000_000 + seq * 10_000,
        session_started_ms=BEGAN_MS + session * 1_000_000 if explicit else 0,
    ),
    session=st.integers(0, 3),
    seq=st.integers(1, 12),
    kind=st.sampled_from(KINDS),
    position=st.integers(0, FILM_MS),
    explicit=st.booleans(),
)


def distinct(told: list[PlayerEvent]) -> list[PlayerEvent]:
    return list({event.id: event for event in told}.values())


@given(st.data(), st.lists(events, max_size=25).map(distinct))
def test_any_order_with_any_repetition_gives_the_same_position(
    data: st.DataObject, told: list[PlayerEvent]
) -> None:
    again = data.draw(st.lists(st.sampled_from(told), max_size=10)) if told else []
    shuffled = data.draw(st.permutations(told + again))
    assert standing(folded(shuffled)) == standing(folded(sorted(told, key=order)))


@given(st.lists(events, min_size=1, max_size=25).map(distinct))
def test_the_position_is_that_of_the_last_event_in_order(told: list[PlayerEvent]) -> None:
    told = [event for event in told if event.kind != "rating"]
    row = folded(told)
    if not told:
        assert row is None
        return
    last = max(told, key=order)
    assert row is not None
    assert (row.session_id, row.seq, row.position_ms) == (
        last.session_id,
        last.seq,
        last.position_ms,
    )


def test_a_late_event_of_an_older_session_does_not_lower_the_position() -> None:
    began = {"session_started_ms": BEGAN_MS}
    newer = {"session_started_ms": BEGAN_MS + 60_000}
    row = folded(
        [
            moment(9, position_ms=90_000, session="new", **newer),
            moment(50, position_ms=500, session="old", at_ms=BEGAN_MS + 9_000_000, **began),
        ]
    )
    assert standing(row) == (90_000, "new", 9, BEGAN_MS + 80_000, False)


def test_a_film_is_done_near_its_end_and_not_before() -> None:
    almost, end = moment(1, position_ms=5_129_999), moment(2, position_ms=5_130_000)
    assert [resume(None, one, 1).done for one in (almost, end)] == [False, True]  # type: ignore[union-attr]
