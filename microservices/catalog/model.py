"""What a title is, and how a messy film list becomes titles.

The rules of an ingest, each applied to every row and each change reported:

- Names: accents that were read in the wrong encoding are mended where the misreading is provable
  (`mend`), runs of spaces become one.
- The release date must be a real day since 1888, else the row is refused. 1969-12-31 is what a
  missing date looks like (the last second before the UNIX epoch); it is kept and called doubtful.
- The same name on another day is a remake: both are kept, told apart by the year in their ids.
  The same name on the same day is refused.
- A rating gives the maturity; no rating, or one nobody knows, means `ADULTS`.
- A missing running time is the median of its genre and decade where at least three films are
  known, else of its genre, else of all films, else 100 minutes; such a title is marked.
- No genre is `Unclassified`.

What the source cannot know is derived, by the same rule for every title (`derive`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from statistics import median
from typing import ClassVar, Final, Literal

import msgspec

from chassis.contracts.common import Markers, Maturity, Track
from chassis.contracts.keys import Key

UNCLASSIFIED = "Unclassified"
FIRST_YEAR = 1888
MISSING_DATE = "1969-12-31"
MATURITIES: Final[Mapping[str, Maturity]] = {
    "G": Maturity.LITTLE_KIDS,
    "PG": Maturity.KIDS,
    "PG-13": Maturity.TEENS,
    "R": Maturity.ADULTS,
    "NC-17": Maturity.ADULTS,
}
_DEFAULT_MINUTES = 100
_LONGEST_MINUTES = 900
_ENOUGH_FILMS = 3
_CREDITS_AT = 0.95


class Title(msgspec.Struct, frozen=True, kw_only=True):
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


class Episode(msgspec.Struct, frozen=True, kw_only=True):
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


class Film(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the source as it was read. `line` is where it ends in the file."""

    line: int
    title: str
    released: str
    rating: str = ""
    minutes: str = ""
    genre: str = ""
    setting: str = ""
    director: str = ""
    audience_score: str = ""
    audience_votes: str = ""


Action = Literal["repaired", "filled", "assumed", "dropped", "doubtful", "remake", "refused"]


_Say = Callable[[Action, str, str], None]


class Note(msgspec.Struct, frozen=True):
    """One thing that the ingest did to one row, or found in it, and why."""

    line: int
    title: str
    action: Action
    what: str
    why: str


@dataclass(slots=True)
class Catalogued:
    """What came of a list of films: the titles, and a note for whatever was not plain."""

    titles: list[Title] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


class _Facts(msgspec.Struct, frozen=True, kw_only=True):
    """A row whose values are understood; `minutes` None when the source has none."""

    film: Film
    name: str
    released: str
    minutes: int | None
    genre: str
    score: float | None
    votes: int

    @property
    def decade(self) -> str:
        return self.released[:3]


def catalogue(films: Sequence[Film]) -> Catalogued:
    """Titles of all usable films, in the order of the source, and notes on the others."""
    made = Catalogued()
    facts = [fact for film in films if (fact := _read(film, made.notes)) is not None]
    facts = _without_doubles(facts, made.notes)
    clocks = _RunningTimes(facts)
    taken: set[str] = set()
    for fact in facts:
        title_id = _free_id(fact, taken)
        minutes, why = (fact.minutes, "") if fact.minutes else clocks.fill(fact)
        if why:
            made.notes.append(_note(fact, "filled", f"{minutes} minutes", why))
        made.titles.append(derive(_title(fact, title_id, minutes, filled=bool(why))))
    made.notes.sort(key=lambda note: note.line)
    return made


def _read(film: Film, notes: list[Note]) -> _Facts | None:
    name = _name(film, notes)

    def say(action: Action, what: str, why: str) -> None:
        notes.append(Note(film.line, name, action, what, why))

    if not name:
        say("refused", "title", "it is empty")
        return None
    fault = _date_fault(film.released)
    if fault:
        say("refused", f"released {film.released!r}", fault)
        return None
    if film.released == MISSING_DATE:
        say("doubtful", f"released {film.released}", "what a missing date looks like; kept")
    if film.rating not in MATURITIES:
        say("assumed", "maturity ADULTS", f"its rating is {film.rating or 'not given'}")
    if not film.genre:
        say("filled", f"genre {UNCLASSIFIED}", "the source has none")
    return _Facts(
        film=film,
        name=name,
        released=film.released,
        minutes=_whole(film.minutes, "minutes", 1, _LONGEST_MINUTES, say),
        genre=film.genre or UNCLASSIFIED,
        score=_number(film.audience_score, "audience score", 0, 10, say),
        votes=_whole(film.audience_votes, "votes", 0, 1 << 40, say) or 0,
    )


def _name(film: Film, notes: list[Note]) -> str:
    spaced = " ".join(film.title.split())
    if spaced != film.title:
        notes.append(Note(film.line, spaced, "repaired", "title", "it held spaces too many"))
    mended = mend(spaced)
    if mended is None:
        return spaced
    why = f"{spaced!r} is cp1252 read as Mac Roman"
    notes.append(Note(film.line, mended, "repaired", "title", why))
    return mended


def _date_fault(text: str) -> str:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return "it is no date of the form YYYY-MM-DD"
    if len(text) != 10:
        return "it is no date of the form YYYY-MM-DD"
    return "" if day.year >= FIRST_YEAR else f"films begin in {FIRST_YEAR}"


