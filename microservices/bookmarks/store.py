"""Reads the view `continue_watching`; tells of changes, which the stream folds into it."""

from __future__ import annotations

from chassis.contracts.events import PLAYBACK_BEACON, Envelope
from chassis.contracts.viewing import ContinueWatching
from chassis.events import Spool
from chassis.storage import Tables

ROWS_LIMIT = 1_000


class BookmarkStore:
    """A read model: nothing is written here, so a bookmark changes when its event was folded."""

    def __init__(self, views: Tables, spool: Spool) -> None:
        self._views = views
        self._spool = spool

    async def get(self, profile_id: str, title_id: str) -> ContinueWatching | None:
        return await self._views.get(ContinueWatching, profile_id, title_id)

    async def all(self, profile_id: str) -> list[ContinueWatching]:
        return await self._views.page(ContinueWatching, profile_id, limit=ROWS_LIMIT)

    async def tell(self, envelope: Envelope) -> None:
        """Durable on return; `Shed` when the spool is full."""
        await self._spool.append(PLAYBACK_BEACON, [envelope])
