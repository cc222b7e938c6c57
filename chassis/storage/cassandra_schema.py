"""Brings a keyspace to the shape that the row types need, or says why it cannot be.

Cassandra does not order schema changes of several nodes, and two that make one table at the same
time can part for good. So whoever has something to change takes a lease, a row written by
compare-and-set, looks again, and waits until all nodes agree before going on. The lease's own
table has an identity that everybody computes alike: making it twice makes one.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from chassis.clock import Clock
from chassis.errors import SchemaFault, StoreUnavailable
from chassis.storage.cassandra_faults import OutcomeUnknown
from chassis.storage.cassandra_link import Link
from chassis.storage.cassandra_plan import Plan, StoredTable, planned, unfit
from chassis.storage.shape import Shape
from chassis.storage.statements import quoted

LEASE_S = 60
WAIT_S = 60.0
CHANGE_S = 15.0
_LOOK_EVERY_S = 0.1
_LEASES = "_schema_lease"


async def prepare(link: Link, shapes: Sequence[Shape[Any]], clock: Clock) -> None:
    """Creates and extends tables; `SchemaFault` lists every difference, and nothing is changed."""
    if not await _has_keyspace(link):
        await _make_keyspace(link)
        await _has_keyspace(link)
    await link.learn()
    if not (await _planned(link, shapes)).changes:
        return
    async with _lease(link, clock) as renew:
        for change in (await _planned(link, shapes)).changes:
            await link.run(change, timeout_s=CHANGE_S)
            await link.agree(CHANGE_S)
            await renew()


async def _planned(link: Link, shapes: Sequence[Shape[Any]]) -> Plan:
    plan = planned(shapes, await _stored(link), link.address.keyspace, link.release)
    if plan.faults:
        raise SchemaFault(
            f"{link.address} holds other tables than this version needs; migrate it or choose"
            " another keyspace:" + "".join(f"\n  - {fault}" for fault in plan.faults)
        )
    return plan


async def _stored(link: Link) -> dict[str, StoredTable]:
    where = f"WHERE keyspace_name = '{link.address.keyspace}'"
    tables = await link.run(
        f"SELECT table_name, default_time_to_live, compaction FROM system_schema.tables {where}"
    )
    columns = await link.run(
        f"SELECT table_name, column_name, kind, position, type FROM system_schema.columns {where}"
    )
    return {
        name: _table([row[1:] for row in columns.rows if row[0] == name], ttl_s, compaction)
        for name, ttl_s, compaction in tables.rows
    }


def _table(columns: Sequence[tuple[Any, ...]], ttl_s: int, compaction: Any) -> StoredTable:
    def keys(kind: str) -> tuple[str, ...]:
        found = sorted((position, name) for name, has, position, _ in columns if has == kind)
        return tuple(name for _, name in found)

    return StoredTable(
        keys("partition_key"),
        keys("clustering"),
        {name: kind for name, _, _, kind in columns},
        ttl_s or 0,
        str(dict(compaction or {}).get("class", "")),
    )


async def _has_keyspace(link: Link) -> bool:
    """Whether it is there; `SchemaFault` when its copies make quorums of this centre pointless."""
    address = link.address
    found = await link.run(
        "SELECT replication FROM system_schema.keyspaces"
        f" WHERE keyspace_name = '{address.keyspace}'"
    )
    if not found.rows:
        return False
    replication = dict(found.rows[0][0])
    fault = unfit(replication, address.dc, address.replication)
    if fault:
        raise SchemaFault(f"{address}: {fault}; alter the keyspace, then repair it")
    return True


async def _make_keyspace(link: Link) -> None:
    address = link.address
    await link.run(
        f"CREATE KEYSPACE IF NOT EXISTS {quoted(address.keyspace)} WITH replication ="
        f" {{'class': 'NetworkTopologyStrategy', '{address.dc}': {address.replication or 1}}}",
        timeout_s=CHANGE_S,
    )
    await link.agree(CHANGE_S)


@asynccontextmanager
async def _lease(link: Link, clock: Clock) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Alone among all processes that change this keyspace; the lease ends by itself unless it is
    renewed, which is due after each change: one takes half as long at most."""
    table = f"{quoted(link.address.keyspace)}.{quoted(_LEASES)}"
    identity = uuid.uuid5(uuid.NAMESPACE_URL, f"cassandra://{table}")
    await link.run(
        f"CREATE TABLE IF NOT EXISTS {table} (name text PRIMARY KEY, owner text)"
        f" WITH id = {identity}",
        timeout_s=CHANGE_S,
    )
    await link.agree(CHANGE_S)
    owner = clock.entropy(8).hex()
    until = clock.monotonic() + WAIT_S
    take = (
        f"INSERT INTO {table} (name, owner) VALUES ('schema', '{owner}')"
        f" IF NOT EXISTS USING TTL {LEASE_S}"
    )
    while not await _taken(link, take, owner):
        if clock.monotonic() > until:
            raise StoreUnavailable(f"{link.address}: another process keeps changing the schema")
        await clock.sleep(_LOOK_EVERY_S * (1 + clock.random()))
    mine = f"WHERE name = 'schema' IF owner = '{owner}'"

    async def renew() -> None:
        again = f"UPDATE {table} USING TTL {LEASE_S} SET owner = '{owner}' {mine}"
        if not (await link.run(again)).rows[0][0]:
            raise StoreUnavailable(f"{link.address}: another process took over the schema")

    try:
        yield renew
    finally:
        with suppress(StoreUnavailable):  # then it ends by itself
            await link.run(f"DELETE FROM {table} {mine}")


async def _taken(link: Link, take: str, owner: str) -> bool:
    try:
        answer = await link.run(take)
    except OutcomeUnknown:  # many at once: the next try tells
        return False
    row = dict(zip(answer.names, answer.rows[0], strict=True))
    return bool(row["[applied]"]) or row["owner"] == owner
