"""Tables in a Cassandra keyspace, 4.0 or newer. Reads and writes at LOCAL_QUORUM.

Versions are timestamps of the store itself, so a version that arrives late loses without being
read first. Conditional writes are compare-and-set of the store, and tell apart "not applied" from
"applied, but the answer was lost".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from chassis.clock import SYSTEM, Clock
from chassis.errors import Faulty, StoreUnavailable, Unprocessable
from chassis.storage import cassandra_schema
from chassis.storage.cassandra_batches import Packed, batches, last_of_each
from chassis.storage.cassandra_faults import OutcomeUnknown
from chassis.storage.cassandra_link import Answer, Link
from chassis.storage.cassandra_rows import Codec, bigint, fragment, integer, unpacked
from chassis.storage.cassandra_statements import Statements
from chassis.storage.cassandra_url import Address, address_of
from chassis.storage.shape import Shape
from chassis.storage.tables import Capabilities, Row

R = TypeVar("R", bound=Row)
T = TypeVar("T")

_PAGE_ROWS = 1_000
_BATCHES_AT_ONCE = 24
_READS_AT_ONCE = 256
_TOKEN_BYTES = 7


class Table(Generic[R]):
    """One row type: its columns, its statements, its bytes."""

    def __init__(self, shape: Shape[R], keyspace: str) -> None:
        self.shape = shape
        self.cql = Statements(shape, keyspace)
        self.codec = Codec(shape)
        self.columns = len(shape.columns)


class CassandraTables:
    """The tables port on Cassandra. It connects at first use.

    A refused user, a server that is no Cassandra 4.0 and a data centre that is not there raise
    `ConfigurationFault` then; a keyspace whose copies make quorums pointless, `SchemaFault`.
    """

    capabilities: Final = Capabilities(
        isolated_batches=False, first_of_equal_versions=False, empty_partitions=False
    )

    def __init__(self, address: Address, clock: Clock = SYSTEM) -> None:
        self._address = address
        self._clock = clock
        self._link = Link(address)
        self._tables: dict[type[Row], Table[Any]] = {}
        self._writing = 0
        self._idle: asyncio.Future[None] | None = None
        self._closed = False

    @classmethod
    def open(cls, url: str, clock: Clock = SYSTEM) -> CassandraTables:
        return cls(address_of(url), clock)

    def __repr__(self) -> str:
        return f"CassandraTables({self._address})"

    async def prepare(self, *rows: type[Row]) -> None:
        shapes = [self._of(row).shape for row in rows]
        await self._link.open()
        await cassandra_schema.prepare(self._link, shapes, self._clock)

    async def get(self, row: type[R], *key: Any) -> R | None:
        table = self._of(row)
        cql = table.cql.get
        statement = self._link.ready.get(cql) or await self._link.prepared(cql)
        return _row(table, await self._point(table, statement, key))

    async def get_many(self, row: type[R], keys: Sequence[tuple[Any, ...]]) -> list[R | None]:
        table = self._of(row)
        statement = await self._statement(table.cql.get)
        found: list[R | None] = []
        for at in range(0, len(keys), _READS_AT_ONCE):
            some = keys[at : at + _READS_AT_ONCE]
            answers = [self._point(table, statement, key) for key in some]
            found += [_row(table, answer) for answer in await asyncio.gather(*answers)]
        return found

    async def version(self, row: type[Row], *key: Any) -> int | None:
        table = self._of(row)
        statement = await self._statement(table.cql.version)
        answer = await self._point(table, statement, key)
        version = answer.rows[0][0] if answer.rows else None
        return version if version is not None and version >= 0 else None

    async def page(
        self,
        row: type[R],
        *partition: Any,
        limit: int = 100,
        after: tuple[Any, ...] | None = None,
        reverse: bool = False,
    ) -> list[R]:
        table = self._of(row)
        shape, codec, key = table.shape, table.codec, table.shape.key
        values = codec.key(shape.key_values(partition, key.partition), key.partition)
        routing = codec.routing(values)
        if after is not None:
            values += codec.key(shape.key_values(after, key.clustering), key.clustering)
        if limit <= 0 or (after is not None and not key.clustering):
            return []
        values.append(integer(min(limit, 0x7FFFFFFF)))
        statement = await self._statement(table.cql.page(after=bool(after), reverse=reverse))
        found: list[R] = []
        more: bytes | None = None
        while True:
            fetch = min(limit, _PAGE_ROWS)
            answer = await self._link.read(
                statement, unpacked(values), routing, fetch=fetch, more=more
            )
            found += [shape.make(codec.filled(one)) for one in answer.rows]
            more = answer.more
            if more is None:
                return found

    async def scan(self, row: type[R]) -> AsyncIterator[R]:
        table = self._of(row)
        statement = await self._statement(table.cql.scan)
        more: bytes | None = None
        while True:
            answer = await self._link.read(statement, fetch=_PAGE_ROWS, more=more)
            for values in answer.rows:
                yield table.shape.make(table.codec.filled(values))
            more = answer.more
            if more is None:
                return

    async def put(self, *rows: Row, together: bool = True) -> None:
        if rows:
            await self._write(self._put(rows, together))

    async def put_versioned(self, rows: Sequence[tuple[Row, int]]) -> None:
        if rows:
            await self._write(self._put_versioned(rows))

    async def insert(self, row: Row) -> bool:
        return await self._write(self._insert(row))

    async def replace(self, old: R, new: R) -> bool:
        table = self._of(type(old))
        before = _stored(table, old)
        after = _stored(self._of(type(new)), new)
        keys = table.shape.key.fields
        if type(old) is not type(new) or table.shape.pick(before, keys) != table.shape.pick(
            after, keys
        ):
            raise Faulty(
                f"replace in {table.shape.key.table}: both rows must have one type and key"
            )
        return await self._write(self._replace(table, before, after))

    async def delete(self, row: type[R], *key: Any, only: R | None = None) -> bool:
        table = self._of(row)
        values = table.shape.key_values(key, table.shape.key.fields)
        if only is None:
            return await self._write(self._delete(table, values))
        return await self._write(self._delete_only(table, values, _stored(table, only)))

    async def close(self) -> None:
        self._closed = True
        if self._writing:
            self._idle = self._idle or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)
        await self._link.close()

    async def _put(self, rows: Sequence[Row], together: bool) -> None:
        packed = [await self._packed(row) for row in rows]
        packed = last_of_each(packed)
        apart = len({one.routing for one in packed}) > 1
        if not together and apart:
            await self._send_all(packed, timed=True)
            return
        fragments = [one.fragment for one in packed]
        await self._link.write(fragments, packed[0].routing, logged=apart, timed=True)

    async def _packed(self, row: Row) -> Packed:
        table = self._of(type(row))
        statement = self._link.ready.get(table.cql.put) or await self._statement(table.cql.put)
        values = _stored(table, row)
        packed = table.codec.row(values)
        key = _key(table, values)
        return Packed(
            fragment(statement.query_id, table.columns, packed),
            table.codec.routing(key),
            table.columns,
            (type(row), b"".join(key)),
        )

    async def _put_versioned(self, rows: Sequence[tuple[Row, int]]) -> None:
        kinds: dict[type[Row], list[tuple[Row, int]]] = {}
        for pair in rows:
            kinds.setdefault(type(pair[0]), []).append(pair)
        packed: list[Packed] = []
        for kind, pairs in kinds.items():
            table = self._of(kind)
            statement = await self._statement(table.cql.put_versioned)
            packed += _versioned(table, statement.query_id, pairs)
        await self._send_all(packed, timed=False)

    async def _send_all(self, packed: Sequence[Packed], *, timed: bool) -> None:
        """Batches of rows that live on the same nodes, some at a time, in any order."""
        waiting = iter(batches(packed, self._link.replicas))
        failed = False

        async def send() -> None:
            nonlocal failed
            for batch in waiting:
                try:
                    await self._link.write(batch.fragments, batch.routing, timed=timed)
                except BaseException:
                    failed = True
                    raise
                if failed:
                    return

        first = next(waiting)
        rest = [asyncio.ensure_future(send()) for _ in range(_BATCHES_AT_ONCE - 1)]
        try:
            await self._link.write(first.fragments, first.routing, timed=timed)
            await send()
        except BaseException:
            failed = True
            raise
        finally:
            outcomes = await asyncio.gather(*rest, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _insert(self, row: Row) -> bool:
        table = self._of(type(row))
        statement = await self._statement(table.cql.insert)
        values = _stored(table, row)
        key, token = _key(table, values), self._token()
        packed = table.codec.row(values) + bigint(token)
        answer = await self._swap(table, key, token, statement, table.columns + 1, packed)
        return _applied(answer, token)

    async def _replace(
        self, table: Table[Any], before: Sequence[Any], after: Sequence[Any]
    ) -> bool:
        shape, codec = table.shape, table.codec
        statement = await self._statement(table.cql.replace)
        key, token = _key(table, before), self._token()
        changed = codec.some(shape.pick(after, shape.rest), shape.rest)
        changed += bigint(token) + b"".join(key)
        expected: Sequence[Any] = shape.pick(before, shape.rest)
        count = table.columns + 1 + len(shape.rest)
        while True:
            packed = changed + codec.some(expected, shape.rest)
            answer = await self._swap(table, key, token, statement, count, packed)
            if _applied(answer, token):
                return True
            raw = _same_but_for_added(table, answer, before, expected)
            if raw is None:
                return False
            expected = raw

    async def _delete_only(
        self, table: Table[Any], values: Sequence[Any], only: Sequence[Any]
    ) -> bool:
        shape, codec = table.shape, table.codec
        statement = await self._statement(table.cql.delete_only)
        key = codec.key(values, shape.key.fields)
        expected: Sequence[Any] = shape.pick(only, shape.rest)
        while True:
            packed = b"".join(key) + codec.some(expected, shape.rest)
            whole = fragment(statement.query_id, table.columns, packed)
            answer = await self._link.swap(whole, codec.routing(key))
            if _applied(answer, None):
                return True
            raw = _same_but_for_added(table, answer, only, expected)
            if raw is None:
                return False
            expected = raw

    async def _delete(self, table: Table[Any], values: Sequence[Any]) -> bool:
        statement = await self._statement(table.cql.delete)
        key = table.codec.key(values, table.shape.key.fields)
        routing = table.codec.routing(key)
        there = await self._statement(table.cql.version)
        found = await self._link.read(there, unpacked(key), routing)
        whole = fragment(statement.query_id, len(key), b"".join(key))
        await self._link.write([whole], routing, timed=True)
        return bool(found.rows)

    async def _swap(
        self,
        table: Table[Any],
        key: Sequence[bytes],
        token: int,
        statement: Any,
        count: int,
        packed: bytes,
    ) -> Answer:
        """A conditional write that leaves `token`; when its answer is lost, the row tells."""
        routing = table.codec.routing(key)
        try:
            return await self._link.swap(fragment(statement.query_id, count, packed), routing)
        except OutcomeUnknown:
            reading = await self._statement(table.cql.version)
            found = await self._link.read(reading, unpacked(key), routing, serial=True)
            if found.rows and found.rows[0][0] == token:
                return Answer([(True,)], ["[applied]"], None)
            raise

    def _point(
        self, table: Table[Any], statement: Any, key: tuple[Any, ...]
    ) -> asyncio.Future[Answer]:
        """Asks for what is under one whole key."""
        names = table.shape.key.fields
        values = table.codec.key(table.shape.key_values(key, names), names)
        return self._link.read(statement, unpacked(values), table.codec.routing(values))

    async def _statement(self, cql: str) -> Any:
        return self._link.ready.get(cql) or await self._link.prepared(cql)

    async def _write(self, work: Awaitable[T]) -> T:
        """A write that `close` waits for."""
        if self._closed:
            work.close()  # type: ignore[attr-defined]
            raise StoreUnavailable(f"{self._address} is closed")
        self._writing += 1
        try:
            return await work
        finally:
            self._writing -= 1
            if not self._writing and self._idle is not None:
                self._idle.set_result(None)

    def _of(self, row: type[R]) -> Table[R]:
        known = self._tables.get(row)
        if known is None:
            known = self._tables[row] = Table(Shape(row), self._address.keyspace)
        return known

    def _token(self) -> int:
        return -2 - int.from_bytes(self._clock.entropy(_TOKEN_BYTES), "big")


def _versioned(
    table: Table[Any], query_id: bytes, pairs: Sequence[tuple[Row, int]]
) -> list[Packed]:
    count = table.columns + 2
    made: list[Packed] = []
    for row, version in pairs:
        if version < 0:
            raise Unprocessable(f"{table.shape.key.table}: a version is 0 or above")
        values = _stored(table, row)
        stamp = _packed_version(version)
        packed = table.codec.row(values) + stamp + stamp
        routing = table.codec.routing(_key(table, values))
        made.append(Packed(fragment(query_id, count, packed), routing, count))
    return made


def _packed_version(version: int) -> bytes:
    try:
        return bigint(version)
    except Exception as fault:
        raise Unprocessable(f"{version!r} is no version: {fault}") from fault


def _stored(table: Table[Any], row: Row) -> Sequence[Any]:
    try:
        return table.shape.values(row)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as fault:
        raise Faulty(f"a {type(row).__name__} cannot be stored: {fault}") from fault


def _key(table: Table[Any], values: Sequence[Any]) -> list[bytes]:
    names = table.shape.key.fields
    return table.codec.key(table.shape.pick(values, names), names)


def _row(table: Table[R], answer: Answer) -> R | None:
    if not answer.rows:
        return None
    return table.shape.make(table.codec.filled(answer.rows[0]))


def _applied(answer: Answer, token: int | None) -> bool:
    """Also when the driver or the server tried twice, and the first try was the one."""
    row = _named(answer)
    return bool(row["[applied]"]) or (token is not None and row.get("_version") == token)


def _named(answer: Answer) -> dict[str, Any]:
    return dict(zip(answer.names, answer.rows[0], strict=True))


def _same_but_for_added(
    table: Table[Any], answer: Answer, wanted: Sequence[Any], tried: Sequence[Any]
) -> Sequence[Any] | None:
    """What is stored, if it equals `wanted` once columns added later have their defaults."""
    row = _named(answer)
    names = table.shape.rest
    if any(name not in row for name in names) or row.get("_version", 0) >= 0:
        return None
    raw = [row[name] for name in names]
    whole = [row.get(name, value) for name, value in zip(table.shape.names, wanted, strict=True)]
    same = table.shape.pick(table.codec.filled(whole), names)
    return raw if raw != list(tried) and list(same) == table.shape.pick(wanted, names) else None
