from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from chassis.errors import StoreUnavailable
from chassis.storage import open_tables
from tests.support.disks import file_size_limit, remount_read_only, small_disk
from tests.support.rows import Alone, Place


async def test_a_commit_is_durable_by_the_pragmas_of_both_connections(tmp_path: Path) -> None:
    tables = open_tables(f"sqlite://{tmp_path}/rows.db")
    await tables.prepare(Alone)
    for connection in (tables._writer, tables._reader):
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    await tables.close()


async def test_many_waiting_writers_share_a_commit(tmp_path: Path) -> None:
    tables = open_tables(f"sqlite://{tmp_path}/rows.db")
    await tables.prepare(Alone)
    commits: list[str] = []
    tables._writer.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    await asyncio.gather(*[tables.put(Alone(f"k{n}", n)) for n in range(400)])
    assert len(commits) < 20
    await tables.close()


async def test_a_disk_that_refuses_says_so_and_a_later_write_succeeds(tmp_path: Path) -> None:
    tables = open_tables(f"sqlite://{tmp_path}/rows.db")
    await tables.prepare(Place)
    big = [Place("p" * 1000, f"t{n}" * 100, n) for n in range(400)]
    with file_size_limit(200_000), pytest.raises(StoreUnavailable, match=r"rows\.db"):
        await tables.put(*big)
    assert await tables.page(Place, "p" * 1000) == []
    await tables.put(*big)
    assert len(await tables.page(Place, "p" * 1000, limit=999)) == 400
    await tables.close()


async def test_a_full_disk_and_a_read_only_one_say_what_to_do(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 512 << 10) as disk:
        tables = open_tables(f"sqlite://{disk}/rows.db")
        await tables.prepare(Place)
        await tables.put(Place("p", "t", 1))
        with pytest.raises(StoreUnavailable, match="the disk is full: free some space"):
            await tables.put(*[Place("p" * 1000, f"t{n}" * 100, n) for n in range(900)])
        assert await tables.get(Place, "p", "t") == Place("p", "t", 1)
        await tables.put(Place("p", "t", 2))
        await tables.close()
        remount_read_only(disk)
        with pytest.raises(StoreUnavailable, match=r"cannot be (written|opened)"):
            open_tables(f"sqlite://{disk}/rows.db")


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.db").write_bytes(b"this is a text" * 1000)
    with pytest.raises(StoreUnavailable, match=r"rows\.db: this is no SQLite database"):
        open_tables(f"sqlite://{tmp_path}/rows.db")


async def test_a_writer_of_another_process_that_never_ends_is_named(tmp_path: Path) -> None:
    tables = open_tables(f"sqlite://{tmp_path}/rows.db")
    await tables.prepare(Alone)
    tables._writer.execute("PRAGMA busy_timeout=20")
    other = sqlite3.connect(tmp_path / "rows.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="another process has been writing"):
        await tables.put(Alone("a", 1))
    assert await tables.get(Alone, "a") is None
    other.execute("ROLLBACK")
    other.close()
    await tables.put(Alone("a", 1))
    await tables.close()
