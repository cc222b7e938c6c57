"""The manifest service: what a player fetches to know what to fetch."""

from __future__ import annotations

from chassis.service import Chassis, Service
from chassis.storage import Tables, open_tables
from microservices.manifest.api import ManifestApi
from microservices.manifest.store import ROWS, ManifestStore


async def build(chassis: Chassis, *, tables: Tables | None = None) -> Service:
    tables = tables or open_tables(chassis.settings.tables_url(chassis.name))
    await tables.prepare(*ROWS)
    secret = await ManifestStore(tables, chassis.clock).cdn_secret()
    api = chassis.api()
    ManifestApi(chassis.seal, chassis.clock, secret).mount(api)
    return Service(api, closing=[tables.close])
