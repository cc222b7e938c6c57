"""bookmarks, recommendations, beacon, and the view tables that the stream pipeline writes."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from chassis.contracts.common import Maturity
from chassis.contracts.events import PlayerEvent
from chassis.contracts.keys import Key
from chassis.contracts.wire import Call, Wire


class BookmarkQuery(Wire, frozen=True):
    profile_id: str
    title_id: str


class Bookmark(Wire, frozen=True):
    """`found` is False when this profile never watched the title."""

    found: bool
    position_ms: int = 0
    duration_ms: int = 0
    updated_ms: int = 0


BOOKMARK = Call("bookmarks", "get", BookmarkQuery, Bookmark)


class UpNextQuery(Wire, frozen=True):
    profile_id: str
    title_id: str
    country: str
    maturity: Maturity = Maturity.ADULTS


class Suggestion(Wire, frozen=True):
    title_id: str
    name: str
    because: tuple[str, ...] = ()
    source: Literal["similar", "trending", "popular"] = "popular"


class UpNext(Wire, frozen=True):
    suggestion: Suggestion | None = None


UP_NEXT = Call("recommendations", "up_next", UpNextQuery, UpNext)


class EventBatch(Wire, frozen=True):
    """`POST /v1/events`."""

    events: tuple[PlayerEvent, ...]


class RejectedEvent(Wire, frozen=True):
    index: int
    reason: str


class EventReceipt(Wire, frozen=True):
    """Accepted events are on disk when this is answered."""

    accepted: int
    rejected: tuple[RejectedEvent, ...] = ()


class ContinueWatching(msgspec.Struct, frozen=True, kw_only=True):
    """View `continue_watching`: where a profile stands in a title. One row, overwritten in place.

    The order of positions is (session start, seq): `session_started_ms`, `seq`.
    """

    key: ClassVar[Key] = Key("continue_watching", ("profile_id",), ("title_id",))

    profile_id: str
    title_id: str
    position_ms: int
    duration_ms: int
    last_watched_ms: int
    session_id: str
    session_started_ms: int
    seq: int
    episode_id: str | None = None
    device_type: str = "unknown"
    done: bool = False


class ViewingHistory(msgspec.Struct, frozen=True, kw_only=True):
    """View `vh_live`: one row a view. `intervals` are watched [from, to) ms, merged, in order."""

    key: ClassVar[Key] = Key("vh_live", ("profile_id",), ("view_id",))

    profile_id: str
    view_id: str
    session_id: str
    title_id: str
    started_ms: int
    last_ms: int
    position_ms: int
    max_position_ms: int
    duration_ms: int
    watched_ms: int
    intervals: tuple[tuple[int, int], ...]
    device_type: str = "unknown"
    ended: bool = False


class TrendingPartial(msgspec.Struct, frozen=True, kw_only=True):
    """View `trending`: forward-decayed starts of one source partition; readers sum the partials.

    `scores` are title to weight relative to `landmark_ms`.
    """

    key: ClassVar[Key] = Key("trending", ("scope",), ("source",))

    scope: str
    source: str
    landmark_ms: int
    half_life_s: float
    scores: dict[str, float]
    updated_ms: int


class SessionWindow(msgspec.Struct, frozen=True, kw_only=True):
    """View `profile_session`: the deduplication state of one session.

    `window` is a bit for each of the 64 sequence numbers up to `last_seq`.
    """

    key: ClassVar[Key] = Key("profile_session", ("profile_id",), ("session_id",))

    profile_id: str
    session_id: str
    last_seq: int
    window: int
    last_ms: int


class Frontier(msgspec.Struct, frozen=True, kw_only=True):
    """View `stream_frontier`: the next offset a sink needs; outlives consumer groups."""

    key: ClassVar[Key] = Key("stream_frontier", ("group", "epoch"), ("source",))

    group: str
    epoch: int
    source: str
    offset: int


VIEWS = (ContinueWatching, ViewingHistory, TrendingPartial, SessionWindow, Frontier)
