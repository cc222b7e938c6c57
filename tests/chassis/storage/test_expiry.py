from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import ClassVar

import msgspec

from chassis.clock import ManualClock
from chassis.contracts.keys import Key
from chassis.storage import Tables, open_tables

TTL_S = 60


class Lasting(msgspec.Struct, frozen=True):
    key: ClassVar[Key] = Key("note", ("id",), ("n",))
    id: str
    n: int


class Note(msgspec.Struct, frozen=True):
    key: ClassVar[Key] = Key("note", ("id",), ("n",), ttl_s=TTL_S)
    id: str
    n: int


def opened(folder: Path, clock: ManualClock) -> Tables:
    return open_tables(f"sqlite://{folder}/rows.db", clock)


def rows_on_disk(folder: Path) -> int:
    connection = sqlite3.connect(folder / "rows.db")
    try:
        count: int = connection.execute("SELECT count(*) FROM note").fetchone()[0]
    finally:
        connection.close()
    return count


async def test_expired_rows_leave_the_file_as_others_are_written(tmp_path: Path) -> None:
    clock = ManualClock()
    tables = opened(tmp_path, clock)
    await tables.prepare(Note)
    await tables.put(*[Note(f"old-{n}", n) for n in range(300)])
    clock.tick(TTL_S + 1)
    for n in range(60):
        await tables.put(Note("new", n))
    assert rows_on_disk(tmp_path) == 60
    assert len(await tables.page(Note, "new")) == 60
    await tables.close()


async def test_a_write_looks_at_a_few_more_rows_than_it_writes_and_at_no_more(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    tables = opened(tmp_path, clock)
    await tables.prepare(Note)
    await tables.put(*[Note(f"old-{n}", n) for n in range(5_000)])
    clock.tick(TTL_S + 1)
    await tables.put(Note("new", 1))
    assert rows_on_disk(tmp_path) > 4_900
    await tables.put(*[Note("new", n) for n in range(2_000)])
    assert rows_on_disk(tmp_path) > 6_000
    await tables.close()


async def test_a_row_lives_on_from_its_last_write(tmp_path: Path) -> None:
    clock = ManualClock()
    tables = opened(tmp_path, clock)
    await tables.prepare(Note)
    await tables.put(Note("a", 1))
    clock.tick(TTL_S - 1)
    assert await tables.get(Note, "a", 1) is not None
    await tables.put(Note("a", 1))
    clock.tick(TTL_S - 1)
    assert await tables.get(Note, "a", 1) is not None
    clock.tick(2)
    assert await tables.get(Note, "a", 1) is None
    await tables.close()


async def test_rows_of_a_file_that_knew_no_end_get_one_when_it_is_opened(tmp_path: Path) -> None:
    clock = ManualClock()
    older = opened(tmp_path, clock)
    await older.prepare(Lasting)
    await older.put(Lasting("a", 1))
    await older.put_versioned([(Lasting("b", 1), 7)])
    await older.close()
    tables = opened(tmp_path, clock)
    await tables.prepare(Note)
    assert await tables.get(Note, "a", 1) == Note("a", 1)
    assert await tables.version(Note, "b", 1) == 7
    clock.tick(TTL_S + 1)
    assert [row async for row in tables.scan(Note)] == []
    await tables.close()


async def test_a_lower_version_may_follow_an_expired_row(tmp_path: Path) -> None:
    clock = ManualClock()
    tables = opened(tmp_path, clock)
    await tables.prepare(Note)
    await tables.put_versioned([(Note("a", 1), 9)])
    clock.tick(TTL_S + 1)
    await tables.put_versioned([(Note("a", 1), 3)])
    assert await tables.version(Note, "a", 1) == 3
    await tables.close()
