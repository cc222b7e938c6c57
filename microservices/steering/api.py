"""The operations on steering."""

from __future__ import annotations

import msgspec

from chassis.contracts.streams import (
    RANK,
    SET_PATHWAY,
    PathwayState,
    Ranking,
    RankRequest,
    steering_path,
)
from chassis.contracts.wire import Nothing
from chassis.http.api import Api, Reply, Request
from microservices.steering.model import SteeringManifest, Viewer, rank, ttl_s, viewer_of
from microservices.steering.store import SteeringStore


class SteeringApi:
    """Which CDN to use, for plays and for players. Players ask again when the TTL has passed."""

    def __init__(self, store: SteeringStore) -> None:
        self._store = store

    def mount(self, api: Api) -> None:
        api.call(RANK, self.rank, at_once=True)
        api.call(SET_PATHWAY, self.set_pathway)
        api.route("GET", "/v1/steering/{sid}", self.manifest, answer=SteeringManifest, auth=False)

    async def rank(self, request: Request, query: RankRequest) -> Ranking:
        """CDN pathways for a session, best first."""
        viewer = Viewer(query.session_id, query.country, query.network)
        pathways = self._store.pathways
        return Ranking(
            pathways=rank(pathways, viewer),
            ttl_s=ttl_s(pathways),
            steering_url=steering_path(query.session_id, query.country, query.network),
        )

    async def set_pathway(self, request: Request, state: PathwayState) -> Nothing:
        """Admin: sets a pathway's health and weight."""
        await self._store.set(state)
        return Nothing()

    async def manifest(self, request: Request) -> Reply:
        """The steering manifest of a session, for HLS and DASH players."""
        viewer = viewer_of(request.params["sid"])
        pathways = self._store.pathways
        seconds = ttl_s(pathways)
        answer = SteeringManifest(
            version=1,
            ttl=seconds,
            reload_uri=steering_path(viewer.session_id, viewer.country, viewer.network),
            pathways=rank(pathways, viewer),
        )
        kept = [(b"cache-control", b"private, max-age=%d" % seconds)]
        return Reply(msgspec.json.encode(answer), headers=kept)
