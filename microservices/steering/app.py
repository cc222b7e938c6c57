"""The steering service: which CDN pathway a session should use."""

from __future__ import annotations

from chassis.service import Chassis, Service
from chassis.storage import Tables, open_tables
from microservices.steering.api import SteeringApi
from microservices.steering.store import ROWS, SteeringStore


async def build(chassis: Chassis, *, tables: Tables | None = None) -> Service:
    tables = tables or open_tables(chassis.settings.tables_url(chassis.name))
    await tables.prepare(*ROWS)
    store = SteeringStore(tables, chassis.clock)
    await store.follower.refresh()
    api = chassis.api()
    SteeringApi(store).mount(api)
    return Service(api, background=[store.follower.run], closing=[tables.close])
