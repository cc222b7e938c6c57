"""Brings an SQLite file to the shape that the row types need, or says why it cannot be."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from chassis.errors import SchemaFault
from chassis.storage.expiry import EXPIRES
from chassis.storage.shape import Column, Kind, Shape
from chassis.storage.statements import listed, quoted

_TYPES: dict[Kind, str] = {
    "text": "TEXT",
    "integer": "INTEGER",
    "real": "REAL",
    "blob": "BLOB",
    "json": "TEXT",
}


def prepare(shapes: Sequence[Shape[Any]], now_ms: int, connection: sqlite3.Connection) -> None:
    """Creates and extends tables; `SchemaFault` lists every difference, and nothing is changed.

    Rows that were there before their kind expired do so as if they were written now.
    """
    faults: list[str] = []
    for shape in shapes:
        stored = _stored(connection, shape.key.table)
        faults += _differences(shape, stored) if stored else []
        for sql in _additions(shape, stored, now_ms) if stored else [_creation(shape)]:
            if not faults:
                connection.execute(sql)
    if faults:
        raise SchemaFault(
            "the store holds other tables than this version needs; migrate it or choose another"
            " file:" + "".join(f"\n  - {fault}" for fault in faults)
        )


def _stored(connection: sqlite3.Connection, table: str) -> dict[str, tuple[str, int]]:
    """Column name to (type, place in the primary key from 1, else 0)."""
    rows = connection.execute(f"PRAGMA table_info({quoted(table)})").fetchall()
    return {name: (kind, place) for _, name, kind, _, _, place in rows}


def _creation(shape: Shape[Any]) -> str:
    columns = ", ".join(_definition(column) for column in shape.columns)
    hidden = "_version INTEGER" + ("" if shape.key.ttl_s is None else f", {EXPIRES} INTEGER")
    return (
        f"CREATE TABLE {quoted(shape.key.table)} ({columns}, {hidden},"
        f" PRIMARY KEY ({listed(shape.key.fields)})) STRICT, WITHOUT ROWID"
    )


def _additions(shape: Shape[Any], stored: dict[str, tuple[str, int]], now_ms: int) -> Iterable[str]:
    for column in shape.columns:
        if column.name not in stored:
            yield f"ALTER TABLE {quoted(shape.key.table)} ADD COLUMN {_definition(column)}"
    if shape.key.ttl_s is not None and EXPIRES not in stored:
        yield f"ALTER TABLE {quoted(shape.key.table)} ADD COLUMN {EXPIRES} INTEGER"
        yield f"UPDATE {quoted(shape.key.table)} SET {EXPIRES} = {now_ms + shape.key.ttl_s * 1000}"


def _definition(column: Column) -> str:
    text = f"{quoted(column.name)} {_TYPES[column.kind]}"
    text += "" if column.optional else " NOT NULL"
    if column.default is msgspec.NODEFAULT or column.default is None:
        return text
    return f"{text} DEFAULT {_literal(column.default)}"


def _literal(value: Any) -> str:
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, bool | int):
        return str(int(value))
    if isinstance(value, float):
        return repr(value)
    return "'" + str(value).replace("'", "''") + "'"


def _differences(shape: Shape[Any], stored: dict[str, tuple[str, int]]) -> Iterable[str]:
    table = shape.key.table
    keys = [name for name, (_, place) in sorted(stored.items(), key=lambda i: i[1][1]) if place]
    if keys != list(shape.key.fields):
        yield f"{table}: its key is {', '.join(keys)}, not {', '.join(shape.key.fields)}"
    for column in shape.columns:
        wanted = _TYPES[column.kind]
        if column.name not in stored:
            if column.default is msgspec.NODEFAULT:
                yield f"{table}.{column.name} is missing and has no default"
        elif stored[column.name][0] != wanted:
            yield f"{table}.{column.name} is {stored[column.name][0]}, not {wanted}"
