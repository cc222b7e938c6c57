"""The tables port: rows under a partition and clustering key, with versioned writes.

A row type is a frozen `msgspec.Struct` that says where it lives:

    class Bookmark(msgspec.Struct, frozen=True):
        key: ClassVar[Key] = Key("bookmark", partition=("profile_id",), clustering=("title_id",))
        profile_id: str
        title_id: str
        position_ms: int

Columns of type str, int (64 bits, signed), float, bool, bytes, an enum of str or int, or one of
these or None, are stored as they are; every other type is stored as JSON. Key fields are plain
str, int, float, bool, bytes or enums, never None.

With `Key(..., ttl_s=...)` a row is gone that long after it was last written, and sooner when its
`brief` field is true (such rows take no `replace`); what was written under a lower version than an
expired row's may stay hidden.

The port promises what a wide-column store can keep. A table is written in one of three ways and
no two of them are mixed on the same rows, because such a store orders them by different clocks:
plain (`put`, `delete`), conditional (`insert`, `replace`, `delete(only=...)`), or versioned
(`put_versioned`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from chassis.clock import SYSTEM, Clock
from chassis.errors import ConfigurationFault

Row = msgspec.Struct
R = TypeVar("R", bound=Row)


class Capabilities(msgspec.Struct, frozen=True):
    """Where adapters may differ; everything else they do alike."""

    isolated_batches: bool
    """A batch over several partitions appears to readers all at once, not only in the end."""
    first_of_equal_versions: bool
    """Of two different rows under one version the first stays. Where this is False they end as a
    mixture of both; a version that always carries the same row is safe everywhere."""
    empty_partitions: bool
    """An empty text may be all there is of a partition's key."""


class Tables(Protocol):
    """Rows in tables. Every method raises `StoreUnavailable` when the store cannot do it now.

    A caller that is cancelled, or whom a write fails with `StoreUnavailable`, does not know
    whether the write happened; it happened whole or not at all, and later writes are not affected.
    Only of writes that are repeated anyway, `put_versioned` and `put(together=False)`, may any
    rows be stored then.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    async def prepare(self, *rows: type[Row]) -> None:
        """Creates missing tables, adds missing columns that have a default.

        `SchemaFault` names each difference when the store holds another shape. Call it once with
        every row type before using any.
        """
        ...

    async def get(self, row: type[R], *key: Any) -> R | None:
        """The row under a whole key: partition values, then clustering values."""
        ...

    async def get_many(self, row: type[R], keys: Sequence[tuple[Any, ...]]) -> list[R | None]:
        """The row under each of these whole keys, in their order; at least as fast as asking one
        by one, and much faster where the store is far away."""
        ...

    async def page(
        self,
        row: type[R],
        *partition: Any,
        limit: int = 100,
        after: tuple[Any, ...] | None = None,
        reverse: bool = False,
    ) -> list[R]:
        """Up to `limit` rows of one partition in clustering order.

        `after` holds the whole clustering key of the last row seen; paging goes on behind it.
        """
        ...

    def scan(self, row: type[R]) -> AsyncIterator[R]:
        """Every row, unordered across partitions; rows written meanwhile may or may not appear."""
        ...

    async def put(self, *rows: Row, together: bool = True) -> None:
        """Upserts all the rows or none, of any tables; the last call wins. Durable on return.

        Some hundred rows of some hundred bytes are as much as a store takes at once, else it is
        `Unprocessable`. For more give up that they appear together: each row or none of it.
        """
        ...

    async def put_versioned(self, rows: Sequence[tuple[Row, int]]) -> None:
        """Upserts each row unless the stored version is as high. Durable on return.

        A version (0 or above) always carries the same row, and those of a row only rise: repeating
        a batch, or a part of it, in any order is harmless.
        """
        ...

    async def version(self, row: type[Row], *key: Any) -> int | None:
        """The version that `put_versioned` stored; None when there is no row."""
        ...

    async def insert(self, row: Row) -> bool:
        """Creates the row; False, changing nothing, when its key is taken."""
        ...

    async def replace(self, old: R, new: R) -> bool:
        """Puts `new` in the place of `old` (same key) if the stored row still equals `old`."""
        ...

    async def delete(self, row: type[R], *key: Any, only: R | None = None) -> bool:
        """Removes the row, if it still equals `only` when that is given; True when it did.

        Without `only` it is True when there was a row; of several that remove it at once more
        than one may say so.
        """
        ...

    async def close(self) -> None:
        """Finishes writes under way, then lets go of everything."""
        ...


def open_tables(url: str, clock: Clock = SYSTEM) -> Tables:
    """The adapter that `url` names: `sqlite:///absolute/path.db` or `cassandra://host/keyspace`
    (`cassandras://` with TLS; `?ca=` names a file of authorities to trust)."""
    scheme = url.partition("://")[0]
    if scheme == "sqlite":
        from chassis.storage.sqlite import SqliteTables

        return SqliteTables.open(url, clock)
    if scheme in ("cassandra", "cassandras"):
        from chassis.storage.cassandra import CassandraTables

        return CassandraTables.open(url, clock)
    raise ConfigurationFault(
        [
            f"unknown scheme {scheme!r}; write sqlite:///absolute/path.db or"
            " cassandra://host:port/keyspace"
        ],
        what="the tables URL",
    )
