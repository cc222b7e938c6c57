"""The lease of who changes a keyspace: it ends by itself, and whoever lost it stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from chassis.clock import SYSTEM
from chassis.errors import StoreUnavailable
from chassis.storage import open_tables
from chassis.storage.cassandra_link import Link
from chassis.storage.cassandra_schema import _lease, prepare
from chassis.storage.cassandra_url import address_of
from chassis.storage.shape import Shape
from tests.support import real
from tests.support.keyspaces import Keyspace
from tests.support.rows import Alone, OnlyKey


@pytest.fixture(scope="module")
def keyspace() -> Iterator[Keyspace]:
    """One that was prepared for other rows before, so that its lease has a table."""
    keyspace = Keyspace(real.fresh("cassandra"))

    async def made() -> None:
        tables = open_tables(keyspace.url)
        await tables.prepare(OnlyKey)
        await tables.close()

    asyncio.run(made())
    yield keyspace
    keyspace.drop()


def owned_by_another(keyspace: Keyspace, ttl_s: int) -> None:
    keyspace.run(
        f"UPDATE {keyspace.name}.\"_schema_lease\" USING TTL {ttl_s} SET owner = 'another'"
        " WHERE name = 'schema' IF owner != 'nobody'"
    )


async def test_a_lease_whose_owner_died_is_waited_for_until_it_ends(keyspace: Keyspace) -> None:
    keyspace.run(
        f"INSERT INTO {keyspace.name}.\"_schema_lease\" (name, owner) VALUES ('schema', 'dead')"
        " IF NOT EXISTS USING TTL 3"
    )
    began = time.monotonic()
    tables = open_tables(keyspace.url)
    async with asyncio.timeout(30):
        await tables.prepare(Alone)
    assert time.monotonic() - began > 1
    await tables.put(Alone("a", 1))
    await tables.close()


async def test_whoever_lost_the_lease_changes_nothing_more(keyspace: Keyspace) -> None:
    link = Link(address_of(keyspace.url))
    await prepare(link, [Shape(OnlyKey)], SYSTEM)
    async with _lease(link, SYSTEM) as renew:
        await renew()
        owned_by_another(keyspace, 1)
        with pytest.raises(StoreUnavailable, match="another process took over the schema"):
            await renew()
    await link.close()
