"""membership: an account's plan and status, and what they allow."""

from __future__ import annotations

from chassis.service import Chassis, Service
from chassis.storage import Tables, open_tables
from microservices.membership.api import MembershipApi
from microservices.membership.model import Member
from microservices.membership.store import MemberStore


async def build(chassis: Chassis, *, tables: Tables | None = None) -> Service:
    tables = tables or open_tables(chassis.settings.tables_url(chassis.name))
    await tables.prepare(Member)
    api = chassis.api()
    store = MemberStore(tables, chassis.clock)
    MembershipApi(store, chassis.seal, chassis.clock).mount(api)
    return Service(api, closing=[tables.close])
