"""catalog and rights."""

from __future__ import annotations

from typing import Literal

from chassis.contracts.common import DeviceType, Instant, Markers, Maturity, Plan, Track
from chassis.contracts.wire import Call, Nothing, Wire


class PlayableQuery(Wire, frozen=True):
    """Exactly one of the two."""

    title_id: str | None = None
    episode_id: str | None = None


class Playable(Wire, frozen=True):
    """Everything about a title that playing it needs."""

    title_id: str
    name: str
    maturity: Maturity
    duration_ms: int
    released: str
    protected: bool
    max_height: int
    episode_id: str | None = None
    hdr: tuple[str, ...] = ()
    codecs: tuple[str, ...] = ("avc",)
    audio: tuple[Track, ...] = ()
    captions: tuple[Track, ...] = ()
    markers: Markers = Markers()
    genre: str = ""


class NextQuery(Wire, frozen=True):
    title_id: str
    episode_id: str | None = None


class NextEpisode(Wire, frozen=True):
    """The episode after this one, in the next season at a season's end.

    None after the last of all, and for films; without an episode asked, a series' first.
    """

    episode_id: str | None = None


class Summary(Wire, frozen=True):
    """A title as lists show it."""

    title_id: str
    name: str
    year: int
    genre: str
    maturity: Maturity
    score: float | None = None
    votes: int = 0
    director: str = ""


class TitlePage(Wire, frozen=True):
    """`GET /v1/titles`: a page, most watched first; `next` is the cursor of the page after it."""

    titles: tuple[Summary, ...]
    total: int
    next: str | None = None


class TitleDetail(Wire, frozen=True):
    """`GET /v1/titles/{title_id}`. `minutes_filled`: the source had no running time."""

    title_id: str
    name: str
    kind: Literal["film", "series"]
    released: str
    year: int
    rating: str
    maturity: Maturity
    minutes: int
    minutes_filled: bool
    genre: str
    setting: str
    director: str
    votes: int
    max_height: int
    protected: bool
    score: float | None = None
    hdr: tuple[str, ...] = ()
    audio: tuple[Track, ...] = ()
    captions: tuple[Track, ...] = ()
    markers: Markers = Markers()
    artwork: dict[str, str] = {}


class EpisodeInfo(Wire, frozen=True):
    episode_id: str
    title_id: str
    season: int
    number: int
    name: str
    released: str
    duration_ms: int
    markers: Markers = Markers()


class Episodes(Wire, frozen=True):
    """`GET /v1/titles/{title_id}/episodes`, in order; none for a film."""

    title_id: str
    episodes: tuple[EpisodeInfo, ...] = ()


class SummariesQuery(Wire, frozen=True):
    """`known` is the generation that the caller has; the same generation answers no titles."""

    known: int = -1


class Summaries(Wire, frozen=True):
    generation: int
    titles: tuple[Summary, ...] = ()


PLAYABLE = Call("catalog", "playable", PlayableQuery, Playable)
NEXT = Call("catalog", "next", NextQuery, NextEpisode)
SUMMARIES = Call("catalog", "summaries", SummariesQuery, Summaries)


class RightsQuery(Wire, frozen=True):
    title_id: str
    country: str
    plan: Plan
    device_type: DeviceType = "unknown"
    offline: bool = False


Denial = Literal["not_entitled", "region", "device_blocked", "window_ended"]


class RightsDecision(Wire, frozen=True):
    """Allow or deny, with the caps that hold until `valid_until` (UNIX seconds)."""

    allowed: bool
    valid_until: Instant
    denial: Denial | None = None
    max_height: int = 2160
    hdr: bool = True
    offline: bool = False
    window_ends: Instant | None = None


class Window(Wire, frozen=True):
    """A licence window: the title may be shown in `territory` from `starts` until `ends`.

    Instants are UNIX seconds; territory `*` is everywhere that no other window names.
    """

    title_id: str
    territory: str
    starts: Instant
    ends: Instant
    plans: tuple[Plan, ...] = ("basic", "standard", "premium")
    max_height: int = 2160
    hdr: bool = True
    offline: bool = False
    blocked_devices: tuple[DeviceType, ...] = ()


DECIDE = Call("rights", "decide", RightsQuery, RightsDecision)
SET_WINDOW = Call("rights", "set_window", Window, Nothing)
