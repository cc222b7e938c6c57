from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chassis.clock import ManualClock
from chassis.errors import StoreUnavailable
from chassis.storage import open_objects
from tests.support.disks import file_size_limit, remount_read_only, small_disk


async def test_what_crashed_writers_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    staging = tmp_path / ".staging"
    staging.mkdir()
    clock = ManualClock()
    for name, age_s in (("old", 7200), ("young", 60)):
        (staging / name).write_bytes(b"half")
        os.utime(staging / name, (clock.now() - age_s,) * 2)
    objects = open_objects(f"file://{tmp_path}", clock)
    assert [path.name for path in staging.iterdir()] == ["young"]
    assert [info async for info in objects.list()] == []
    await objects.close()


async def test_a_disk_that_refuses_leaves_no_object_and_nothing_half_written(
    tmp_path: Path,
) -> None:
    objects = open_objects(f"file://{tmp_path}")
    with file_size_limit(5000), pytest.raises(StoreUnavailable, match="ulimit"):
        await objects.create("a/b", b"x" * 10_000)
    assert list((tmp_path / ".staging").iterdir()) == []
    await objects.create("a/b", b"x" * 10_000)
    assert len(await objects.get("a/b")) == 10_000
    await objects.close()


async def test_pieces_that_stop_leave_nothing_half_written(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x" * 10_000
        raise ValueError("no more")

    objects = open_objects(f"file://{tmp_path}")
    with pytest.raises(ValueError, match="no more"):
        await objects.create_from("a/b", pieces())
    assert list((tmp_path / ".staging").iterdir()) == []
    await objects.close()


async def test_a_full_disk_and_a_read_only_one_say_what_to_do(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 256 << 10) as disk:
        objects = open_objects(f"file://{disk}/objects")
        with pytest.raises(StoreUnavailable, match="the disk is full: free some space"):
            await objects.create("big", b"x" * 1_000_000)
        await objects.create("small", b"x")
        remount_read_only(disk)
        with pytest.raises(StoreUnavailable, match="read-only"):
            await objects.create("other", b"x")
        assert await objects.get("small") == b"x"
        await objects.close()


async def test_an_object_that_is_a_folder_of_the_key_is_in_the_way(tmp_path: Path) -> None:
    objects = open_objects(f"file://{tmp_path}")
    await objects.create("a", b"")
    with pytest.raises(Exception, match="a folder of it is an object"):
        await objects.create("a/b", b"")
    await objects.close()
