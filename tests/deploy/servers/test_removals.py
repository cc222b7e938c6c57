"""A Cassandra that was killed while it removed files: what it had begun is finished, no more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.servers.removals import Record, finish_removals
from tests.support.removals import COMMITTED, PARTS, TIME_MS, half_removed, write_log


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "system" / "local-7ad5"
    folder.mkdir(parents=True)
    return folder


def test_a_record_is_written_as_cassandra_writes_it() -> None:
    assert COMMITTED.line() == "COMMIT:[,0,0][2613697770]"
    removed = Record("REMOVE", "/data/system/local-7ad5/nb-1-big-", TIME_MS, 8)
    assert removed.line().startswith(f"REMOVE:[{removed.prefix},{TIME_MS},8][")


def test_what_a_committed_transaction_had_begun_to_remove_is_removed(
    tmp_path: Path, folder: Path
) -> None:
    left = half_removed(folder)
    other = folder / "nb-902-big-Data.db"
    other.write_bytes(b"other")
    finish_removals(tmp_path)
    assert not left.exists()
    assert other.exists()


@pytest.mark.parametrize(
    ("end", "age_ms"),
    [
        pytest.param(Record("ABORT", "", 0, 0), 44, id="aborted"),
        pytest.param(Record("ADD", "/data/nb-1-big-", 0, 8), 44, id="under way"),
        pytest.param(COMMITTED, 0, id="the youngest is there"),
        pytest.param(COMMITTED, -5, id="younger than what was removed"),
    ],
)
def test_everything_else_is_left_to_cassandra(
    tmp_path: Path, folder: Path, end: Record, age_ms: int
) -> None:
    left = half_removed(folder, end=end, age_ms=age_ms)
    finish_removals(tmp_path)
    assert left.exists()


def test_a_table_that_is_whole_is_left_to_cassandra(tmp_path: Path, folder: Path) -> None:
    left = half_removed(folder)
    for part in PARTS:
        file = folder / f"nb-901-big-{part}"
        file.write_bytes(b"old")
        os.utime(file, ns=(1, 1))
    finish_removals(tmp_path)
    assert left.exists()


@pytest.mark.parametrize("damage", [b"[1]", b"", b"\xff\n", b"REMOVE"])
def test_a_log_that_is_damaged_removes_nothing(tmp_path: Path, folder: Path, damage: bytes) -> None:
    left = half_removed(folder)
    (log,) = folder.glob("*.log")
    whole = log.read_bytes()
    log.write_bytes(whole[:-4] + damage if damage else whole.replace(b"29,3", b"29,4"))
    finish_removals(tmp_path)
    assert left.exists()


@pytest.mark.parametrize("begin", ["", "nb", "nb-901", "*"])
def test_what_names_no_table_removes_nothing(tmp_path: Path, folder: Path, begin: str) -> None:
    other = folder / "nb-901-big-Data.db"
    other.write_bytes(b"other")
    os.utime(other, ns=(1, 1))
    write_log(folder, Record("REMOVE", f"{folder}/{begin}", TIME_MS, 8), COMMITTED)
    finish_removals(tmp_path)
    assert other.exists()


def test_a_node_that_has_no_data_yet_has_nothing_to_remove(tmp_path: Path) -> None:
    finish_removals(tmp_path / "data")
    half = write_log(tmp_path, Record("REMOVE", "/nowhere/nb-1-big-", TIME_MS, 8), COMMITTED)
    finish_removals(tmp_path)
    assert half.exists()
