"""Rows in the bytes that Cassandra's protocol carries, and back. Pure.

The driver binds a row value by value, and writes each value by itself; here a row of a prepared
statement is packed in one go. Numbers that are always there come first in our statements: one call
packs them all.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from chassis.errors import Unprocessable
from chassis.storage.shape import Kind, Shape

R = TypeVar("R", bound=msgspec.Struct)
Packer = Callable[[Any], bytes]

_LENGTH = struct.Struct(">i").pack
_SHORT = struct.Struct(">H").pack
_BIGINT = struct.Struct(">iq").pack
_DOUBLE = struct.Struct(">id").pack
_INT = struct.Struct(">ii").pack
_STAMPS = struct.Struct(">iqiq").pack
_NUMBERS: dict[Kind, str] = {"integer": "iq", "real": "id"}
NULL = _LENGTH(-1)


def text(value: str) -> bytes:
    raw = value.encode()
    return _LENGTH(len(raw)) + raw


def bigint(value: int) -> bytes:
    return _BIGINT(8, value)


def integer(value: int) -> bytes:
    return _INT(4, value)


def _double(value: float) -> bytes:
    return _DOUBLE(8, value)


def _blob(value: bytes) -> bytes:
    return _LENGTH(len(value)) + value


_PACKERS: dict[Kind, Packer] = {
    "text": text,
    "integer": bigint,
    "real": _double,
    "blob": _blob,
    "json": text,
}
_UNPACKABLE = (AttributeError, TypeError, ValueError, OverflowError, struct.error)


class Codec(Generic[R]):
    """Packs the stored values of one row type; `Unprocessable` for what no column can hold."""

    def __init__(self, shape: Shape[R]) -> None:
        self._shape = shape
        strict = {column.name: _PACKERS[column.kind] for column in shape.columns}
        loose = {name: _or_null(packer) for name, packer in strict.items()}
        optional = {column.name for column in shape.columns if column.optional}
        self._strict, self._loose = strict, loose
        self._parts = range(len(shape.key.partition))
        at = {name: place for place, name in enumerate(shape.names)}
        numbers = [c for c in shape.columns if c.kind in _NUMBERS and not c.optional]
        others = [c for c in shape.columns if c not in numbers]
        self.names = tuple(column.name for column in (*numbers, *others))
        self._numbers = struct.Struct(">" + "".join(_NUMBERS[c.kind] for c in numbers)).pack
        width = len(shape.names)  # where the length of a number is found, once appended
        self._pick = [place for c in numbers for place in (width, at[c.name])]
        self._others = [
            (at[c.name], loose[c.name] if c.name in optional else strict[c.name]) for c in others
        ]
        self._partition = [(at[name], strict[name]) for name in shape.key.partition]
        # A column that was added later is null in older rows.
        self._added = [
            (at, column.default)
            for at, column in enumerate(shape.columns)
            if not column.optional and column.default is not msgspec.NODEFAULT
        ]

    def row(self, head: bytes, values: Sequence[Any], tail: bytes = b"") -> bytes:
        """All columns, in the order of `names`, behind a head and before a tail."""
        try:
            longer = (*values, 8)
            parts = [pack(values[at]) for at, pack in self._others]
            numbers = self._numbers(*[longer[at] for at in self._pick])
            return b"".join([head, numbers, *parts, tail])
        except _UNPACKABLE as fault:
            raise self._refused(fault) from fault

    def key(self, values: Sequence[Any], names: Sequence[str]) -> list[bytes]:
        """Key columns, each packed: their beginning is what `routing` wants."""
        try:
            return [self._strict[name](v) for name, v in zip(names, values, strict=True)]
        except _UNPACKABLE as fault:
            raise self._refused(fault) from fault

    def some(self, values: Sequence[Any], names: Sequence[str]) -> bytes:
        """Some columns, any of them null."""
        try:
            packed = [self._loose[n](v) for n, v in zip(names, values, strict=True)]
        except _UNPACKABLE as fault:
            raise self._refused(fault) from fault
        return b"".join(packed)

    def routing(self, key: Sequence[bytes]) -> bytes:
        """The partition's key as it is hashed, from packed key columns."""
        if len(self._parts) == 1:
            return key[0][4:]
        return b"".join(
            [_SHORT(len(key[at]) - 4 & 0xFFFF) + key[at][4:] + b"\x00" for at in self._parts]
        )

    def routing_of(self, values: Sequence[Any]) -> bytes:
        """The same from a row's values."""
        try:
            return self.routing([pack(values[at]) for at, pack in self._partition])
        except _UNPACKABLE as fault:
            raise self._refused(fault) from fault

    def filled(self, values: Sequence[Any]) -> Sequence[Any]:
        """Stored values with the default of each column that was added after they were written."""
        if None not in values:
            return values
        full = list(values)
        for at, default in self._added:
            if full[at] is None:
                full[at] = default
        return full

    def _refused(self, fault: Exception) -> Unprocessable:
        return Unprocessable(f"a value that {self._shape.key.table} cannot store: {fault}")


def unpacked(values: Sequence[bytes]) -> list[bytes]:
    """Packed values without their lengths, as a message of the driver wants them."""
    return [value[4:] for value in values]


def head(query_id: bytes, count: int) -> bytes:
    """How one prepared statement of a batch begins; its `count` packed values follow."""
    return b"\x01" + _SHORT(len(query_id)) + query_id + _SHORT(count)


def stamps(version: int) -> bytes:
    """A version as a value of the row, and as its timestamp."""
    return _STAMPS(8, version, 8, version)


def _or_null(packer: Packer) -> Packer:
    return lambda value: NULL if value is None else packer(value)
