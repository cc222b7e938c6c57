"""All titles at once, ready to be asked. Every answer is a look-up, or one pass over the names.

Only the titles themselves are kept, and the names that searches compare: answers are made from
them when they are asked for, which takes a microsecond each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from chassis.contracts.common import Maturity
from chassis.contracts.titles import (
    EpisodeInfo,
    Episodes,
    Playable,
    PlayableQuery,
    Summary,
    TitleDetail,
    TitlePage,
)
from chassis.errors import BadRequest, NotFound
from microservices.catalog.model.names import fold
from microservices.catalog.model.titles import Episode, Title

ARTWORK = "https://images.stagedoor.example"
_ARTWORK_KINDS = ("poster", "backdrop")
_SHARED = ("audio", "captions", "hdr", "codecs", "genre", "setting", "director")


class Catalogue:
    """One generation of all titles, ready to be asked. Never changes."""

    def __init__(self, generation: int, titles: Iterable[Title], episodes: Iterable[Episode]):
        self.generation = generation
        ordered = sorted(titles, key=lambda title: (-title.votes, title.title_id))
        self._ordered = ordered
        self._names = [fold(title.name) for title in ordered]
        self._titles = {title.title_id: title for title in ordered}
        self._series = _by_series(episodes)
        self._episodes = {e.episode_id: e for series in self._series.values() for e in series}

    def __len__(self) -> int:
        return len(self._titles)

    def __repr__(self) -> str:
        return f"Catalogue(generation={self.generation}, titles={len(self)})"

    @property
    def summaries(self) -> tuple[Summary, ...]:
        """Every title, most watched first."""
        return tuple(map(_summary, self._ordered))

    def title(self, title_id: str) -> Title:
        title = self._titles.get(title_id)
        if title is None:
            raise NotFound(f"there is no title {title_id[:100]!r}", code="title_unknown")
        return title

    def playable(self, query: PlayableQuery) -> Playable:
        """What playing needs; of a series without an episode named, its first."""
        if (query.title_id is None) == (query.episode_id is None):
            raise BadRequest("give exactly one of title_id and episode_id")
        if query.title_id is not None:
            title = self.title(query.title_id)
            series = self._series.get(title.title_id)
            return self._playable(title, series[0] if series else None)
        episode = self._episode(query.episode_id or "")
        return self._playable(self.title(episode.title_id), episode)

    def next_episode(self, title_id: str, episode_id: str | None) -> str | None:
        """The episode after this one; the first when none is named; None at the end."""
        series = self._series.get(self.title(title_id).title_id, ())
        at = 0
        if episode_id is not None:
            at = series.index(self._episode(episode_id, of=title_id)) + 1
        return series[at].episode_id if at < len(series) else None

    def episodes(self, title_id: str) -> Episodes:
        series = self._series.get(self.title(title_id).title_id, ())
        return Episodes(title_id=title_id, episodes=tuple(map(_episode_info, series)))

    def page(
        self,
        *,
        words: str = "",
        genre: str = "",
        maturity: Maturity = Maturity.ADULTS,
        limit: int = 20,
        after: str | None = None,
    ) -> TitlePage:
        """Titles with all `words` in their names, those that begin so first, most watched first.

        `after` is the last title of the page before; `BadRequest` when it is not in the list.
        """
        found = self._find(fold(words), genre, maturity)
        start = 0
        if after is not None:
            ids = [title.title_id for title in found]
            if after not in ids:
                raise BadRequest("this cursor is not of this list; begin again without one")
            start = ids.index(after) + 1
        page = found[start : start + limit]
        more = start + limit < len(found)
        return TitlePage(
            titles=tuple(map(_summary, page)),
            total=len(found),
            next=page[-1].title_id if more else None,
        )

    def _find(self, words: str, genre: str, maturity: Maturity) -> list[Title]:
        titles, names = self._ordered, self._names
        found: Iterable[int] = range(len(titles))
        if maturity < Maturity.ADULTS:
            found = [at for at in found if titles[at].maturity <= maturity]
        if genre:
            wanted = genre.casefold()
            found = [at for at in found if titles[at].genre.casefold() == wanted]
        for word in words.split():
            found = [at for at in found if word in names[at]]
        if words:
            found = sorted(found, key=lambda at: not names[at].startswith(words))
        return [titles[at] for at in found]

    def _episode(self, episode_id: str, *, of: str | None = None) -> Episode:
        episode = self._episodes.get(episode_id)
        if episode is None or of not in (None, episode.title_id):
            raise NotFound(f"there is no episode {episode_id[:100]!r}", code="title_unknown")
        return episode

    def _playable(self, title: Title, episode: Episode | None) -> Playable:
        name = title.name if episode is None else f"{title.name}: {episode.name}"
        return Playable(
            title_id=title.title_id,
            episode_id=None if episode is None else episode.episode_id,
            name=name,
            maturity=title.maturity,
            duration_ms=title.duration_ms if episode is None else episode.minutes * 60_000,
            released=title.released if episode is None else episode.released,
            protected=title.protected,
            max_height=title.max_height,
            hdr=title.hdr,
            codecs=title.codecs,
            audio=title.audio,
            captions=title.captions,
            markers=title.markers if episode is None else episode.markers,
            genre=title.genre,
        )


class Sharing:
    """Makes equal values one object: thousands of titles have the same tracks, genre or director.

    To be applied while titles are read, so that what is not kept is gone before the next is there.
    """

    def __init__(self) -> None:
        self._seen: dict[object, Any] = {}

    def share(self, title: Title) -> Title:
        values = {name: getattr(title, name) for name in _SHARED}
        same = {name: self._seen.setdefault(value, value) for name, value in values.items()}
        return msgspec.structs.replace(title, **same)


def _by_series(episodes: Iterable[Episode]) -> Mapping[str, tuple[Episode, ...]]:
    series: dict[str, list[Episode]] = {}
    for episode in sorted(episodes, key=lambda e: (e.title_id, e.season, e.number)):
        series.setdefault(episode.title_id, []).append(episode)
    return {title_id: tuple(listed) for title_id, listed in series.items()}


def _summary(title: Title) -> Summary:
    return Summary(
        title_id=title.title_id,
        name=title.name,
        year=title.year,
        genre=title.genre,
        maturity=title.maturity,
        score=title.score,
        votes=title.votes,
        director=title.director,
    )


def _episode_info(episode: Episode) -> EpisodeInfo:
    return EpisodeInfo(
        episode_id=episode.episode_id,
        title_id=episode.title_id,
        season=episode.season,
        number=episode.number,
        name=episode.name,
        released=episode.released,
        duration_ms=episode.minutes * 60_000,
        markers=episode.markers,
    )


def detail(title: Title) -> TitleDetail:
    """The title as its own page shows it."""
    return TitleDetail(
        title_id=title.title_id,
        name=title.name,
        kind=title.kind,
        released=title.released,
        year=title.year,
        rating=title.rating,
        maturity=title.maturity,
        minutes=title.minutes,
        minutes_filled=title.minutes_filled,
        genre=title.genre,
        setting=title.setting,
        director=title.director,
        votes=title.votes,
        max_height=title.max_height,
        protected=title.protected,
        score=title.score,
        hdr=title.hdr,
        audio=title.audio,
        captions=title.captions,
        markers=title.markers,
        artwork={kind: f"{ARTWORK}/{title.title_id}/{kind}.jpg" for kind in _ARTWORK_KINDS},
    )
