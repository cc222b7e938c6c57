from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from chassis.contracts.keys import Key
from chassis.errors import Conflict, StoreUnavailable
from chassis.storage import Tables, open_tables
from chassis.storage.rewrite import Rewriter


class Tally(msgspec.Struct, frozen=True):
    key: ClassVar[Key] = Key("tally", ("name",))

    name: str
    count: int


def one_more(old: Tally | None) -> tuple[Tally | None, int]:
    count = old.count + 1 if old else 1
    return Tally("a", count), count


async def test_two_openings_of_one_file_never_lose_a_change(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/rows.db"
    first, second = open_tables(url), open_tables(url)
    await first.prepare(Tally)
    rewriters = [Rewriter(first), Rewriter(second)]
    counts = await asyncio.gather(
        *(rewriters[turn % 2].change(Tally, ("a",), one_more) for turn in range(30))
    )
    assert sorted(counts) == list(range(1, 31))
    await first.close()
    await second.close()


async def test_a_decision_that_raises_or_keeps_the_row_writes_nothing(tmp_path: Path) -> None:
    tables = open_tables(f"sqlite://{tmp_path}/rows.db")
    await tables.prepare(Tally)
    rewriter = Rewriter(tables)

    def refuse(old: Tally | None) -> tuple[Tally | None, None]:
        raise Conflict("no")

    with pytest.raises(Conflict):
        await rewriter.change(Tally, ("a",), refuse)
    assert await rewriter.change(Tally, ("a",), lambda old: (old, "kept")) == "kept"
    assert await tables.get(Tally, "a") is None
    await rewriter.change(Tally, ("a",), one_more)
    assert await rewriter.change(Tally, ("a",), lambda old: (None, old)) == Tally("a", 1)
    assert await tables.get(Tally, "a") is None
    await tables.close()


async def test_a_row_that_always_changes_underneath_ends_in_a_clear_failure(tmp_path: Path) -> None:
    tables = open_tables(f"sqlite://{tmp_path}/rows.db")
    await tables.prepare(Tally)
    await tables.insert(Tally("a", 1))

    def from_another(old: Tally | None) -> tuple[Tally | None, None]:
        return Tally("a", 5), None

    class Stale:
        """Tables whose reads are always behind."""

        get = staticmethod(lambda row, *key: asyncio.sleep(0, Tally("a", 0)))
        replace = staticmethod(tables.replace)

    with pytest.raises(StoreUnavailable, match="tally"):
        await Rewriter(Stale()).change(Tally, ("a",), from_another)  # type: ignore[arg-type]
    await tables.close()


class Counted:
    """Tables that count how often a row is read."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.reads = 0

    async def get(self, row: type[Tally], *key: str) -> Tally | None:
        self.reads += 1
        return await self._tables.get(row, *key)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)


@pytest.fixture
async def tables(tmp_path: Path) -> AsyncIterator[Tables]:
    tables = open_tables(f"sqlite://{tmp_path}/rows.db")
    await tables.prepare(Tally)
    yield tables
    await tables.close()


async def test_a_row_that_was_written_here_is_not_read_again(tables: Tables) -> None:
    counted = Counted(tables)
    rewriter = Rewriter(counted, kept=10)  # type: ignore[arg-type]
    assert [await rewriter.change(Tally, ("a",), one_more) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert counted.reads == 1
    assert await tables.get(Tally, "a") == Tally("a", 5)


async def test_a_remembered_row_that_is_no_longer_stored_is_found_out(tables: Tables) -> None:
    rewriter = Rewriter(tables, kept=10)
    await rewriter.change(Tally, ("a",), one_more)
    await tables.put(Tally("a", 41))
    assert await rewriter.change(Tally, ("a",), one_more) == 42
    await tables.delete(Tally, "a")
    assert await rewriter.change(Tally, ("a",), one_more) == 1


async def test_what_writes_nothing_is_decided_on_the_stored_row(tables: Tables) -> None:
    rewriter = Rewriter(tables, kept=10)
    await rewriter.change(Tally, ("a",), one_more)
    await tables.put(Tally("a", 41))

    def full(old: Tally | None) -> tuple[Tally | None, int]:
        if old is not None and old.count == 1:
            raise Conflict("that was long ago")
        return old, old.count if old else 0

    assert await rewriter.change(Tally, ("a",), full) == 41
    assert await rewriter.change(Tally, ("a",), lambda old: (old, old)) == Tally("a", 41)


async def test_no_more_rows_are_remembered_than_there_is_room_for(tables: Tables) -> None:
    counted = Counted(tables)
    rewriter = Rewriter(counted, kept=2)  # type: ignore[arg-type]
    for name in ("a", "b", "c", "c", "b", "a"):
        await rewriter.change(
            Tally, (name,), lambda old, name=name: (Tally(name, 1 + (old.count if old else 0)), 0)
        )
    assert counted.reads == 4


async def test_two_that_remember_never_lose_a_change(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/rows.db"
    first, second = open_tables(url), open_tables(url)
    await first.prepare(Tally)
    rewriters = [Rewriter(first, kept=5), Rewriter(second, kept=5)]
    counts = await asyncio.gather(
        *(rewriters[turn % 2].change(Tally, ("a",), one_more) for turn in range(30))
    )
    assert sorted(counts) == list(range(1, 31))
    await first.close()
    await second.close()
