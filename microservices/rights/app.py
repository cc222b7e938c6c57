"""The rights service: where and when a title may be shown."""

from __future__ import annotations

from chassis.service import Chassis, Service
from chassis.storage import Tables, open_tables
from microservices.rights.api import RightsApi
from microservices.rights.store import ROWS, RightsStore


async def build(chassis: Chassis, *, tables: Tables | None = None) -> Service:
    tables = tables or open_tables(chassis.settings.tables_url(chassis.name))
    await tables.prepare(*ROWS)
    store = RightsStore(tables, chassis.clock)
    await store.follower.refresh()
    api = chassis.api()
    RightsApi(store, chassis.clock).mount(api)
    return Service(api, background=[store.follower.run], closing=[tables.close])
