"""bookmarks: resume positions, read from the view that the stream writes."""

from __future__ import annotations

from chassis.contracts.events import PLAYBACK_BEACON
from chassis.contracts.viewing import ContinueWatching
from chassis.events import Log, Spool, Topic, open_log
from chassis.events.measures import tell_of_spool
from chassis.service import Chassis, Service
from chassis.storage import Tables, open_tables
from microservices.bookmarks.api import BookmarkApi
from microservices.bookmarks.store import BookmarkStore


async def build(
    chassis: Chassis, *, views: Tables | None = None, log: Log | None = None
) -> Service:
    settings, clock, telemetry = chassis.settings, chassis.clock, chassis.telemetry
    views = views or open_tables(settings.views_url)
    await views.prepare(ContinueWatching)
    log = log or open_log(settings.log_url, clock)
    topic = Topic(PLAYBACK_BEACON)
    await log.ensure(topic)
    folder = settings.root / "spool" / telemetry.instance
    spool = Spool(folder, log, clock, topics=[topic], say=telemetry.log.say)
    tell_of_spool(telemetry.metrics, spool)
    api = chassis.api()
    BookmarkApi(BookmarkStore(views, spool), clock, f"/bookmarks/{telemetry.instance}").mount(api)
    return Service(api, background=[spool.run], closing=[views.close, log.close, spool.close])
