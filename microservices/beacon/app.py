"""beacon: what players tell, checked and durable before it is answered."""

from __future__ import annotations

from chassis.contracts.events import PLAYBACK_BEACON
from chassis.events import Log, Spool, Topic, open_log
from chassis.events.measures import tell_of_spool
from chassis.events.spool import CAPACITY_BYTES
from chassis.service import Chassis, Service
from microservices.beacon.api import BeaconApi
from microservices.beacon.store import BeaconStore


async def build(
    chassis: Chassis, *, log: Log | None = None, capacity_bytes: int = CAPACITY_BYTES
) -> Service:
    settings, clock, telemetry = chassis.settings, chassis.clock, chassis.telemetry
    log = log or open_log(settings.log_url, clock)
    topic = Topic(PLAYBACK_BEACON)
    await log.ensure(topic)
    folder = settings.root / "spool" / telemetry.instance
    spool = Spool(folder, log, clock, capacity_bytes, topics=[topic], say=telemetry.log.say)
    tell_of_spool(telemetry.metrics, spool)
    store = BeaconStore(spool, clock, f"/beacon/{telemetry.instance}")
    api = chassis.api()
    BeaconApi(store, clock, telemetry.metrics).mount(api)
    return Service(api, background=[spool.run], closing=[log.close, spool.close])
