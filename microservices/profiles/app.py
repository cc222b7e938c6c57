"""profiles: who watches within an account, how grown-up they are, and their PINs."""

from __future__ import annotations

from chassis.identity.passwords import HashCost, Passwords
from chassis.service import Chassis, Service
from chassis.storage import Tables, open_tables
from microservices.profiles.api import ProfilesApi
from microservices.profiles.model import AccountProfiles
from microservices.profiles.store import ProfileStore


async def build(
    chassis: Chassis, *, tables: Tables | None = None, cost: HashCost | None = None
) -> Service:
    tables = tables or open_tables(chassis.settings.tables_url(chassis.name))
    await tables.prepare(AccountProfiles)
    passwords = Passwords(chassis.clock, cost)
    api = chassis.api()
    ProfilesApi(ProfileStore(tables), passwords, chassis.seal, chassis.clock).mount(api)
    return Service(api, closing=[tables.close, passwords.close])
