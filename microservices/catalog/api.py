"""The catalogue's operations."""

from __future__ import annotations

from chassis.contracts.common import Maturity
from chassis.contracts.titles import (
    NEXT,
    PLAYABLE,
    SUMMARIES,
    Episodes,
    NextEpisode,
    NextQuery,
    Playable,
    PlayableQuery,
    Summaries,
    SummariesQuery,
    TitleDetail,
    TitlePage,
)
from chassis.errors import BadRequest, Forbidden
from chassis.http.api import Api, Request
from microservices.catalog.model import Title, detail
from microservices.catalog.store import CatalogStore

PAGE = 20
LARGEST_PAGE = 100
LONGEST_QUERY = 200


class CatalogApi:
    """What is in the catalogue. A profile is not shown what it may not watch."""

    def __init__(self, store: CatalogStore) -> None:
        self._store = store

    def mount(self, api: Api) -> None:
        api.call(PLAYABLE, self.playable, at_once=True)
        api.call(NEXT, self.next)
        api.call(SUMMARIES, self.summaries)
        api.route("GET", "/v1/titles", self.titles, answer=TitlePage)
        api.route("GET", "/v1/titles/{title_id}", self.title, answer=TitleDetail)
        api.route("GET", "/v1/titles/{title_id}/episodes", self.episodes, answer=Episodes)

    async def playable(self, request: Request, query: PlayableQuery) -> Playable:
        """Everything about a title that playing it needs."""
        return self._store.catalogue.playable(query)

    async def next(self, request: Request, query: NextQuery) -> NextEpisode:
        """The episode after this one."""
        following = self._store.catalogue.next_episode(query.title_id, query.episode_id)
        return NextEpisode(episode_id=following)

    async def summaries(self, request: Request, query: SummariesQuery) -> Summaries:
        """Every title in short, unless the caller has this generation."""
        catalogue = self._store.catalogue
        known = query.known == catalogue.generation
        return Summaries(
            generation=catalogue.generation, titles=() if known else catalogue.summaries
        )

    async def titles(self, request: Request) -> TitlePage:
        """Titles by name (`q`) and `genre`, most watched first, `limit` and `cursor` to page."""
        words = request.query("q") or ""
        if len(words) > LONGEST_QUERY:
            raise BadRequest(f"q may have {LONGEST_QUERY} characters at most")
        return self._store.catalogue.page(
            words=words,
            genre=request.query("genre") or "",
            maturity=_maturity(request),
            limit=_limit(request.query("limit")),
            after=request.query("cursor"),
        )

    async def title(self, request: Request) -> TitleDetail:
        """One title in full."""
        return detail(self._shown(request))

    async def episodes(self, request: Request) -> Episodes:
        """A series' episodes in order; none of a film."""
        return self._store.catalogue.episodes(self._shown(request).title_id)

    def _shown(self, request: Request) -> Title:
        title = self._store.catalogue.title(request.params["title_id"])
        if title.maturity > _maturity(request):
            raise Forbidden("this profile may not see this title", code="maturity")
        return title


def _maturity(request: Request) -> Maturity:
    """What the asking profile may see; everything when no profile was chosen yet."""
    maturity = request.passport.maturity
    return Maturity.ADULTS if maturity is None else Maturity(maturity)


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:4]) <= LARGEST_PAGE):
        raise BadRequest(f"limit must be a whole number from 1 to {LARGEST_PAGE}")
    return int(text)
