"""Where a profile stands in a title: the event of the latest session with the highest number.

The order (session start, seq, session) is in each event, so that the fold is a maximum: the same
for any order, any repetition and any delay of the events.
"""

from __future__ import annotations

from chassis.contracts.events import PlayerEvent
from chassis.contracts.viewing import ContinueWatching

DONE_PERCENT = 95
_SILENT = frozenset({"rating"})


def order(event: PlayerEvent) -> tuple[int, int, str]:
    return event.session_started_ms or event.at_ms, event.seq, event.session_id


def resume(
    row: ContinueWatching | None, event: PlayerEvent, version: int
) -> ContinueWatching | None:
    """The row after `event`; `row` itself when the event does not move it."""
    if event.kind in _SILENT:
        return row
    started, seq, session = order(event)
    if row is not None and (started, seq, session) <= (
        row.session_started_ms,
        row.seq,
        row.session_id,
    ):
        return row
    return ContinueWatching(
        profile_id=event.profile_id,
        title_id=event.title_id,
        episode_id=event.episode_id,
        position_ms=event.position_ms,
        duration_ms=event.duration_ms,
        last_watched_ms=event.at_ms,
        session_id=session,
        session_started_ms=started,
        seq=seq,
        device_type=event.device_type,
        done=is_done(event.position_ms, event.duration_ms),
        src_version=version,
    )


def is_done(position_ms: int, duration_ms: int) -> bool:
    """So near the end that nobody wants to go on there."""
    return duration_ms > 0 and position_ms * 100 >= duration_ms * DONE_PERCENT
