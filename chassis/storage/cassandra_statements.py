"""The CQL of one row type. Pure text.

Every row has a column `_version`: what `put_versioned` stored it under, 0 or above; -1 after
`put`; and after a conditional write a number below 0 that nobody else uses, so that a writer
whose answer was lost can still find out that it was his.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from chassis.storage.shape import Shape
from chassis.storage.statements import listed, marks, quoted

VERSION = '"_version"'


class Statements:
    """Every statement that a shape needs. Values go in column order, but for whole rows that are
    stored: those in the order of `written`. Where some rows live more briefly, their seconds come
    last."""

    def __init__(self, shape: Shape[Any], keyspace: str, written: Sequence[str]) -> None:
        key = shape.key
        self._table = table = f"{quoted(keyspace)}.{quoted(key.table)}"
        self._columns = columns = listed(shape.names)
        self._partition, self._clustering = key.partition, key.clustering
        where = f"WHERE {_all(key.fields, ' AND ')}"
        into = f"INSERT INTO {table} ({listed(written)}, {VERSION}) VALUES ({marks(len(written))}"
        sets = ", ".join([f"{quoted(name)} = ?" for name in shape.rest] + [f"{VERSION} = ?"])
        same = " AND ".join([f"{quoted(n)} = ?" for n in shape.rest] + [f"{VERSION} < 0"])
        self.get = f"SELECT {columns} FROM {table} {where}"
        self.version = f"SELECT {VERSION} FROM {table} {where}"
        living = " USING TTL ?" if key.brief else ""
        self.put = f"{into}, -1){living}"
        self.put_versioned = f"{into}, ?) USING TIMESTAMP ?{' AND TTL ?' if key.brief else ''}"
        self.insert = f"{into}, ?) IF NOT EXISTS{living}"
        self.replace = f"UPDATE {table} SET {sets} {where} IF {same}"
        self.delete = f"DELETE FROM {table} {where}"
        self.delete_only = f"DELETE FROM {table} {where} IF {same}"
        self.scan = f"SELECT {columns} FROM {table}"

    def page(self, *, after: bool, reverse: bool) -> str:
        """Values: the partition, the clustering key to go on behind when `after`, the limit."""
        where = [_all(self._partition, " AND ")]
        if after:
            sign = "<" if reverse else ">"
            behind = marks(len(self._clustering))
            where.append(f"({listed(self._clustering)}) {sign} ({behind})")
        order = ""
        if reverse and self._clustering:
            order = " ORDER BY " + ", ".join(f"{quoted(name)} DESC" for name in self._clustering)
        return (
            f"SELECT {self._columns} FROM {self._table} WHERE {' AND '.join(where)}{order} LIMIT ?"
        )


def _all(names: Iterable[str], between: str) -> str:
    return between.join(f"{quoted(name)} = ?" for name in names)