def _number(text: str, what: str, low: float, high: float, say: _Say) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = low - 1
    if low <= value <= high:
        return value
    say("dropped", f"{what} {text!r}", f"it is no number from {low:g} to {high:g}")
    return None


def _whole(text: str, what: str, low: int, high: int, say: _Say) -> int | None:
    value = _number(text, what, low, high, say)
    return None if value is None else round(value)


def _without_doubles(facts: Sequence[_Facts], notes: list[Note]) -> list[_Facts]:
    """Refuses a name seen before with the same day; notes the same name on another."""
    seen: dict[str, dict[str, int]] = {}
    kept: list[_Facts] = []
    for fact in facts:
        days = seen.setdefault(fold(fact.name), {})
        if fact.released in days:
            why = f"line {days[fact.released]} has the same title and date"
            notes.append(_note(fact, "refused", "row", why))
            continue
        if days:
            others = ", ".join(f"{day[:4]} (line {line})" for day, line in days.items())
            notes.append(_note(fact, "remake", f"of {fact.released[:4]}", f"also from {others}"))
        days[fact.released] = fact.film.line
        kept.append(fact)
    return kept


def _note(fact: _Facts, action: Action, what: str, why: str) -> Note:
    return Note(fact.film.line, fact.name, action, what, why)


class _RunningTimes:
    """Medians of the running times that are known."""

    def __init__(self, facts: Iterable[_Facts]) -> None:
        known: dict[tuple[str, ...], list[int]] = {}
        for fact in facts:
            if fact.minutes is not None:
                for group in ((fact.genre, fact.decade), (fact.genre,), ()):
                    known.setdefault(group, []).append(fact.minutes)
        self._medians = {
            group: round(median(minutes))
            for group, minutes in known.items()
            if len(minutes) >= _ENOUGH_FILMS or not group
        }

    def fill(self, fact: _Facts) -> tuple[int, str]:
        genre, decade = fact.genre, fact.decade
        for group, said in (
            ((genre, decade), f"median of {genre}, {decade}0s"),
            ((genre,), f"median of {genre}"),
            ((), "median of all films"),
        ):
            if group in self._medians:
                return self._medians[group], said
        return _DEFAULT_MINUTES, "no film of the source has a running time"


def _title(fact: _Facts, title_id: str, minutes: int, *, filled: bool) -> Title:
    film = fact.film
    return Title(
        title_id=title_id,
        name=fact.name,
        released=fact.released,
        rating=film.rating,
        maturity=MATURITIES.get(film.rating, Maturity.ADULTS),
        minutes=minutes,
        minutes_filled=filled,
        genre=fact.genre,
        setting=film.setting,
        director=film.director,
        score=fact.score,
        votes=fact.votes,
    )


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


def _free_id(fact: _Facts, taken: set[str]) -> str:
    """`name-year`, with the whole date, then a number, where that is taken."""
    slug = slug_of(fact.name)
    wanted = f"{slug}-{fact.released[:4]}"
    if wanted in taken:
        wanted = f"{slug}-{fact.released}"
    number, title_id = 2, wanted
    while title_id in taken:
        number, title_id = number + 1, f"{wanted}-{number}"
    taken.add(title_id)
    return title_id


def slug_of(name: str) -> str:
    """The name in `a-z 0-9 -`; its code points where nothing of it can be written so."""
    slug = re.sub("[^a-z0-9]+", "-", fold(name)).strip("-")[:80].rstrip("-")
    return slug or "u" + "-".join(f"{ord(letter):x}" for letter in name[:12])


_LETTERS = str.maketrans({"¢": "c", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d"})


def fold(text: str) -> str:
    """For comparing: no case, no accents, no apostrophes, other signs as spaces."""
    plain = unicodedata.normalize("NFKD", text.casefold().translate(_LETTERS))
    plain = "".join(c for c in plain if not unicodedata.combining(c) and c not in "'’`")
    return " ".join("".join(c if c.isalnum() else " " for c in plain).split())


def mend(text: str) -> str | None:
    """The text with cp1252 bytes that were read as Mac Roman read rightly; None when not provable.

    Proof needs every character outside ASCII to be out of place as it stands (a capital or a sign
    beside a small letter, a sign after a digit, a lone capital between words) and to make sense
    once read rightly (a small letter, a fraction, an ellipsis). `Léon` has no proof against it,
    `LÈon` has.
    """
    if text.isascii():
        return None
    try:
        right = text.encode("mac_roman").decode("cp1252")
    except UnicodeError:
        return None
    changed = [at for at, letter in enumerate(text) if not letter.isascii()]
    return right if all(_misread(text, right, at) for at in changed) else None


def _misread(text: str, right: str, at: int) -> bool:
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    wrong, meant = text[at], right[at]
    out_of_place = not wrong.islower()
    if meant == "…":
        return wrong.isupper() and (before.islower() or before == after == " ")
    if unicodedata.category(meant) == "No":
        return out_of_place and before.isdigit()
    if unicodedata.category(meant) != "Ll" or not out_of_place:
        return False
    if wrong.isupper() and "LATIN" in unicodedata.name(wrong, ""):
        return bool(before) and before.isalpha() and _small_beside(text, at)
    return before.islower() or after.islower()


def _small_beside(text: str, at: int) -> bool:
    """Whether the word around `at` has small letters before it, or after one leading capital."""
    start = text.rfind(" ", 0, at) + 1
    ahead = text[start:at]
    after = text[at + 1 : at + 2]
    return any(c.islower() for c in ahead) or (len(ahead) == 1 and after.islower())
