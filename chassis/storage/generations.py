"""Small tables that services keep whole in memory, and how they notice a change.

Whoever writes such a table raises its generation afterwards; every service that follows it looks
at that one row twice a second, which costs a point read, and loads the table anew when the number
has moved. A reader therefore never holds half a change for longer than one look.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

import msgspec

from chassis.clock import Clock
from chassis.contracts.keys import Key
from chassis.errors import StoreFailure
from chassis.storage.tables import Tables

LOOK_EVERY_S = 0.5


class Generation(msgspec.Struct, frozen=True):
    """How often the table `name` has been changed. Written conditionally only."""

    key: ClassVar[Key] = Key("generation", partition=("name",))

    name: str
    number: int


async def generation(tables: Tables, name: str) -> int:
    """The present generation of a table; 0 before its first change."""
    row = await tables.get(Generation, name)
    return 0 if row is None else row.number


async def raise_generation(tables: Tables, name: str) -> int:
    """Tells every follower that `name` has changed; writers may race, none is lost."""
    while True:
        old = await tables.get(Generation, name)
        new = Generation(name, 1 if old is None else old.number + 1)
        done = await (tables.insert(new) if old is None else tables.replace(old, new))
        if done:
            return new.number


class Follower:
    """Calls `load(generation)` at once and after every change.

    A store that cannot be read now changes nothing: what was loaded stays, and the next look tries
    again.
    """

    def __init__(
        self, tables: Tables, name: str, load: Callable[[int], Awaitable[None]], clock: Clock
    ) -> None:
        self._tables = tables
        self._name = name
        self._load = load
        self._clock = clock
        self.seen = -1
        self.failures = 0

    def __repr__(self) -> str:
        return f"Follower({self._name}, generation={self.seen}, failures={self.failures})"

    async def refresh(self) -> bool:
        """Loads if there is something new; True when it did."""
        number = await generation(self._tables, self._name)
        if number == self.seen:
            return False
        await self._load(number)
        self.seen = number
        return True

    async def run(self) -> None:
        """Follows for ever; for `Service.background`."""
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            try:
                await self.refresh()
            except StoreFailure:
                self.failures += 1
