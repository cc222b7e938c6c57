"""Tables in one SQLite file. Reads run inline on the loop; writes share commits in one thread."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from chassis.clock import SYSTEM, Clock
from chassis.disk.commit import GroupCommit
from chassis.disk.files import path_of
from chassis.disk.sqlite import Operation, commit_together, connect, translated
from chassis.errors import Faulty, Unprocessable
from chassis.storage.expiry import Sweep
from chassis.storage.schema import prepare
from chassis.storage.shape import Shape
from chassis.storage.statements import Statements
from chassis.storage.tables import Capabilities, Row

R = TypeVar("R", bound=Row)
_SCAN_ROWS = 256


class Batch(NamedTuple):
    """Rows of one type, and who takes away the expired ones among them."""

    values: list[Sequence[Any]]
    sweep: Sweep | None


class SqliteTables:
    """The tables port on SQLite. Several processes may open the same file."""

    capabilities: Final = Capabilities(
        isolated_batches=True, first_of_equal_versions=True, empty_partitions=True
    )

    def __init__(self, path: Path, clock: Clock = SYSTEM) -> None:
        self._path = path
        self._clock = clock
        self._writer = connect(path, writes=True)
        self._reader = connect(path, writes=False)
        self._writes: GroupCommit[Operation, Any] = GroupCommit(
            f"tables {path.name}", partial(commit_together, self._writer, path)
        )
        self._tables: dict[type[Row], tuple[Shape[Any], Statements]] = {}
        self._sweeps: dict[type[Row], Sweep] = {}
        self._closed = False

    @classmethod
    def open(cls, url: str, clock: Clock = SYSTEM) -> SqliteTables:
        return cls(path_of(url, what="the tables URL", example="sqlite:///var/lib/rows.db"), clock)

    def __repr__(self) -> str:
        return f"SqliteTables({self._path})"

    async def prepare(self, *rows: type[Row]) -> None:
        shapes = [self._of(row)[0] for row in rows]
        await self._writes.submit(partial(prepare, shapes, self._now_ms()))

    async def get(self, row: type[R], *key: Any) -> R | None:
        shape, statements = self._of(row)
        values = shape.key_values(key, shape.key.fields)
        found = self._read(statements.get, [*values, *self._present(shape)], one=True)
        return shape.make(found[0]) if found else None

    async def get_many(self, row: type[R], keys: Sequence[tuple[Any, ...]]) -> list[R | None]:
        return [await self.get(row, *key) for key in keys]

    async def version(self, row: type[Row], *key: Any) -> int | None:
        shape, statements = self._of(row)
        values = shape.key_values(key, shape.key.fields)
        found = self._read(statements.version, [*values, *self._present(shape)], one=True)
        return found[0][0] if found else None

    async def page(
        self,
        row: type[R],
        *partition: Any,
        limit: int = 100,
        after: tuple[Any, ...] | None = None,
        reverse: bool = False,
    ) -> list[R]:
        shape, statements = self._of(row)
        values: Sequence[Any] = shape.key_values(partition, shape.key.partition)
        if after is not None:
            values = [*values, *shape.key_values(after, shape.key.clustering)]
        sql = statements.page(after=after is not None, reverse=reverse)
        present = self._present(shape)
        found = self._read(sql, [*values, *present, max(0, limit)])
        return [shape.make(one) for one in found]

    async def scan(self, row: type[R]) -> AsyncIterator[R]:
        shape, statements = self._of(row)
        found = self._read(statements.scan(after=False), [*self._present(shape), _SCAN_ROWS])
        while found:
            for values in found:
                yield shape.make(values)
            last = shape.pick(found[-1], shape.key.fields)
            await asyncio.sleep(0)
            place = [*last, *self._present(shape), _SCAN_ROWS]
            found = self._read(statements.scan(after=True), place)

    async def put(self, *rows: Row, together: bool = True) -> None:
        batches: dict[str, Batch] = {}
        for row in rows:
            shape, statements = self._of(type(row))
            batch = batches.setdefault(statements.put, Batch([], self._sweeps.get(type(row))))
            batch.values.append(self._expiring(shape, _encoded(shape, row)))
        if batches:
            await self._writes.submit(partial(_run_many, batches, self._now_ms()))

    async def put_versioned(self, rows: Sequence[tuple[Row, int]]) -> None:
        kinds: dict[type[Row], list[tuple[Row, int]]] = {}
        for pair in rows:
            kinds.setdefault(type(pair[0]), []).append(pair)
        batches: dict[str, Batch] = {}
        for kind, pairs in kinds.items():
            shape, statements = self._of(kind)
            if any(version < 0 for _, version in pairs):
                raise Unprocessable(f"{shape.key.table}: a version is 0 or above")
            values: list[Sequence[Any]] = [
                (*self._expiring(shape, _encoded(shape, row)), version) for row, version in pairs
            ]
            with suppress(TypeError):  # values that cannot be compared cannot be stored either
                values.sort(key=shape.key_of)
            batches[statements.put_versioned] = Batch(values, self._sweeps.get(kind))
        if batches:
            await self._writes.submit(partial(_run_many, batches, self._now_ms()))

    async def insert(self, row: Row) -> bool:
        shape, statements = self._of(type(row))
        values = self._expiring(shape, _encoded(shape, row))
        return await self._write(statements.insert, values)

    async def replace(self, old: R, new: R) -> bool:
        shape, statements = self._of(type(old))
        before, after = _encoded(shape, old), _encoded(shape, new)
        shape.check_replaceable()
        keys = shape.key.fields
        if type(old) is not type(new) or shape.pick(before, keys) != shape.pick(after, keys):
            raise Faulty(f"replace in {shape.key.table}: both rows must have one type and key")
        values = [*shape.pick(after, shape.rest or keys)]
        values += self._expiring(shape, after)[len(after) :]
        values += [*shape.pick(before, keys), *shape.pick(before, shape.rest)]
        return await self._write(statements.replace, [*values, *self._present(shape)])

    async def delete(self, row: type[R], *key: Any, only: R | None = None) -> bool:
        shape, statements = self._of(row)
        values = shape.key_values(key, shape.key.fields)
        if only is None:
            return await self._write(statements.delete, [*values, *self._present(shape)])
        rest = shape.pick(_encoded(shape, only), shape.rest)
        return await self._write(statements.delete_only, [*values, *rest, *self._present(shape)])

    async def close(self) -> None:
        await self._writes.close()
        if not self._closed:
            self._closed = True
            self._reader.close()
            self._writer.close()

    def _of(self, row: type[R]) -> tuple[Shape[R], Statements]:
        known = self._tables.get(row)
        if known is None:
            shape = Shape(row)
            known = self._tables[row] = (shape, Statements(shape))
            if shape.key.ttl_s is not None:
                self._sweeps[row] = Sweep(*known)
        return known

    def _now_ms(self) -> int:
        return int(self._clock.now() * 1000)

    def _present(self, shape: Shape[Any]) -> tuple[int, ...]:
        """What a condition needs where rows expire."""
        return () if shape.key.ttl_s is None else (self._now_ms(),)

    def _expiring(self, shape: Shape[Any], values: Sequence[Any]) -> Sequence[Any]:
        """A row's values, followed by when it expires where rows do."""
        ttl_s = shape.ttl_s(values)
        return values if ttl_s is None else (*values, self._now_ms() + ttl_s * 1000)

    def _read(self, sql: str, values: Sequence[Any], *, one: bool = False) -> list[tuple[Any, ...]]:
        try:
            cursor = self._reader.execute(sql, values)
            return cursor.fetchmany(1) if one else cursor.fetchall()
        except (sqlite3.Error, OverflowError, UnicodeError) as fault:
            raise translated(fault, self._path) from fault

    async def _write(self, sql: str, values: Sequence[Any]) -> bool:
        changed: int = await self._writes.submit(partial(_run, sql, values))
        return changed == 1


def _encoded(shape: Shape[R], row: R) -> Sequence[Any]:
    try:
        return shape.values(row)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as fault:
        raise Faulty(f"a {type(row).__name__} cannot be stored: {fault}") from fault


def _run(sql: str, values: Sequence[Any], connection: sqlite3.Connection) -> int:
    return connection.execute(sql, values).rowcount


def _run_many(batches: dict[str, Batch], now_ms: int, connection: sqlite3.Connection) -> None:
    for sql, (values, sweep) in batches.items():
        connection.executemany(sql, values)
        if sweep is not None:
            sweep.step(connection, len(values), now_ms)
