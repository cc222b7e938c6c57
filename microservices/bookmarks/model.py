"""Resume positions as members see them. Pure."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import msgspec

from chassis.contracts.events import Envelope, PlayerEvent
from chassis.contracts.viewing import (
    Bookmark,
    BookmarkChange,
    BookmarkItem,
    BookmarkPage,
    ContinueWatching,
)
from chassis.contracts.wire import NOT_DECODED
from chassis.errors import BadRequest, Unprocessable
from chassis.identity import Passport

PAGE = 20
PAGE_LIMIT = 100
TITLE_LIMIT = 128
LONGEST_MS = 48 * 3600 * 1000
NOT_FOUND = Bookmark(found=False)

Mark = tuple[int, str]  # last watched, title: where a page ended
_marks: msgspec.json.Decoder[Mark] = msgspec.json.Decoder(Mark)


def bookmark(row: ContinueWatching | None) -> Bookmark:
    """Where to go on: the beginning for a title that was watched to its end."""
    if row is None:
        return NOT_FOUND
    return Bookmark(
        found=True,
        position_ms=0 if row.done else row.position_ms,
        duration_ms=row.duration_ms,
        updated_ms=row.last_watched_ms,
    )


def item(row: ContinueWatching) -> BookmarkItem:
    return BookmarkItem(
        title_id=row.title_id,
        position_ms=row.position_ms,
        duration_ms=row.duration_ms,
        updated_ms=row.last_watched_ms,
        episode_id=row.episode_id,
        device_type=row.device_type,
        done=row.done,
    )


def page(rows: Sequence[ContinueWatching], limit: int, after: Mark | None) -> BookmarkPage:
    """What is worth going on with, newest first, behind the mark of the page before."""
    going = sorted(
        (row for row in rows if not row.done and row.position_ms > 0), key=_place, reverse=True
    )
    behind = [row for row in going if after is None or _place(row) < after]
    shown, more = behind[:limit], len(behind) > limit
    return BookmarkPage(
        bookmarks=tuple(item(row) for row in shown),
        next=seal_mark(_place(shown[-1])) if more else None,
    )


def _place(row: ContinueWatching) -> Mark:
    return row.last_watched_ms, row.title_id


def seal_mark(mark: Mark) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(mark)).decode().rstrip("=")


def open_mark(text: str | None) -> Mark | None:
    if text is None:
        return None
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return _marks.decode(decoded)
    except (ValueError, *NOT_DECODED):
        raise BadRequest("after must be the `next` of an earlier page") from None


def page_size(text: str | None) -> int:
    if text is None:
        return PAGE
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= PAGE_LIMIT:
        raise BadRequest(f"limit must be a number from 1 to {PAGE_LIMIT}")
    return int(text)


def moved(
    row: ContinueWatching | None,
    change: BookmarkChange,
    passport: Passport,
    title_id: str,
    session_id: str,
    now_ms: int,
) -> PlayerEvent:
    """The seek that sets a bookmark, in a session of its own.

    It is newer than the one before it even where that one's device runs ahead of our clock.
    """
    newer_ms = max(now_ms, row.session_started_ms + 1 if row is not None else 0)
    duration = change.duration_ms or (row.duration_ms if row is not None else 0)
    if not 0 < len(title_id) <= TITLE_LIMIT or not title_id.isprintable():
        raise BadRequest(f"a title's id has 1 to {TITLE_LIMIT} printable characters")
    if not 0 < duration <= LONGEST_MS:
        raise Unprocessable(
            "duration_ms is needed for a title that was never watched", code="duration_needed"
        )
    if not 0 <= change.position_ms <= duration:
        raise Unprocessable(f"position_ms must be from 0 to {duration}", code="position_outside")
    return PlayerEvent(
        session_id=session_id,
        seq=1,
        kind="seek",
        profile_id=passport.profile_id or "",
        title_id=title_id,
        episode_id=row.episode_id if row is not None else None,
        at_ms=now_ms,
        session_started_ms=newer_ms,
        position_ms=change.position_ms,
        duration_ms=duration,
        device_id=passport.device_id,
        country=passport.country or "ZZ",
    )


def envelope_of(event: PlayerEvent, source: str, traceparent: str) -> Envelope:
    return Envelope.of(
        event,
        event_id=event.id,
        source=source,
        kind=event.type,
        at_ms=event.at_ms,
        partitionkey=event.profile_id,
        subject=event.title_id,
        traceparent=traceparent,
    )
