"""What a title is, and what follows from what its source says of it."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, Literal

import msgspec

from chassis.contracts.common import Markers, Maturity, Track
from chassis.contracts.keys import Key

UNCLASSIFIED = "Unclassified"
_CREDITS_AT = 0.95


class Title(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A film or a series as the catalogue keeps it. `released` is an ISO date."""

    key: ClassVar[Key] = Key("title", partition=("title_id",))

    title_id: str
    name: str
    released: str
    maturity: Maturity
    minutes: int
    kind: Literal["film", "series"] = "film"
    rating: str = ""
    minutes_filled: bool = False
    genre: str = UNCLASSIFIED
    setting: str = ""
    director: str = ""
    score: float | None = None
    votes: int = 0
    protected: bool = True
    max_height: int = 1080
    hdr: tuple[str, ...] = ()
    codecs: tuple[str, ...] = ("avc",)
    audio: tuple[Track, ...] = ()
    captions: tuple[Track, ...] = ()
    markers: Markers = Markers()

    @property
    def year(self) -> int:
        return int(self.released[:4])

    @property
    def duration_ms(self) -> int:
        return self.minutes * 60_000


class Episode(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An episode of a series, in the order of season and number."""

    key: ClassVar[Key] = Key("episode", partition=("title_id",), clustering=("season", "number"))

    title_id: str
    season: int
    number: int
    episode_id: str
    name: str
    released: str
    minutes: int
    markers: Markers = Markers()


def derive(title: Title) -> Title:
    """The title with what its source does not say, by rule.

    - protected unless released before 1929: those are in the public domain;
    - scanned at 720 lines before 1950, 1080 until 1999, 2160 from 2000; HDR10 from 2005;
    - coded as AVC and HEVC, from 2000 as AV1 too;
    - English audio (mono before 1940, stereo before 1990, then 5.1) and captions, also for the
      deaf; the more votes, the more dubbed and captioned languages;
    - credits at 95 % of the running time.
    """
    year = title.year
    languages = _languages(title.votes)
    return msgspec.structs.replace(
        title,
        protected=year >= 1929,
        max_height=720 if year < 1950 else 1080 if year < 2000 else 2160,
        hdr=("hdr10",) if year >= 2005 else (),
        codecs=("avc", "hevc", "av1") if year >= 2000 else ("avc", "hevc"),
        audio=_audio(languages, 1 if year < 1940 else 2 if year < 1990 else 6),
        captions=_captions(languages),
        markers=Markers(credits_ms=int(title.duration_ms * _CREDITS_AT)),
    )


def _languages(votes: int) -> tuple[str, ...]:
    many = (1_000, ("es", "fr")), (10_000, ("de", "it", "pt")), (50_000, ("ja", "ko"))
    return ("en", *(language for least, more in many if votes >= least for language in more))


@lru_cache(64)
def _audio(languages: tuple[str, ...], channels: int) -> tuple[Track, ...]:
    return tuple(Track(language=one, codec="aac", channels=channels) for one in languages)


@lru_cache(64)
def _captions(languages: tuple[str, ...]) -> tuple[Track, ...]:
    plain = tuple(Track(language=one, codec="wvtt") for one in languages)
    return (*plain, Track(language="en", role="sdh", codec="wvtt"))
