from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from chassis.contracts.keys import Key
from chassis.errors import Conflict, StoreUnavailable
from chassis.storage import open_tables
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
