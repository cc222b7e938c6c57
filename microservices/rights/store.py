"""Licence windows: kept in tables, decided on from memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar, Literal

import msgspec

from chassis.clock import Clock
from chassis.contracts.common import DeviceType, Plan
from chassis.contracts.keys import Key
from chassis.contracts.titles import Window
from chassis.errors import StoreUnavailable
from chassis.storage import Tables
from chassis.storage.generations import Follower, Generation, raise_generation
from microservices.rights.model import Windows

GENERATION = "rights"
BATCH = 400
_NONE: Windows = {}


class WindowRow(msgspec.Struct, frozen=True, kw_only=True):
    """A window and who set it; an ingest leaves alone what an operator set."""

    key: ClassVar[Key] = Key("window", partition=("title_id",), clustering=("territory",))

    title_id: str
    territory: str
    starts: float
    ends: float
    plans: tuple[Plan, ...]
    max_height: int
    hdr: bool
    offline: bool
    blocked_devices: tuple[DeviceType, ...]
    set_by: Literal["ingest", "operator"] = "operator"

    @classmethod
    def of(cls, window: Window, set_by: Literal["ingest", "operator"]) -> WindowRow:
        return cls(**msgspec.structs.asdict(window), set_by=set_by)

    def window(self) -> Window:
        values = {name: getattr(self, name) for name in Window.__struct_fields__}
        return Window(**values)


ROWS = (WindowRow, Generation)


class RightsStore:
    """The tables and the windows that were last loaded from them."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._windows: dict[str, dict[str, Window]] = {}
        self.follower = Follower(tables, GENERATION, self._load, clock)

    def windows(self, title_id: str) -> Windows:
        """The title's windows by territory, none when it has none.

        `StoreUnavailable` while there are no windows at all: that is an outage and no denial.
        """
        if not self._windows:
            raise StoreUnavailable(
                "there are no licence windows: fill them with `stagedoor catalog ingest`",
                code="rights_empty",
                retry_after_s=1,
            )
        return self._windows.get(title_id, _NONE)

    async def set(self, window: Window) -> None:
        """Puts one window in the place of its title's and territory's; durable on return."""
        await self._tables.put(WindowRow.of(window, "operator"))
        await raise_generation(self._tables, GENERATION)
        await self.follower.refresh()

    async def _load(self, generation: int) -> None:
        windows: dict[str, dict[str, Window]] = {}
        async for row in self._tables.scan(WindowRow):
            windows.setdefault(row.title_id, {})[row.territory] = row.window()
        self._windows = windows


async def write_windows(
    tables: Tables,
    windows: Sequence[Window],
    progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Puts the windows of an ingest in the place of earlier ones, and raises the generation.

    A title of these that an operator has set a window of keeps all its windows as they are.
    """
    stored = {(row.title_id, row.territory): row async for row in tables.scan(WindowRow)}
    touched = {row.title_id for row in stored.values() if row.set_by == "operator"}
    rows = [WindowRow.of(one, "ingest") for one in windows if one.title_id not in touched]
    for row in _withdrawn(stored, rows):
        await tables.delete(WindowRow, row.title_id, row.territory)
    for start in range(0, len(rows), BATCH):
        await tables.put(*rows[start : start + BATCH], together=False)
        progress(min(start + BATCH, len(rows)))
    return await raise_generation(tables, GENERATION)


def _withdrawn(
    stored: Mapping[tuple[str, str], WindowRow], rows: Sequence[WindowRow]
) -> Iterable[WindowRow]:
    """Stored windows of these titles that are no longer among theirs."""
    present = {(row.title_id, row.territory) for row in rows}
    titles = {row.title_id for row in rows}
    for place, row in stored.items():
        if row.title_id in titles and place not in present:
            yield row
