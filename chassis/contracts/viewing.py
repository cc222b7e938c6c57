"""bookmarks, recommendations, beacon, and the view tables that the stream pipeline writes."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from chassis.contracts.common import Maturity
from chassis.contracts.keys import Key
from chassis.contracts.wire import Call, Wire

DAY_S = 86_400


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


class RejectedEvent(Wire, frozen=True):
    index: int
    reason: str


class EventReceipt(Wire, frozen=True):
    """Accepted events are on disk when this is answered.

    `coalesced` of them are heartbeats that a later one stands for while the log is away.
    """

    accepted: int
    coalesced: int = 0
    rejected: tuple[RejectedEvent, ...] = ()


class BookmarkChange(Wire, frozen=True):
    """`PUT /v1/bookmarks/{title_id}`; `duration_ms` is needed only for a title never watched."""

    position_ms: int
    duration_ms: int = 0


class BookmarkItem(Wire, frozen=True):
    title_id: str
    position_ms: int
    duration_ms: int
    updated_ms: int
    episode_id: str | None = None
    device_type: str = "unknown"
    done: bool = False


class BookmarkPage(Wire, frozen=True):
    """`GET /v1/bookmarks`: what to continue, newest first. `next` goes back as `?after=`."""

    bookmarks: tuple[BookmarkItem, ...]
    next: str | None = None


class ShelfTitle(Wire, frozen=True):
    """`position_ms` is set on the row of titles to continue."""

    title_id: str
    name: str
    year: int
    genre: str
    position_ms: int | None = None
    duration_ms: int | None = None


class Shelf(Wire, frozen=True):
    """One row of recommendations; `because` names the titles it follows from."""

    kind: Literal["continue", "trending", "because", "popular"]
    name: str
    titles: tuple[ShelfTitle, ...]
    because: tuple[str, ...] = ()


class Shelves(Wire, frozen=True):
    """`GET /v1/recommendations`. `generation` is the catalogue's."""

    generation: int
    rows: tuple[Shelf, ...]


class ContinueWatching(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """View `continue_watching`: where a profile stands in a title. One row, overwritten in place.

    The order of positions is (session start, seq): `session_started_ms`, `seq`. In every view
    row, `src_version` is the version of the last record that was folded into it. What was watched
    to its end is forgotten after a week.
    """

    key: ClassVar[Key] = Key(
        "continue_watching",
        ("profile_id",),
        ("title_id",),
        ttl_s=400 * DAY_S,
        brief=("done", 7 * DAY_S),
    )

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
    src_version: int = 0


class ViewingHistory(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """View `vh_live`: one row a view. `intervals` are watched [from, to) ms, merged, in order.

    `recent` are the last events as (seq, at_ms, position_ms, flags) and `settled` the intervals
    before them: what a late event may still change, and what not.
    """

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
    settled: tuple[tuple[int, int], ...] = ()
    recent: tuple[tuple[int, int, int, int], ...] = ()
    src_version: int = 0


class TrendingPartial(msgspec.Struct, frozen=True, kw_only=True):
    """View `trending`: forward-decayed starts of one source partition; readers sum the partials.

    `scores` are title to weight relative to `landmark_ms`; `count` is how many starts were folded.
    """

    key: ClassVar[Key] = Key("trending", ("scope",), ("source",), ttl_s=2 * DAY_S)

    scope: str
    source: str
    landmark_ms: int
    half_life_s: float
    scores: dict[str, float]
    updated_ms: int
    count: int = 0
    src_version: int = 0


class StartSeen(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """View `start_seen`: the record that first told of a session's start; later ones repeat it."""

    key: ClassVar[Key] = Key("start_seen", ("profile_id",), ("event_id",), ttl_s=2 * DAY_S)

    profile_id: str
    event_id: str
    at_ms: int
    src_version: int = 0


class SessionWindow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """View `profile_session`: the deduplication state of one session.

    `window` is a bit for each of the 64 sequence numbers up to `last_seq`, kept as a signed
    64-bit value, and `count` the number of different events. `views` are the views of the session
    as (number, first_seq, first_ms, last_seq, last_ms), in order.
    """

    key: ClassVar[Key] = Key("profile_session", ("profile_id",), ("session_id",), ttl_s=2 * DAY_S)

    profile_id: str
    session_id: str
    last_seq: int
    window: int
    last_ms: int
    count: int = 0
    views: tuple[tuple[int, int, int, int, int], ...] = ()
    src_version: int = 0


class Frontier(msgspec.Struct, frozen=True, kw_only=True):
    """View `stream_frontier`: the next offset a sink needs; outlives consumer groups."""

    key: ClassVar[Key] = Key("stream_frontier", ("group", "epoch"), ("source",))

    group: str
    epoch: int
    source: str
    offset: int


VIEWS = (ContinueWatching, ViewingHistory, TrendingPartial, StartSeen, SessionWindow, Frontier)
