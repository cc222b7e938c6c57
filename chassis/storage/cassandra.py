"""Tables in a Cassandra keyspace, 4.0 or newer. Reads and writes at LOCAL_QUORUM.

Versions are timestamps of the store itself, so a version that arrives late loses without being
read first. Conditional writes are compare-and-set of the store, and tell apart "not applied" from
"applied, but the answer was lost"; only a write that somebody else has replaced by the time it is
asked about passes for one that was not applied.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from chassis.clock import SYSTEM, Clock
from chassis.errors import Faulty, StoreUnavailable
from chassis.storage import cassandra_schema
from chassis.storage.cassandra_batches import Packed, batches, last_of_each
from chassis.storage.cassandra_faults import OutcomeUnknown
from chassis.storage.cassandra_link import Answer, Link
from chassis.storage.cassandra_rows import integer, unpacked
from chassis.storage.cassandra_table import Table
from chassis.storage.cassandra_url import Address, address_of
from chassis.storage.shape import Shape
from chassis.storage.tables import Capabilities, Row

R = TypeVar("R", bound=Row)
T = TypeVar("T")

_PAGE_ROWS = 1_000
_BATCHES_AT_ONCE = 24
_READS_AT_ONCE = 256
_TOKEN_BYTES = 7
_AGAIN_S = 0.1


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
        return _found(table, await self._point(table, statement, table.key(key)))

    async def get_many(self, row: type[R], keys: Sequence[tuple[Any, ...]]) -> list[R | None]:
        table = self._of(row)
        statement = await self._statement(table.cql.get)
        found: list[R | None] = []
        for at in range(0, len(keys), _READS_AT_ONCE):
            some = [table.key(key) for key in keys[at : at + _READS_AT_ONCE]]  # or none is asked
            answers = [self._point(table, statement, key) for key in some]
            found += [_found(table, answer) for answer in await asyncio.gather(*answers)]
        return found

    async def version(self, row: type[Row], *key: Any) -> int | None:
        table = self._of(row)
        statement = await self._statement(table.cql.version)
        answer = await self._point(table, statement, table.key(key))
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
            found += [table.row(one) for one in answer.rows]
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
                yield table.row(values)
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
        table.shape.check_replaceable()
        before, after = table.values(old), self._of(type(new)).values(new)
        pick, keys = table.shape.pick, table.shape.key.fields
        if type(old) is not type(new) or pick(before, keys) != pick(after, keys):
            raise Faulty(
                f"replace in {table.shape.key.table}: both rows must have one type and key"
            )
        return await self._write(self._replace(table, before, after))

    async def delete(self, row: type[R], *key: Any, only: R | None = None) -> bool:
        table = self._of(row)
        packed = table.key(key)
        if only is None:
            return await self._write(self._delete(table, packed))
        return await self._write(self._delete_only(table, packed, table.values(only)))

    async def close(self) -> None:
        self._closed = True
        if self._writing:
            self._idle = self._idle or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)
        await self._link.close()

    async def _put(self, rows: Sequence[Row], together: bool) -> None:
        packed: list[Packed] = []
        for kind, some in _by_kind(rows, type).items():
            table = self._of(kind)
            packed += table.put(await self._id(table.cql.put), some)
        packed = last_of_each(packed)
        apart = len({one.routing for one in packed}) > 1
        if apart and not together:
            await self._send_all(packed, timed=True)
            return
        fragments = [one.fragment for one in packed]
        await self._link.write(fragments, packed[0].routing, logged=apart, timed=True)

    async def _put_versioned(self, rows: Sequence[tuple[Row, int]]) -> None:
        packed: list[Packed] = []
        for kind, pairs in _by_kind(rows, lambda pair: type(pair[0])).items():
            table = self._of(kind)
            packed += table.put_versioned(await self._id(table.cql.put_versioned), pairs)
        await self._send_all(packed, timed=False)

    async def _send_all(self, packed: Sequence[Packed], *, timed: bool) -> None:
        """Batches of rows that live on the same nodes, some at a time, in any order."""
        made = list(batches(packed, self._link.replicas))
        waiting = iter(made)

        async def send() -> None:
            for batch in waiting:
                await self._link.write(batch.fragments, batch.routing, timed=timed)

        if len(made) == 1:
            await send()
            return
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(_BATCHES_AT_ONCE, len(made))):
                    tasks.create_task(send())
        except ExceptionGroup as faults:
            raise faults.exceptions[0] from None

    async def _insert(self, row: Row) -> bool:
        table = self._of(type(row))
        query_id = await self._id(table.cql.insert)
        values, token = table.values(row), self._token()
        stored = await self._swap(
            table, table.key_of(values), table.insert(query_id, values, token), token
        )
        return stored is None

    async def _replace(
        self, table: Table[Any], before: Sequence[Any], after: Sequence[Any]
    ) -> bool:
        query_id = await self._id(table.cql.replace)
        key, token = table.key_of(before), self._token()
        expected: list[Any] | None = table.shape.pick(before, table.shape.rest)
        while expected is not None:
            packed = table.replace(query_id, after, token, expected)
            stored = await self._swap(table, key, packed, token)
            if stored is None:
                return True
            expected = table.as_stored(stored, before, expected)
        return False

    async def _delete_only(self, table: Table[Any], key: list[bytes], only: Sequence[Any]) -> bool:
        query_id = await self._id(table.cql.delete_only)
        expected: list[Any] | None = table.shape.pick(only, table.shape.rest)
        while expected is not None:
            packed = table.delete_only(query_id, key, expected)
            stored = await self._swap(table, key, packed, None)
            if stored is None:
                return True
            expected = table.as_stored(stored, only, expected)
        return False

    async def _delete(self, table: Table[Any], key: list[bytes]) -> bool:
        query_id = await self._id(table.cql.delete)
        routing = table.codec.routing(key)
        looking = await self._statement(table.cql.version)
        found = await self._link.read(looking, unpacked(key), routing)
        await self._link.write([table.delete(query_id, key)], routing, timed=True)
        return bool(found.rows)

    async def _swap(
        self, table: Table[Any], key: list[bytes], packed: bytes, token: int | None
    ) -> dict[str, Any] | None:
        """Does a conditional write; what stands there instead when it was not applied.

        When its answer is lost, or others compete for the row, it is tried again: by then the row
        has the write's token if the first try was the one. A removed row has none, so whose doing
        it was stays unknown.
        """
        until = self._clock.monotonic() + 1.5 * self._address.timeout_s
        unknown: OutcomeUnknown | None = None
        while True:
            try:
                stored = _refused(await self._link.swap(packed, table.codec.routing(key)))
            except OutcomeUnknown as fault:
                unknown = fault
                if self._clock.monotonic() > until:
                    raise
                await self._clock.sleep(_AGAIN_S * self._clock.random())
                continue
            if stored is None or (token is not None and stored.get("_version") == token):
                return None
            if unknown is not None and token is None and "_version" not in stored:
                raise unknown
            return stored

    def _point(self, table: Table[Any], statement: Any, key: list[bytes]) -> asyncio.Future[Answer]:
        """Asks for what is under one whole key, packed."""
        return self._link.read(statement, unpacked(key), table.codec.routing(key))

    async def _id(self, cql: str) -> bytes:
        query_id: bytes = (await self._statement(cql)).query_id
        return query_id

    async def _statement(self, cql: str) -> Any:
        return self._link.ready.get(cql) or await self._link.prepared(cql)

    async def _write(self, work: Coroutine[Any, Any, T]) -> T:
        """A write that `close` waits for."""
        if self._closed:
            work.close()
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


def _by_kind(rows: Sequence[T], kind_of: Callable[[T], type[Row]]) -> dict[type[Row], list[T]]:
    kinds: dict[type[Row], list[T]] = {}
    for row in rows:
        kinds.setdefault(kind_of(row), []).append(row)
    return kinds


def _found(table: Table[R], answer: Answer) -> R | None:
    return table.row(answer.rows[0]) if answer.rows else None


def _refused(answer: Answer) -> dict[str, Any] | None:
    """What a conditional write found instead; None when it was applied."""
    row = dict(zip(answer.names, answer.rows[0], strict=True))
    return None if row["[applied]"] else row
