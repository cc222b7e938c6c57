"""The catalogue service: what can be watched."""

from __future__ import annotations

from chassis.service import Chassis, Service
from chassis.storage import Tables, open_tables
from microservices.catalog.api import CatalogApi
from microservices.catalog.store import ROWS, CatalogStore


async def build(chassis: Chassis, *, tables: Tables | None = None) -> Service:
    tables = tables or open_tables(chassis.settings.tables_url(chassis.name))
    await tables.prepare(*ROWS)
    store = CatalogStore(tables, chassis.clock)
    await store.follower.refresh()
    api = chassis.api()
    CatalogApi(store).mount(api)
    return Service(api, background=[store.follower.run], closing=[tables.close])
