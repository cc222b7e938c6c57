"""The SQL of one row type. Pure text; SQLite's dialect."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chassis.storage.shape import Shape


class Statements:
    """Every statement that a shape needs, written once. Values go in column order.

    Where rows expire, those that are stored are followed by when they do, and all conditions by
    the present: in milliseconds of the UNIX epoch.
    """

    def __init__(self, shape: Shape[Any]) -> None:
        key = shape.key
        expires = () if key.ttl_s is None else ("_expires",)
        self._alive = ' AND ("_expires" IS NULL OR "_expires" > ?)' if expires else ""
        self._table = table = quoted(key.table)
        self._columns = columns = listed(shape.names)
        self._partition, self._clustering, self._keys = key.partition, key.clustering, key.fields
        by_key = f"WHERE {_all(key.fields, '= ?')}"
        where = by_key + self._alive
        same = f"{by_key} AND {_all(shape.rest, 'IS ?')}" if shape.rest else by_key
        same += self._alive
        sets = ", ".join(f"{quoted(n)} = ?" for n in (*(shape.rest or key.fields), *expires))
        stored = (*shape.names, *expires)
        into = f"INSERT INTO {table} ({listed(stored)}) VALUES ({marks(len(stored))})"
        dead = f"{table}._expires <= excluded._expires - {_lives_ms(shape)}"
        self.get = f"SELECT {columns} FROM {table} {where}"
        self.version = f"SELECT _version FROM {table} {where}"
        self.insert = f"{into} ON CONFLICT DO NOTHING"
        self.put = f"{into} {_on_conflict(shape, (*shape.rest, *expires))}"
        self.put_versioned = (
            f"INSERT INTO {table} ({listed(stored)}, _version) VALUES ({marks(len(stored) + 1)})"
            f" {_on_conflict(shape, (*shape.rest, *expires, '_version'))}"
            f" WHERE excluded._version > ifnull({table}._version, -1)"
        )
        if expires:
            over = _on_conflict(
                shape, (*shape.rest, *expires, "_version")
            )  # the dead row's version goes, too
            self.insert = f"{into} {over} WHERE {dead}"
            self.put_versioned += f" OR {dead}"
        self.replace = f"UPDATE {table} SET {sets} {same}"
        self.delete = f"DELETE FROM {table} {where}"
        self.delete_only = f"DELETE FROM {table} {same}"
        self.sweep = f"DELETE FROM {table} {by_key}"
        self._keys_of = f"SELECT {listed((*key.fields, *expires))} FROM {table}"

    def page(self, *, after: bool, reverse: bool) -> str:
        """Values: the partition, the clustering key to go on behind when `after`, the present
        where rows expire, the limit."""
        where = [_all(self._partition, "= ?")]
        if after:
            where.append(_beyond(self._clustering, "<" if reverse else ">"))
        direction = " DESC" if reverse else ""
        by = ", ".join(quoted(name) + direction for name in self._clustering or self._partition)
        return (
            f"SELECT {self._columns} FROM {self._table} WHERE {' AND '.join(where)}{self._alive}"
            f" ORDER BY {by} LIMIT ?"
        )

    def scan(self, *, after: bool) -> str:
        """Values: the whole key to go on behind when `after`, the present where rows expire, the
        limit."""
        where = f"WHERE {_beyond(self._keys, '>') if after else 'TRUE'}{self._alive}"
        return (
            f"SELECT {self._columns} FROM {self._table} {where}"
            f" ORDER BY {listed(self._keys)} LIMIT ?"
        )

    def expiring(self, *, after: bool) -> str:
        """Keys and when they expire. Values: as of `scan`, without the present."""
        where = f" WHERE {_beyond(self._keys, '>')}" if after else ""
        return f"{self._keys_of}{where} ORDER BY {listed(self._keys)} LIMIT ?"


def _lives_ms(shape: Shape[Any]) -> str:
    """How long the row lives that is being written."""
    ttl_ms = (shape.key.ttl_s or 0) * 1000
    if shape.key.brief is None:
        return str(ttl_ms)
    name, brief_s = shape.key.brief
    return f"iif(excluded.{quoted(name)}, {brief_s * 1000}, {ttl_ms})"


def quoted(name: str) -> str:
    return f'"{name}"'


def listed(names: Iterable[str]) -> str:
    return ", ".join(map(quoted, names))


def marks(count: int) -> str:
    return ", ".join("?" * count)


def _all(names: Iterable[str], test: str) -> str:
    return " AND ".join(f"{quoted(name)} {test}" for name in names)


def _beyond(names: tuple[str, ...], sign: str) -> str:
    return f"({listed(names)}) {sign} ({marks(len(names))})"


def _on_conflict(shape: Shape[Any], names: Iterable[str]) -> str:
    sets = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in names)
    action = f"UPDATE SET {sets}" if sets else "NOTHING"
    return f"ON CONFLICT ({listed(shape.key.fields)}) DO {action}"
