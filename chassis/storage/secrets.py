"""A secret that a service makes once and keeps: whichever instance is first, all use the same."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from chassis.clock import Clock
from chassis.contracts.keys import Key
from chassis.storage.tables import Tables

_SIZE = 32


class Secret(msgspec.Struct, frozen=True):
    """Written once, never changed, never shown."""

    key: ClassVar[Key] = Key("secret", partition=("name",))

    name: str
    value: bytes

    def __repr__(self) -> str:
        return f"Secret({self.name})"


async def kept_secret(tables: Tables, name: str, clock: Clock) -> bytes:
    """The secret called `name`: 32 bytes, made on the first call of all."""
    known = await tables.get(Secret, name)
    if known is None:
        await tables.insert(Secret(name, clock.entropy(_SIZE)))
        known = await tables.get(Secret, name)
    assert known is not None
    return known.value
