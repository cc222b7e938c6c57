"""Rows held in memory between checkpoints: loaded at first touch, folded, written whole.

A row tells the version of the last record folded into it, so a record with the same or a lower
version is in the row already. Changed rows stay until they are written; unchanged ones make room,
oldest first.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from chassis.storage import Tables


class VersionedRow(Protocol):
    """What every folded row has."""

    @property
    def src_version(self) -> int: ...


Place = tuple[Any, ...]  # row type, then its whole key


class Absent(KeyError):
    """A place whose row was not read yet; `args` holds it."""


class _Known(dict[Place, Any]):
    def __missing__(self, place: Place) -> Any:
        raise Absent(place)


class Rows:
    """`rows[place]` is the row as folded so far, or None where there is none; `Absent` where
    nobody knows yet: `load` it."""

    def __init__(self, tables: Tables, *, capacity: int = 50_000) -> None:
        self._tables = tables
        self._capacity = capacity
        self._known = _Known()
        self._changed: dict[Place, Any] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __getitem__(self, place: Place) -> Any:
        return self._known[place]

    def __setitem__(self, place: Place, row: VersionedRow) -> None:
        """Remembers a folded row until it is written."""
        self._known[place] = self._changed[place] = row

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

    async def write(self) -> int:
        """Writes every changed row, durable on return; how many there were."""
        batch: Sequence[tuple[Any, int]] = [
            (row, row.src_version) for row in self._changed.values()
        ]
        await self._tables.put_versioned(batch)
        self._make_room()
        self._changed.clear()
        return len(batch)

    def forget(self) -> None:
        """Drops everything, written or not: somebody else may be folding these rows now."""
        self._known.clear()
        self._changed.clear()

    def _make_room(self) -> None:
        """What was just written goes last."""
        excess = len(self._known) - self._capacity
        if excess <= 0:
            return
        for place, row in self._changed.items():
            del self._known[place]
            self._known[place] = row
        for place in list(itertools.islice(self._known, excess)):
            del self._known[place]
