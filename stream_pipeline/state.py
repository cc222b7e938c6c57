"""Rows held in memory between checkpoints: loaded at first touch, folded, written whole.

A row tells the version of the last record folded into it, so a record with the same or a lower
version is in the row already. Changed rows stay until they are written; unchanged ones make room,
oldest first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from chassis.storage import Tables


class VersionedRow(Protocol):
    """What every folded row has."""

    @property
    def src_version(self) -> int: ...


R = TypeVar("R", bound=msgspec.Struct)
Place = tuple[Any, ...]  # row type, then its whole key


class Rows:
    def __init__(self, tables: Tables, *, capacity: int = 50_000) -> None:
        self._tables = tables
        self._capacity = capacity
        self._known: dict[Place, Any] = {}
        self._changed: dict[Place, Any] = {}

    def __len__(self) -> int:
        return len(self._known)

    @property
    def changed(self) -> int:
        return len(self._changed)

    async def load(self, places: Iterable[Place]) -> list[Place]:
        """Reads those rows that are not in memory, each kind at once; which these were."""
        known = self._known
        missing = list(dict.fromkeys(place for place in places if place not in known))
        kinds: dict[Any, list[Place]] = {}
        for place in missing:
            kinds.setdefault(place[0], []).append(place)
        await asyncio.gather(*(self._load(row, found) for row, found in kinds.items()))
        return missing

    async def _load(self, row: type[Any], places: Sequence[Place]) -> None:
        found = await self._tables.get_many(row, [place[1:] for place in places])
        self._known.update(zip(places, found, strict=True))

    def known(self, place: Place) -> Any:
        """The row in memory; None also where nothing was read yet."""
        return self._known.get(place)

    async def get(self, row: type[R], *key: str) -> R | None:
        """The present row, from memory or the store."""
        place = (row, *key)
        if place in self._known:
            known: R | None = self._known[place]
            return known
        stored = self._known[place] = await self._tables.get(row, *key)
        return stored

    def put(self, row: Any, *key: str) -> None:
        """Remembers a folded row until it is written."""
        place = (type(row), *key)
        self._known.pop(place, None)
        self._known[place] = self._changed[place] = row

    async def write(self) -> int:
        """Writes every changed row, durable on return; how many there were."""
        batch: Sequence[tuple[Any, int]] = [
            (row, row.src_version) for row in self._changed.values()
        ]
        await self._tables.put_versioned(batch)
        self._changed.clear()
        self._make_room()
        return len(batch)

    def forget(self) -> None:
        """Drops everything, written or not: somebody else may be folding these rows now."""
        self._known.clear()
        self._changed.clear()

    def _make_room(self) -> None:
        for place in list(self._known)[: max(0, len(self._known) - self._capacity)]:
            del self._known[place]
