"""recommendations: what to watch next, from the catalogue and the views of the stream."""

from __future__ import annotations

from chassis.contracts.titles import SUMMARIES
from chassis.contracts.viewing import ContinueWatching, TrendingPartial
from chassis.service import Chassis, Service
from chassis.storage import Tables, open_tables
from microservices.recommendations.api import RecommendationApi
from microservices.recommendations.store import Ask, CatalogueFollower, ViewStore


async def build(
    chassis: Chassis, *, views: Tables | None = None, summaries: Ask | None = None
) -> Service:
    views = views or open_tables(chassis.settings.views_url)
    await views.prepare(ContinueWatching, TrendingPartial)
    ask = summaries or chassis.peer(SUMMARIES, timeout_s=2.0)
    follower = CatalogueFollower(ask, chassis.clock, chassis.telemetry.log)
    api = chassis.api()
    RecommendationApi(follower, ViewStore(views, chassis.clock)).mount(api)
    return Service(api, background=[follower.run], closing=[views.close])
