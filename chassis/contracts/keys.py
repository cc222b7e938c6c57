"""How a stored row says where it lives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """The table of a row type, and which of its fields address one row.

    Rows with equal `partition` values live together and are read in `clustering` order. With
    `ttl_s` a row is gone that many seconds after it was last written; with `brief`, a row in which
    that field is true is gone that many seconds after instead.
    """

    table: str
    partition: tuple[str, ...]
    clustering: tuple[str, ...] = ()
    ttl_s: int | None = None
    brief: tuple[str, int] | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        return self.partition + self.clustering
