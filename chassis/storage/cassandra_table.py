"""One row type in Cassandra: its statements, its bytes, and what answers about it mean. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from chassis.errors import Faulty, Unprocessable
from chassis.storage.cassandra_batches import Packed
from chassis.storage.cassandra_rows import Codec, bigint, head, integer, stamps
from chassis.storage.cassandra_statements import Statements
from chassis.storage.shape import Shape

R = TypeVar("R", bound=msgspec.Struct)
Values = Sequence[Any]
_TOP = 1 << 63


class Table(Generic[R]):
    """Made once a row type. `values` are stored values in column order, `key` packed ones."""

    def __init__(self, shape: Shape[R], keyspace: str) -> None:
        self.shape = shape
        self.codec = Codec(shape)
        self.cql = Statements(shape, keyspace, self.codec.names)
        self.columns = len(shape.columns)
        self._living = 1 if shape.key.brief else 0

    def values(self, row: R) -> Values:
        try:
            return self.shape.values(row)
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as fault:
            raise Faulty(f"a {type(row).__name__} cannot be stored: {fault}") from fault

    def key(self, key: Sequence[Any]) -> list[bytes]:
        """A caller's whole key."""
        names = self.shape.key.fields
        return self.codec.key(self.shape.key_values(key, names), names)

    def key_of(self, values: Values) -> list[bytes]:
        names = self.shape.key.fields
        return self.codec.key(self.shape.pick(values, names), names)

    def put(self, query_id: bytes, rows: Sequence[R]) -> list[Packed]:
        start, codec = head(query_id, self.columns + self._living), self.codec
        made: list[Packed] = []
        for row in rows:
            values = self.values(row)
            packed = codec.row(start, values, self._ttl(values))
            identity = (self.shape.row, self.shape.key_of(values))
            made.append(Packed(packed, codec.routing_of(values), self.columns, identity))
        return made

    def put_versioned(self, query_id: bytes, pairs: Sequence[tuple[R, int]]) -> list[Packed]:
        start, codec = head(query_id, self.columns + 2 + self._living), self.codec
        made: list[Packed] = []
        for row, version in pairs:
            if not 0 <= version < _TOP:
                raise Unprocessable(f"{self.shape.key.table}: {version} is no version")
            values = self.values(row)
            packed = codec.row(start, values, stamps(version) + self._ttl(values))
            made.append(Packed(packed, codec.routing_of(values), self.columns))
        return made

    def insert(self, query_id: bytes, values: Values, token: int) -> bytes:
        start = head(query_id, self.columns + 1 + self._living)
        return self.codec.row(start, values, bigint(token) + self._ttl(values))

    def replace(
        self, query_id: bytes, values: Values, token: int, expected: Sequence[Any]
    ) -> bytes:
        rest = self.shape.rest
        changed = self.codec.some(self.shape.pick(values, rest), rest) + bigint(token)
        key = b"".join(self.key_of(values))
        count = self.columns + 1 + len(rest)
        return head(query_id, count) + changed + key + self.codec.some(expected, rest)

    def delete(self, query_id: bytes, key: list[bytes]) -> bytes:
        return head(query_id, len(key)) + b"".join(key)

    def delete_only(self, query_id: bytes, key: list[bytes], expected: Sequence[Any]) -> bytes:
        start = head(query_id, self.columns) + b"".join(key)
        return start + self.codec.some(expected, self.shape.rest)

    def _ttl(self, values: Values) -> bytes:
        """How long the row lives, where that is not the same for all."""
        return integer(self.shape.ttl_s(values) or 0) if self._living else b""

    def row(self, stored: Sequence[Any]) -> R:
        return self.shape.make(self.codec.filled(stored))

    def as_stored(
        self, stored: dict[str, Any], wanted: Values, tried: Sequence[Any]
    ) -> list[Any] | None:
        """What to expect instead of `tried`, where the row is as `wanted` after all.

        A column that was added later is null in older rows, and means its default.
        """
        names = self.shape.rest
        if any(name not in stored for name in names) or stored.get("_version", 0) >= 0:
            return None
        raw = [stored[name] for name in names]
        whole = [stored.get(n, value) for n, value in zip(self.shape.names, wanted, strict=True)]
        same = self.shape.pick(self.codec.filled(whole), names) == self.shape.pick(wanted, names)
        return raw if same and raw != list(tried) else None
