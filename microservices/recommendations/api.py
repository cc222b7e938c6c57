"""The operations of recommendations."""

from __future__ import annotations

from chassis.contracts.common import Maturity
from chassis.contracts.viewing import UP_NEXT, Shelves, UpNext, UpNextQuery
from chassis.http.api import Api, Request
from chassis.identity import Passport
from microservices.recommendations import model
from microservices.recommendations.store import CatalogueFollower, ViewStore

NOWHERE = "ZZ"


class RecommendationApi:
    def __init__(self, catalogue: CatalogueFollower, views: ViewStore) -> None:
        self._catalogue = catalogue
        self._views = views

    def mount(self, api: Api) -> None:
        api.call(UP_NEXT, self.up_next, at_once=True)
        api.route("GET", "/v1/recommendations", self.shelves, answer=Shelves)

    async def up_next(self, request: Request, body: UpNextQuery) -> UpNext:
        """What to offer when this title ends."""
        catalogue = self._catalogue.present
        watched = {row.title_id for row in await self._views.watched(body.profile_id)}
        trends = await self._views.trends(body.country)
        return UpNext(
            suggestion=model.up_next(catalogue, body.title_id, watched, trends, body.maturity)
        )

    async def shelves(self, request: Request) -> Shelves:
        """The rows of a profile's home screen."""
        passport = request.passport
        profile_id = passport.profile
        catalogue = self._catalogue.present
        country = passport.country or NOWHERE
        rows = await self._views.watched(profile_id)
        trends = await self._views.trends(country)
        return Shelves(
            generation=catalogue.generation,
            rows=model.shelves(catalogue, rows, trends, country, _maturity(passport)),
        )


def _maturity(passport: Passport) -> Maturity:
    """What the viewer may see; of an unknown one only what is for everybody."""
    known = passport.maturity
    if known is None:
        return Maturity.LITTLE_KIDS
    return Maturity(max(Maturity.LITTLE_KIDS, min(Maturity.ADULTS, known)))
