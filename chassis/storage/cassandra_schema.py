"""Brings a keyspace to the shape that the row types need, or says why it cannot be.

Cassandra does not order schema changes of several nodes, and two that make one table at the same
time can part for good. So whoever has something to change takes a lease, a row written by
compare-and-set, looks again, and waits until all nodes agree before going on. The lease's own
table has an identity that everybody computes alike: making it twice makes one.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from chassis.clock import Clock
from chassis.errors import SchemaFault, StoreUnavailable
from chassis.storage.cassandra_faults import OutcomeUnknown
from chassis.storage.cassandra_link import Link
from chassis.storage.cassandra_statements import VERSION, listed, quoted
from chassis.storage.shape import Kind, Shape

LEASE_S = 60
WAIT_S = 60.0
CHANGE_S = 15.0
_LOOK_EVERY_S = 0.1
_LEASES = "_schema_lease"
_TYPES: dict[Kind, str] = {
    "text": "text",
    "integer": "bigint",
    "real": "double",
    "blob": "blob",
    "json": "text",
}


@dataclass(frozen=True, slots=True)
class StoredTable:
    """Key columns in order, all columns' types, and the table's own settings."""

    partition: tuple[str, ...]
    clustering: tuple[str, ...]
    types: dict[str, str]
    ttl_s: int
    compaction: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be run, or what cannot be mended."""

    changes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


async def prepare(link: Link, shapes: Sequence[Shape[Any]], clock: Clock) -> None:
    """Creates and extends tables; `SchemaFault` lists every difference, and nothing is changed."""
    if not await _has_keyspace(link):
        await _make_keyspace(link)
        await _has_keyspace(link)
    await link.learn()
    if not (await _planned(link, shapes)).changes:
        return
    async with _lease(link, clock):
        for change in (await _planned(link, shapes)).changes:
            await link.run(change, timeout_s=CHANGE_S)
            await link.agree(CHANGE_S)


async def _planned(link: Link, shapes: Sequence[Shape[Any]]) -> Plan:
    plan = planned(shapes, await _stored(link), link.address.keyspace, link.release)
    if plan.faults:
        raise SchemaFault(
            f"{link.address} holds other tables than this version needs; migrate it or choose"
            " another keyspace:" + "".join(f"\n  - {fault}" for fault in plan.faults)
        )
    return plan


def planned(
    shapes: Sequence[Shape[Any]],
    stored: dict[str, StoredTable],
    keyspace: str,
    release: tuple[int, ...],
) -> Plan:
    """The changes that bring `stored` to `shapes`, in order."""
    changes: list[str] = []
    faults: list[str] = []
    for shape in {shape.key.table: shape for shape in shapes}.values():
        there = stored.get(shape.key.table)
        if there is None:
            changes.append(_creation(shape, keyspace, release))
        else:
            faults += _differences(shape, there)
            changes += _additions(shape, there, keyspace)
    return Plan(tuple(changes), tuple(faults))


def _creation(shape: Shape[Any], keyspace: str, release: tuple[int, ...]) -> str:
    key = shape.key
    columns = [f"{quoted(column.name)} {_TYPES[column.kind]}" for column in shape.columns]
    clustering = f", {listed(key.clustering)}" if key.clustering else ""
    # Rows are overwritten in place under timestamps that are no times: never by time windows.
    newer = release >= (5, 0)
    compaction = "UnifiedCompactionStrategy" if newer else "LeveledCompactionStrategy"
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted(keyspace)}.{quoted(key.table)}"
        f" ({', '.join(columns)}, {VERSION} bigint,"
        f" PRIMARY KEY (({listed(key.partition)}){clustering}))"
        f" WITH compaction = {{'class': '{compaction}'}}"
        f" AND default_time_to_live = {key.ttl_s or 0}"
    )


def _additions(shape: Shape[Any], there: StoredTable, keyspace: str) -> Iterable[str]:
    table = f"ALTER TABLE {quoted(keyspace)}.{quoted(shape.key.table)}"
    for column in shape.columns:
        if column.name not in there.types:
            yield f"{table} ADD IF NOT EXISTS {quoted(column.name)} {_TYPES[column.kind]}"
    if there.ttl_s != (shape.key.ttl_s or 0):
        yield f"{table} WITH default_time_to_live = {shape.key.ttl_s or 0}"


def _differences(shape: Shape[Any], there: StoredTable) -> Iterable[str]:
    table, key = shape.key.table, shape.key
    if there.partition + there.clustering != key.fields:
        has = ", ".join(there.partition + there.clustering)
        yield f"{table}: its key is {has}, not {', '.join(key.fields)}"
    elif there.partition != key.partition:
        has = ", ".join(there.partition)
        yield f"{table}: its partition is {has}, not {', '.join(key.partition)}"
    for column in shape.columns:
        has, wanted = there.types.get(column.name, ""), _TYPES[column.kind]
        if has and has != wanted:
            yield f"{table}.{column.name} is {has}, not {wanted}"
        elif not has and column.default is msgspec.NODEFAULT:
            yield f"{table}.{column.name} is missing and has no default"
        elif not has and column.optional and column.default is not None:
            yield f"{table}.{column.name} is missing, and older rows would have None there"
    if VERSION.strip('"') not in there.types:
        yield f"{table} was not made by this program: it has no column {VERSION}"
    if there.compaction.endswith("TimeWindowCompactionStrategy"):
        yield f"{table} is compacted by time windows, which lose rows that are overwritten"


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


def unfit(replication: dict[str, str], dc: str, asked: int | None) -> str | None:
    """What is wrong with a keyspace's replication for reads and writes at LOCAL_QUORUM."""
    if not replication.get("class", "").endswith("NetworkTopologyStrategy"):
        return f"it must be replicated by NetworkTopologyStrategy, not {replication.get('class')}"
    copies = int(replication.get(dc, "0").partition("/")[0])
    if not copies:
        return f"it keeps no copy in the data centre {dc!r}"
    if asked is not None and copies != asked:
        return f"it keeps {copies} copies in {dc!r}, not replication={asked}"
    return None


async def _make_keyspace(link: Link) -> None:
    address = link.address
    await link.run(
        f"CREATE KEYSPACE IF NOT EXISTS {quoted(address.keyspace)} WITH replication ="
        f" {{'class': 'NetworkTopologyStrategy', '{address.dc}': {address.replication or 1}}}",
        timeout_s=CHANGE_S,
    )
    await link.agree(CHANGE_S)


@asynccontextmanager
async def _lease(link: Link, clock: Clock) -> AsyncIterator[None]:
    """Alone among all processes that change this keyspace; the lease ends by itself."""
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
    try:
        yield
    finally:
        give = f"DELETE FROM {table} WHERE name = 'schema' IF owner = '{owner}'"
        await link.run(give)


async def _taken(link: Link, take: str, owner: str) -> bool:
    try:
        answer = await link.run(take)
    except OutcomeUnknown:  # many at once: the next try tells
        return False
    row = dict(zip(answer.names, answer.rows[0], strict=True))
    return bool(row["[applied]"]) or row["owner"] == owner
