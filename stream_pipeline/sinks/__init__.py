"""Where the stream ends: view rows and the archive, both behind one port."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from chassis.events import Record
from stream_pipeline.operators.decode import Decoded
from stream_pipeline.operators.dedup import Verdict
from stream_pipeline.source import Source

Positions = dict[Source, int]


class Sink(Protocol):
    """One of a group's ends. `Source` says which partition, positions are the next offset."""

    group: str

    async def resume(self, sources: Sequence[Source]) -> Positions:
        """The next offset each needs, by this sink's own books; absent when there are none yet."""
        ...

    async def read_ahead(self, batch: Sequence[tuple[Source, Decoded | None]]) -> None:
        """Reads what taking these records is going to need, all at once where that is faster."""
        ...

    async def take(self, source: Source, record: Record, decoded: Decoded | None) -> Verdict:
        """Deduplicates and folds one record in memory; `decoded` is None for a dead letter."""
        ...

    def due(self, now: float) -> float:
        """Seconds until something should be flushed; 0 or less: now. Infinite: nothing waits."""
        ...

    async def flush(self, now: float, *, everything: bool = False) -> Positions:
        """Makes durable what is due; up to where each source now is."""
        ...

    async def remember(self, positions: Mapping[Source, int]) -> None:
        """Keeps the frontier, unless what was flushed is itself the frontier."""
        ...

    def forget(self) -> None:
        """Drops whatever is not durable: partitions moved, or a checkpoint failed."""
        ...
