"""sessions: the concurrent streams of an account, as leases that end unless renewed."""

from __future__ import annotations

from chassis.contracts.events import SESSION_LEASE
from chassis.events import Spool, Topic, open_log
from chassis.events.measures import tell_of_spool
from chassis.service import Chassis, Service
from chassis.storage import Tables, open_tables
from microservices.sessions.api import SessionsApi
from microservices.sessions.model import LeasePolicy
from microservices.sessions.store import AccountLeases, Emitter, LeaseStore, Teller


async def build(
    chassis: Chassis,
    *,
    tables: Tables | None = None,
    emitter: Emitter | None = None,
    policy: LeasePolicy | None = None,
) -> Service:
    service = Service(chassis.api())
    if emitter is None:
        emitter = await _open_spool(chassis, service)
    tables = tables or open_tables(chassis.settings.tables_url(chassis.name))
    await tables.prepare(AccountLeases)
    teller = Teller(emitter, chassis.clock)
    store = LeaseStore(tables, teller, chassis.clock, policy or LeasePolicy())
    SessionsApi(store, chassis.clock).mount(service.app)
    service.background = (*service.background, teller.run, store.sweep_forever)
    service.closing = (*service.closing, tables.close, teller.finish)
    return service


async def _open_spool(chassis: Chassis, service: Service) -> Spool:
    settings = chassis.settings
    log = open_log(settings.log_url, chassis.clock)
    topic = Topic(SESSION_LEASE)
    await log.ensure(topic)
    telemetry, folder = chassis.telemetry, settings.root / "spool" / chassis.telemetry.instance
    spool = Spool(folder, log, chassis.clock, topics=[topic], say=telemetry.log.say)
    tell_of_spool(telemetry.metrics, spool)
    service.background = (spool.run,)
    service.closing = (log.close, spool.close)
    return spool
