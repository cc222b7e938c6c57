"""Viewing history: what of a title was watched in one view, however often.

A session falls into views where it was silent for five minutes. In a view, two events that follow
one another prove that what lies between their positions was watched, unless the player stood
still or jumped. The last `REORDER` events are kept, so that one that comes late finds its place
between its neighbours, and the order of arrival makes no difference.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

from chassis.contracts.events import PlayerEvent
from chassis.contracts.viewing import ViewingHistory
from stream_pipeline.operators.intervals import Intervals, add, length

GAP_MS = 5 * 60 * 1000
REORDER = 8
VIEWS_LIMIT = 64
SPEED = 2
SLACK_MS = 5_000

JOINS, RUNS, ENDS = 1, 2, 4
_FLAGS = {
    "start": RUNS,
    "heartbeat": JOINS | RUNS,
    "quality": JOINS | RUNS,
    "pause": JOINS,
    "resume": RUNS,
    "seek": RUNS,
    "stop": JOINS | ENDS,
    "error": JOINS,
}

Point = tuple[int, int, int, int]  # seq, at_ms, position_ms, flags
View = tuple[int, int, int, int, int]  # number, first_seq, first_ms, last_seq, last_ms
Views = tuple[View, ...]


def counts(event: PlayerEvent) -> bool:
    """Whether this kind of event says anything of where the player stood."""
    return event.kind in _FLAGS


def place(views: Views, seq: int, at_ms: int) -> tuple[int, Views]:
    """The number of the view that an event belongs to, and the session's views after it.

    A view is numbered by the event that began it, and keeps its number when an earlier one turns
    up.
    """
    at = _before(views, seq)
    if at >= 0 and _reaches(views[at], seq, at_ms):
        return _stretch(views, at, seq, at_ms)
    if at + 1 < len(views) and views[at + 1][2] - at_ms <= GAP_MS:
        return _stretch(views, at + 1, seq, at_ms)
    if len(views) >= VIEWS_LIMIT:
        return _stretch(views, max(at, 0), seq, at_ms)
    return seq, (*views[: at + 1], (seq, seq, at_ms, seq, at_ms), *views[at + 1 :])


def _before(views: Views, seq: int) -> int:
    for at in range(len(views) - 1, -1, -1):
        if views[at][1] <= seq:
            return at
    return -1


def _reaches(view: View, seq: int, at_ms: int) -> bool:
    return seq <= view[3] or at_ms - view[4] <= GAP_MS


def _stretch(views: Views, at: int, seq: int, at_ms: int) -> tuple[int, Views]:
    number, first_seq, first_ms, last_seq, last_ms = views[at]
    wider = (
        number,
        min(first_seq, seq),
        min(first_ms, at_ms),
        max(last_seq, seq),
        max(last_ms, at_ms),
    )
    return number, (*views[:at], wider, *views[at + 1 :])


def history(
    row: ViewingHistory | None, event: PlayerEvent, number: int, version: int
) -> ViewingHistory:
    """The view's row after `event`; `row` itself when it repeats one or is too late."""
    point = (event.seq, event.at_ms, event.position_ms, _FLAGS[event.kind])
    if row is None:
        return _first(event, point, number, version)
    recent, settled, intervals = row.recent, row.settled, row.intervals
    if event.seq > recent[-1][0]:
        intervals = _extended(intervals, recent[-1], point)
        recent = (*recent, point)
    else:
        at = bisect_left(recent, event.seq, key=lambda known: known[0])
        if recent[at][0] == event.seq or (at == 0 and len(recent) >= REORDER):
            return row
        recent = (*recent[:at], point, *recent[at:])
        intervals = settled
        for before, after in pairwise(recent):
            intervals = _extended(intervals, before, after)
    if len(recent) > REORDER:
        settled = _extended(settled, recent[0], recent[1])
        recent = recent[1:]
    last = recent[-1]
    return ViewingHistory(
        profile_id=row.profile_id,
        view_id=row.view_id,
        session_id=row.session_id,
        title_id=row.title_id,
        started_ms=min(row.started_ms, event.at_ms),
        last_ms=max(row.last_ms, event.at_ms),
        position_ms=last[2],
        max_position_ms=max(row.max_position_ms, event.position_ms),
        duration_ms=max(row.duration_ms, event.duration_ms),
        watched_ms=length(intervals),
        intervals=intervals,
        device_type=row.device_type,
        ended=bool(last[3] & ENDS),
        settled=settled,
        recent=recent,
        src_version=version,
    )


def view_id(session_id: str, number: int) -> str:
    return f"{session_id}.{number}"


def _first(event: PlayerEvent, point: Point, number: int, version: int) -> ViewingHistory:
    return ViewingHistory(
        profile_id=event.profile_id,
        view_id=view_id(event.session_id, number),
        session_id=event.session_id,
        title_id=event.title_id,
        started_ms=event.at_ms,
        last_ms=event.at_ms,
        position_ms=event.position_ms,
        max_position_ms=event.position_ms,
        duration_ms=event.duration_ms,
        watched_ms=0,
        intervals=(),
        device_type=event.device_type,
        ended=bool(point[3] & ENDS),
        recent=(point,),
        src_version=version,
    )


def _extended(intervals: Intervals, before: Point, after: Point) -> Intervals:
    """The union with what two neighbours prove: no further than twice the time between them."""
    if before[3] & RUNS and after[3] & JOINS:
        elapsed, moved = after[1] - before[1], after[2] - before[2]
        if elapsed >= 0 and 0 < moved <= elapsed * SPEED + SLACK_MS:
            return add(intervals, before[2], after[2])
    return intervals
