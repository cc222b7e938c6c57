"""What a row type looks like to a store: its columns, and values to and from them."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Generic, Literal, TypeVar

import msgspec
from msgspec import inspect

from chassis.contracts.keys import Key
from chassis.errors import Faulty, SchemaFault

R = TypeVar("R", bound=msgspec.Struct)

Kind = Literal["text", "integer", "real", "blob", "json"]
Codec = Callable[[Any], Any]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}\Z")
_PLAIN: dict[type[inspect.Type], Kind] = {
    inspect.StrType: "text",
    inspect.IntType: "integer",
    inspect.FloatType: "real",
    inspect.BoolType: "integer",
    inspect.BytesType: "blob",
}
_JSON = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True)
class Column:
    """One field. `default` is the stored value, or `msgspec.NODEFAULT`."""

    name: str
    kind: Kind
    optional: bool
    default: Any
    encode: Codec | None
    decode: Codec | None


class Shape(Generic[R]):
    """The columns of `row`, key and other, and its codecs. Made once a row type.

    `key_of(values)` is the key in stored values: writing in its order visits each page once.
    """

    def __init__(self, row: type[R]) -> None:
        self.row = row
        self.key = _key_of(row)
        self.columns = tuple(_columns(row))
        self.names = tuple(column.name for column in self.columns)
        self.rest = tuple(name for name in self.names if name not in self.key.fields)
        self._positions = {name: at for at, name in enumerate(self.names)}
        self._encoders = [(at, c.encode) for at, c in enumerate(self.columns) if c.encode]
        self._decoders = [(at, c.decode) for at, c in enumerate(self.columns) if c.decode]
        self._key_encoders = self._check_key()
        self._brief = self._check_brief()
        self.key_of = itemgetter(*[self._positions[name] for name in self.key.fields])

    def values(self, row: R) -> Sequence[Any]:
        """The row's stored values in column order."""
        values = msgspec.structs.astuple(row)
        if not self._encoders:
            return values
        changed = list(values)
        for at, encode in self._encoders:
            changed[at] = encode(changed[at])
        return changed

    def make(self, values: Sequence[Any]) -> R:
        """The row of stored values in column order."""
        if self._decoders:
            values = list(values)
            for at, decode in self._decoders:
                values[at] = decode(values[at])
        return self.row(**dict(zip(self.names, values, strict=True)))

    def pick(self, values: Sequence[Any], names: Sequence[str]) -> list[Any]:
        """The stored values of some columns."""
        return [values[self._positions[name]] for name in names]

    def ttl_s(self, values: Sequence[Any]) -> int | None:
        """How long the row of these stored values lives."""
        if self._brief is not None and values[self._brief[0]]:
            return self._brief[1]
        return self.key.ttl_s

    def check_replaceable(self) -> None:
        """`Faulty` where a replacement could outlive its time: a store may keep the row's own life,
        which was given when it was made."""
        if self._brief is not None:
            raise Faulty(f"{self.key.table}: rows that may live more briefly are not replaced")

    def key_values(self, key: Sequence[Any], names: Sequence[str]) -> list[Any]:
        """A caller's key in stored form; `TypeError` unless it has just these parts."""
        if len(key) != len(names):
            raise TypeError(f"{self.key.table} needs {', '.join(names)}, not {len(key)} values")
        encoders = self._key_encoders
        if not encoders:
            return list(key)
        return [encoders[n](v) if n in encoders else v for n, v in zip(names, key, strict=True)]

    def _check_brief(self) -> tuple[int, int] | None:
        """Where the field stands that shortens a row's life, and to how many seconds."""
        if self.key.brief is None:
            return None
        name, ttl_s = self.key.brief
        if self.key.ttl_s is None or name not in self.names:
            raise SchemaFault(f"{self.row.__name__}: brief needs a field {name!r}, and a ttl_s")
        return self._positions[name], ttl_s

    def _check_key(self) -> dict[str, Codec]:
        encoders: dict[str, Codec] = {}
        for name in self.key.fields:
            if name not in self._positions:
                raise SchemaFault(f"{self.row.__name__} has no field {name!r}, which its key names")
            column = self.columns[self._positions[name]]
            if column.kind == "json" or column.optional:
                raise SchemaFault(f"{self.row.__name__}.{name}: a key field is plain, never None")
            if column.encode is not None:
                encoders[name] = column.encode
        return encoders


def _key_of(row: type[msgspec.Struct]) -> Key:
    key = getattr(row, "key", None)
    if not isinstance(key, Key):
        raise SchemaFault(f"{row.__name__} needs `key: ClassVar[Key]`")
    for name in (key.table, *row.__struct_fields__):
        if not _NAME.match(name):
            raise SchemaFault(f"{row.__name__}: {name!r} must be a short lower-case name")
    return key


def _columns(row: type[msgspec.Struct]) -> list[Column]:
    info = inspect.type_info(row)
    assert isinstance(info, inspect.StructType)
    types = {field.name: field.type for field in msgspec.structs.fields(row)}
    return [_column(field, types[field.name]) for field in info.fields]


def _column(field: inspect.Field, annotation: Any) -> Column:
    base, optional = _without_none(field.type)
    kind, encode, decode = _codec(base, annotation)
    if optional:
        encode, decode = _unless_none(encode), _unless_none(decode)
    default = _default(field)
    if default is not msgspec.NODEFAULT and encode is not None:
        default = encode(default)
    return Column(field.name, kind, optional, default, encode, decode)


def _without_none(kind: inspect.Type) -> tuple[inspect.Type, bool]:
    if not isinstance(kind, inspect.UnionType):
        return kind, False
    others = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
    optional = len(others) < len(kind.types)
    return (others[0] if len(others) == 1 else kind), optional


def _codec(base: inspect.Type, annotation: Any) -> tuple[Kind, Codec | None, Codec | None]:
    plain = _PLAIN.get(type(base))
    if isinstance(base, inspect.BoolType):
        return "integer", None, bool
    if plain is not None:
        return plain, None, None
    if isinstance(base, inspect.LiteralType):
        return _enumerated([*base.values], None, None) or _json(annotation)
    if isinstance(base, inspect.EnumType):
        values = [member.value for member in base.cls]
        return _enumerated(values, _value_of, base.cls) or _json(annotation)
    return _json(annotation)


def _enumerated(
    values: list[Any], encode: Codec | None, decode: Codec | None
) -> tuple[Kind, Codec | None, Codec | None] | None:
    if all(isinstance(value, str) for value in values):
        return "text", encode, decode
    if all(isinstance(value, int) for value in values):
        return "integer", encode, decode
    return None


def _json(annotation: Any) -> tuple[Kind, Codec, Codec]:
    decode = msgspec.json.Decoder(annotation).decode
    return "json", lambda value: _JSON.encode(value).decode(), decode


def _value_of(member: enum.Enum | str | int) -> Any:
    return member.value if isinstance(member, enum.Enum) else member


def _unless_none(codec: Codec | None) -> Codec | None:
    if codec is None:
        return None
    return lambda value: None if value is None else codec(value)


def _default(field: inspect.Field) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default
