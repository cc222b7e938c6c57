"""Row types for the tests of tables."""

from __future__ import annotations

import enum
from typing import ClassVar, Literal

import msgspec

from chassis.contracts.keys import Key


class Grade(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(msgspec.Struct, frozen=True):
    key: ClassVar[Key] = Key("place", ("profile_id",), ("title_id",))

    profile_id: str
    title_id: str
    position_ms: int = 0


class Every(msgspec.Struct, frozen=True, kw_only=True):
    """A column of every kind."""

    key: ClassVar[Key] = Key("every", ("region", "shard"), ("grade", "name"))

    region: str
    shard: int
    grade: Grade
    name: str
    ratio: float = 0.5
    live: bool = True
    blob: bytes = b""
    note: str | None = None
    maybe: bool | None = None
    colour: Colour = Colour.RED
    mode: Literal["on", "off"] = "on"
    intervals: tuple[tuple[int, int], ...] = ()
    cells: dict[str, float] = {}
    where: Place | None = None


class Alone(msgspec.Struct, frozen=True):
    """A key without clustering."""

    key: ClassVar[Key] = Key("alone", ("id",))

    id: str
    value: int = 0


class OnlyKey(msgspec.Struct, frozen=True):
    key: ClassVar[Key] = Key("only_key", ("id",), ("tag",))

    id: str
    tag: str


class Waning(msgspec.Struct, frozen=True):
    """Lives for an hour, but not once it is over."""

    key: ClassVar[Key] = Key("waning", ("id",), ("tag",), ttl_s=3600, brief=("over", 3))

    id: str
    tag: str
    over: bool = False


class Fleeting(msgspec.Struct, frozen=True):
    key: ClassVar[Key] = Key("fleeting", ("id",), ("tag",), ttl_s=3)

    id: str
    tag: str
    value: int = 0
