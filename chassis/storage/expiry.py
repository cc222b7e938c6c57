"""Rows that are gone some time after they were last written, in a store that forgets nothing.

An expired row is not read, and loses against whatever is written in its place. It is taken away
as others are written: every write looks at a few rows more than it writes, further on in the order
of keys, so the table is gone through again and again at a cost that writers do not notice.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from chassis.storage.shape import Shape
from chassis.storage.statements import Statements

EXPIRES = "_expires"
_MOST = 512


class Sweep:
    """Goes through one table; steps are made in the writer's thread only."""

    def __init__(self, shape: Shape[Any], statements: Statements) -> None:
        self._width = len(shape.key.fields)
        self._statements = statements
        self._after: tuple[Any, ...] = ()

    def step(self, connection: sqlite3.Connection, written: int, now_ms: int) -> None:
        """Takes away what has expired among the next rows."""
        count = min(_MOST, 2 * written + 8)
        sql = self._statements.expiring(after=bool(self._after))
        found = connection.execute(sql, (*self._after, count)).fetchall()
        self._after = found[-1][: self._width] if len(found) == count else ()
        dead = [row[: self._width] for row in found if row[-1] is not None and row[-1] <= now_ms]
        connection.executemany(self._statements.sweep, dead)
