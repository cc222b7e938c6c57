"""The catalogue's tables, and the catalogue that was last loaded from them.

A few thousand titles fit in memory with room to spare. They are loaded anew when the generation
of the tables moves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chassis.clock import Clock
from chassis.errors import StoreUnavailable
from chassis.storage import Tables
from chassis.storage.generations import Follower, Generation, raise_generation
from microservices.catalog.model import Catalogue, Episode, Sharing, Title

GENERATION = "catalog"
ROWS = (Title, Episode, Generation)
BATCH = 400


class CatalogStore:
    """The tables and the catalogue that was last loaded from them."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._current = Catalogue(0, (), ())
        self.follower = Follower(tables, GENERATION, self._load, clock)

    @property
    def catalogue(self) -> Catalogue:
        """The present catalogue; `StoreUnavailable` while there is none.

        An empty catalogue must never look like one that lacks the title in question.
        """
        if not len(self._current):
            raise StoreUnavailable(
                "the catalogue is empty: fill it with `stagedoor catalog ingest`",
                code="catalog_empty",
                retry_after_s=1,
            )
        return self._current

    @property
    def generation(self) -> int:
        return self._current.generation

    async def _load(self, generation: int) -> None:
        sharing = Sharing()
        titles = [sharing.share(title) async for title in self._tables.scan(Title)]
        episodes = [episode async for episode in self._tables.scan(Episode)]
        self._current = Catalogue(generation, titles, episodes)


async def write_titles(
    tables: Tables,
    titles: Sequence[Title],
    episodes: Sequence[Episode] = (),
    progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Puts the rows in batches and raises the generation; the new generation.

    `progress` hears how many rows are durable so far.
    """
    rows = [*titles, *episodes]
    for start in range(0, len(rows), BATCH):
        await tables.put(*rows[start : start + BATCH], together=False)
        progress(min(start + BATCH, len(rows)))
    return await raise_generation(tables, GENERATION)
