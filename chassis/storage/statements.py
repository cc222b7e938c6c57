"""The SQL of one row type. Pure text; SQLite's dialect."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chassis.storage.shape import Shape


class Statements:
    """Every statement that a shape needs, written once. Values go in column order."""

    def __init__(self, shape: Shape[Any]) -> None:
        key = shape.key
        self._table = table = quoted(key.table)
        self._columns = columns = listed(shape.names)
        self._partition, self._clustering, self._keys = key.partition, key.clustering, key.fields
        where = f"WHERE {_all(key.fields, '= ?')}"
        same = f"{where} AND {_all(shape.rest, 'IS ?')}" if shape.rest else where
        sets = ", ".join(f"{quoted(name)} = ?" for name in shape.rest or key.fields)
        into = f"INSERT INTO {table} ({columns}) VALUES ({_marks(len(shape.names))})"
        self.get = f"SELECT {columns} FROM {table} {where}"
        self.version = f"SELECT _version FROM {table} {where}"
        self.insert = f"{into} ON CONFLICT DO NOTHING"
        self.put = f"{into} {_on_conflict(shape, shape.rest)}"
        self.put_versioned = (
            f"INSERT INTO {table} ({columns}, _version) VALUES ({_marks(len(shape.names) + 1)})"
            f" {_on_conflict(shape, (*shape.rest, '_version'))}"
            f" WHERE excluded._version > ifnull({table}._version, -1)"
        )
        self.replace = f"UPDATE {table} SET {sets} {same}"
        self.delete = f"DELETE FROM {table} {where}"
        self.delete_only = f"DELETE FROM {table} {same}"

    def page(self, *, after: bool, reverse: bool) -> str:
        """Values: the partition, the clustering key to go on behind when `after`, the limit."""
        where = [_all(self._partition, "= ?")]
        if after:
            where.append(_beyond(self._clustering, "<" if reverse else ">"))
        direction = " DESC" if reverse else ""
        by = ", ".join(quoted(name) + direction for name in self._clustering or self._partition)
        return (
            f"SELECT {self._columns} FROM {self._table} WHERE {' AND '.join(where)}"
            f" ORDER BY {by} LIMIT ?"
        )

    def scan(self, *, after: bool) -> str:
        """Values: the whole key to go on behind when `after`, the limit."""
        where = f"WHERE {_beyond(self._keys, '>')} " if after else ""
        return (
            f"SELECT {self._columns} FROM {self._table} {where}"
            f"ORDER BY {listed(self._keys)} LIMIT ?"
        )


def quoted(name: str) -> str:
    return f'"{name}"'


def listed(names: Iterable[str]) -> str:
    return ", ".join(map(quoted, names))


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _all(names: Iterable[str], test: str) -> str:
    return " AND ".join(f"{quoted(name)} {test}" for name in names)


def _beyond(names: tuple[str, ...], sign: str) -> str:
    return f"({listed(names)}) {sign} ({_marks(len(names))})"


def _on_conflict(shape: Shape[Any], names: Iterable[str]) -> str:
    sets = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in names)
    action = f"UPDATE SET {sets}" if sets else "NOTHING"
    return f"ON CONFLICT ({listed(shape.key.fields)}) DO {action}"
