"""How a messy film list becomes titles.

The rules of an ingest, each applied to every row and each change reported:

- Names: accents that were read in the wrong encoding are mended where the misreading is provable
  (`mend`), runs of spaces become one, an article at the end goes to the front.
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

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from statistics import median
from typing import Final, Literal

import msgspec

from chassis.contracts.common import Maturity
from microservices.catalog.model.names import fold, mend, slug_of
from microservices.catalog.model.titles import UNCLASSIFIED, Title, derive

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


def titles_from(films: Sequence[Film]) -> Catalogued:
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
    name = film.title
    for repair, why in (
        (_spaced, "it held spaces too many"),
        (_turned, "the article stood at the end"),
        (mend, "cp1252 was read as Mac Roman"),
    ):
        better = repair(name)
        if better is not None:
            notes.append(Note(film.line, better, "repaired", "title", f"{name!r}: {why}"))
            name = better
    return name


def _spaced(name: str) -> str | None:
    spaced = " ".join(name.split())
    return spaced if spaced != name else None


def _turned(name: str) -> str | None:
    rest, comma, article = name.rpartition(", ")
    return f"{article} {rest}" if comma and article in ("The", "A", "An") else None


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
