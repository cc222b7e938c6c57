"""What has to change in a keyspace for the row types, or what cannot be changed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from chassis.storage.cassandra_statements import VERSION
from chassis.storage.shape import Kind, Shape
from chassis.storage.statements import listed, quoted

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


def unfit(replication: Mapping[str, str], dc: str, asked: int | None) -> str | None:
    """What is wrong with a keyspace's replication for reads and writes at LOCAL_QUORUM."""
    if not replication.get("class", "").endswith("NetworkTopologyStrategy"):
        return f"it must be replicated by NetworkTopologyStrategy, not {replication.get('class')}"
    copies = int(replication.get(dc, "0").partition("/")[0])
    if not copies:
        return f"it keeps no copy in the data centre {dc!r}"
    if asked is not None and copies != asked:
        return f"it keeps {copies} copies in {dc!r}, not replication={asked}"
    return None
