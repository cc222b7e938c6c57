"""Opening a database: many at once, and none that may not be."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from chassis.disk.sqlite import connect

OPENERS = 8


@pytest.mark.slow
def test_many_may_open_a_new_database_at_the_same_instant(tmp_path: Path) -> None:
    ready = Barrier(OPENERS)

    def opened(path: Path) -> str:
        ready.wait()
        connection = connect(path, writes=True)
        try:
            connection.execute("CREATE TABLE IF NOT EXISTS rows (value)")
            return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
        except sqlite3.Error as fault:
            return repr(fault)
        finally:
            connection.close()

    with ThreadPoolExecutor(OPENERS) as threads:
        for number in range(200):
            path = tmp_path / str(number) / "rows.db"
            assert set(threads.map(opened, [path] * OPENERS)) == {"wal"}
