"""What to watch next: similar, trending and popular titles that fit the viewer. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import islice

from chassis.contracts.common import Maturity
from chassis.contracts.titles import Summaries, Summary
from chassis.contracts.viewing import (
    ContinueWatching,
    Shelf,
    ShelfTitle,
    Suggestion,
    TrendingPartial,
)

ROW = 20
SIMILAR = 30
BECAUSE_ROWS = 2
GENRE_POOL = 150
PRIOR_VOTES = 5_000

SAME_DIRECTOR = 3.0
SAME_GENRE = 2.0
SAME_ERA = 1.0
ERA_YEARS = 25.0


class Catalogue:
    """One generation of the catalogue, indexed for choosing. Never changes."""

    def __init__(self, summaries: Summaries) -> None:
        self.generation = summaries.generation
        self.titles = {one.title_id: one for one in summaries.titles}
        self.quality = _qualities(summaries.titles)
        self.popular = sorted(self.titles, key=lambda one: (-self.quality[one], one))
        self._of_genre: dict[str, list[str]] = {}
        self._of_director: dict[str, list[str]] = {}
        self._similar: dict[str, tuple[str, ...]] = {}
        for title_id in self.popular:
            title = self.titles[title_id]
            self._of_genre.setdefault(title.genre, []).append(title_id)
            if title.director:
                self._of_director.setdefault(title.director, []).append(title_id)

    def __repr__(self) -> str:
        return f"Catalogue(generation {self.generation}, {len(self.titles)} titles)"

    def similar(self, title_id: str) -> tuple[str, ...]:
        """The titles most like this one, best first; worked out once."""
        found = self._similar.get(title_id)
        if found is None:
            found = self._similar[title_id] = self._find_similar(title_id)
        return found

    def fitting(self, ids: Iterable[str], maturity: Maturity) -> Iterable[Summary]:
        """The known ones of `ids` that a viewer of this maturity may see."""
        for title_id in ids:
            title = self.titles.get(title_id)
            if title is not None and title.maturity <= maturity:
                yield title

    def _find_similar(self, title_id: str) -> tuple[str, ...]:
        title = self.titles.get(title_id)
        if title is None:
            return ()
        pool = {
            *self._of_director.get(title.director, ()),
            *self._of_genre[title.genre][:GENRE_POOL],
        }
        pool.discard(title_id)
        scored = sorted([(-self._likeness(title, self.titles[one]), one) for one in pool])
        return tuple([one for _, one in scored[:SIMILAR]])

    def _likeness(self, one: Summary, other: Summary) -> float:
        """Written flat: it runs a hundred times for a title that is asked for first."""
        likeness = self.quality[other.title_id] / 10.0
        if one.director == other.director and one.director:
            likeness += SAME_DIRECTOR
        if one.genre == other.genre:
            likeness += SAME_GENRE
        apart = abs(one.year - other.year)
        return likeness + SAME_ERA * (1.0 - apart / ERA_YEARS) if apart < ERA_YEARS else likeness


def _qualities(titles: Sequence[Summary]) -> dict[str, float]:
    """Scores drawn to the mean where few have voted, so that ten votes make no classic."""
    scored = [one.score for one in titles if one.score is not None]
    mean = sum(scored) / len(scored) if scored else 0.0
    return {
        one.title_id: (
            one.votes * (one.score if one.score is not None else mean) + PRIOR_VOTES * mean
        )
        / (one.votes + PRIOR_VOTES)
        for one in titles
    }


def trending(partials: Sequence[TrendingPartial]) -> list[str]:
    """Titles by decayed starts over all partials of a country, highest first.

    All are seen from the newest landmark: as time goes on every weight shrinks alike.
    """
    newest = max((partial.landmark_ms for partial in partials), default=0)
    sums: dict[str, float] = {}
    for partial in partials:
        half_lives = (newest - partial.landmark_ms) / (partial.half_life_s * 1000)
        factor = 2.0 ** -min(1_000.0, half_lives)
        for title_id, score in partial.scores.items():
            sums[title_id] = sums.get(title_id, 0.0) + score * factor
    return sorted(sums, key=lambda one: (-sums[one], one))


def up_next(
    catalogue: Catalogue,
    title_id: str,
    watched: Collection[str],
    trends: Sequence[str],
    maturity: Maturity,
) -> Suggestion | None:
    """The best unseen title after this one: similar, else what others watch."""
    sources = (
        ("similar", catalogue.similar(title_id), (title_id,)),
        ("trending", trends, ()),
        ("popular", catalogue.popular, ()),
    )
    for source, ids, because in sources:
        for title in catalogue.fitting(ids, maturity):
            if title.title_id not in watched and title.title_id != title_id:
                return Suggestion(
                    title_id=title.title_id,
                    name=title.name,
                    because=because,
                    source=source,  # type: ignore[arg-type]  # one of the three above
                )
    return None


def shelves(
    catalogue: Catalogue,
    rows: Sequence[ContinueWatching],
    trends: Sequence[str],
    country: str,
    maturity: Maturity,
) -> tuple[Shelf, ...]:
    """The rows of a home screen; `rows` newest first. Empty ones are left out."""
    seen = {row.title_id for row in rows}
    found = [
        going_on(catalogue, rows, maturity),
        Shelf(
            kind="trending",
            name=f"Trending in {country}",
            titles=_cards(catalogue, trends, maturity),
        ),
        *because(catalogue, rows, seen, maturity),
        Shelf(
            kind="popular",
            name="Popular",
            titles=_cards(catalogue, (i for i in catalogue.popular if i not in seen), maturity),
        ),
    ]
    return tuple(shelf for shelf in found if shelf.titles)


def going_on(catalogue: Catalogue, rows: Sequence[ContinueWatching], maturity: Maturity) -> Shelf:
    titles = []
    for row in rows:
        title = catalogue.titles.get(row.title_id)
        if row.done or row.position_ms == 0 or title is None or title.maturity > maturity:
            continue
        titles.append(_card(title, row.position_ms, row.duration_ms))
    return Shelf(kind="continue", name="Continue watching", titles=tuple(titles[:ROW]))


def because(
    catalogue: Catalogue,
    rows: Sequence[ContinueWatching],
    seen: Collection[str],
    maturity: Maturity,
) -> list[Shelf]:
    """One shelf each for the last titles watched."""
    latest = catalogue.fitting((row.title_id for row in rows), maturity)
    return [
        Shelf(
            kind="because",
            name=f"Because you watched {title.name}",
            titles=_cards(
                catalogue, (i for i in catalogue.similar(title.title_id) if i not in seen), maturity
            ),
            because=(title.title_id,),
        )
        for title in islice(latest, BECAUSE_ROWS)
    ]


def _cards(catalogue: Catalogue, ids: Iterable[str], maturity: Maturity) -> tuple[ShelfTitle, ...]:
    return tuple(_card(title) for title in islice(catalogue.fitting(ids, maturity), ROW))


def _card(
    title: Summary, position_ms: int | None = None, duration_ms: int | None = None
) -> ShelfTitle:
    return ShelfTitle(
        title_id=title.title_id,
        name=title.name,
        year=title.year,
        genre=title.genre,
        position_ms=position_ms,
        duration_ms=duration_ms,
    )
