"""Which rows travel together. Pure.

A batch within one partition is one write. A batch over several partitions that live on the same
nodes saves the driver and the server most of the cost of a message; a server refuses one that is
too large, so they are kept small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

LIMIT_BYTES = 40 << 10
"""Below the 50 KiB at which a server with its own settings refuses a batch."""
_COLUMN_BYTES = 12
_ROW_BYTES = 48
"""What a server adds to each column, and to each row, when it weighs a batch."""


class Packed(NamedTuple):
    """A row's statement, the partition it goes to, how many columns it has, and its identity."""

    fragment: bytes
    routing: bytes
    columns: int
    identity: Any = None

    @property
    def weight(self) -> int:
        return len(self.fragment) + self.columns * _COLUMN_BYTES + _ROW_BYTES


class Batch(NamedTuple):
    fragments: list[bytes]
    routing: bytes


Replicas = Callable[[bytes], tuple[str, ...]]


def batches(rows: Sequence[Packed], replicas: Replicas) -> Iterator[Batch]:
    """All rows, those of one partition together, in batches for nodes that keep them all."""
    partitions: dict[bytes, list[Packed]] = {}
    for row in rows:
        partitions.setdefault(row.routing, []).append(row)
    filling: dict[tuple[str, ...], tuple[Batch, int]] = {}
    for routing, together in partitions.items():
        place = replicas(routing)
        batch, weight = filling.get(place) or (Batch([], routing), 0)
        for row in together:
            if weight and weight + row.weight > LIMIT_BYTES:
                yield batch
                batch, weight = Batch([], routing), 0
            batch.fragments.append(row.fragment)
            weight += row.weight
        filling[place] = batch, weight
    for batch, _ in filling.values():
        yield batch


def last_of_each(rows: Sequence[Packed]) -> list[Packed]:
    """One row for each identity: rows of one write have one timestamp, which orders nothing."""
    return list({row.identity: row for row in rows}.values())
