"""The licence service: content keys for those who may have them."""

from __future__ import annotations

import os

from chassis import config
from chassis.http.client import Client
from chassis.service import Chassis, Service
from chassis.storage import Tables, open_tables
from microservices.licence.api import LicenceApi
from microservices.licence.store import ROWS, HttpKeyServers, LicenceSettings, LicenceStore


async def build(
    chassis: Chassis, *, tables: Tables | None = None, settings: LicenceSettings | None = None
) -> Service:
    settings = settings or config.load(LicenceSettings, os.environ, prefix="STAGEDOOR_LICENCE")
    tables = tables or open_tables(chassis.settings.tables_url(chassis.name))
    await tables.prepare(*ROWS)
    secret = await LicenceStore(tables, chassis.clock).content_secret()
    client = Client(clock=chassis.clock)
    api = chassis.api()
    LicenceApi(chassis.seal, chassis.clock, secret, HttpKeyServers(settings, client)).mount(api)
    return Service(api, closing=[tables.close, client.close])
