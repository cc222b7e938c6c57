"""experiments: which cell of which test an account is in."""

from __future__ import annotations

from chassis.service import Chassis, Service
from chassis.storage import Tables, open_tables
from microservices.experiments.api import ExperimentsApi
from microservices.experiments.model import StoredTest
from microservices.experiments.store import ExperimentStore


async def build(chassis: Chassis, *, tables: Tables | None = None) -> Service:
    tables = tables or open_tables(chassis.settings.tables_url(chassis.name))
    await tables.prepare(StoredTest)
    store = ExperimentStore(tables, chassis.clock)
    await store.load()
    api = chassis.api()
    ExperimentsApi(store).mount(api)
    return Service(api, background=[store.follow], closing=[tables.close])
