"""What operators said of the pathways: kept in tables, ranked by from memory."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from chassis.clock import Clock
from chassis.contracts.keys import Key
from chassis.contracts.streams import PathwayHealth, PathwayState
from chassis.errors import NotFound
from chassis.storage import Tables
from chassis.storage.generations import Follower, Generation, raise_generation
from microservices.steering.model import DEFAULTS, Pathway, changed

GENERATION = "steering"


class PathwayRow(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one pathway where it differs, or once differed, from its default."""

    key: ClassVar[Key] = Key("pathway", partition=("pathway",))

    pathway: str
    health: PathwayHealth
    weight: int


ROWS = (PathwayRow, Generation)


class SteeringStore:
    """The tables and the pathways as they stand."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self.pathways: tuple[Pathway, ...] = tuple(DEFAULTS.values())
        self.follower = Follower(tables, GENERATION, self._load, clock)

    async def set(self, state: PathwayState) -> None:
        """Changes one pathway; durable on return, and seen by every instance within a second."""
        known = {one.name: one for one in self.pathways}
        if state.pathway not in known:
            raise NotFound(f"there is no such pathway; there are {', '.join(known)}")
        new = changed(known[state.pathway], state)
        await self._tables.put(PathwayRow(pathway=new.name, health=new.health, weight=new.weight))
        await raise_generation(self._tables, GENERATION)
        await self.follower.refresh()

    async def _load(self, generation: int) -> None:
        known = dict(DEFAULTS)
        async for row in self._tables.scan(PathwayRow):
            if row.pathway in known:
                known[row.pathway] = msgspec.structs.replace(
                    known[row.pathway], health=row.health, weight=row.weight
                )
        self.pathways = tuple(known.values())
