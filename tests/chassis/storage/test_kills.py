"""kill -9 at any instant, with real processes: rows that were acknowledged are there, whole."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from chassis.errors import AlreadyExists
from chassis.storage import open_objects, open_tables
from tests.support.kills import Writer
from tests.support.rows import Place

pytestmark = pytest.mark.slow


def killed(kind: str, folder: Path, seed: int, lines: int) -> set[int]:
    """What several writers in a row had acknowledged when they were killed."""
    chance = random.Random(seed)
    acknowledged: set[int] = set()
    for run in range(6):
        with Writer(kind, folder, first=run * 1_000_000) as writer:
            writer.wait_for(chance.randrange(1, lines))
            acknowledged.update(writer.kill())
    return acknowledged


async def test_rows_acknowledged_are_there_and_batches_are_whole(tmp_path: Path) -> None:
    acknowledged = await asyncio.to_thread(killed, "tables", tmp_path, 3, 300)
    tables = open_tables(f"sqlite://{tmp_path}/rows.db")
    rows = [row async for row in tables.scan(Place)]
    numbers = {row.position_ms for row in rows}
    assert acknowledged <= numbers
    for row in rows[:: len(rows) // 20]:
        assert len(await tables.page(Place, row.profile_id)) == 5
        assert await tables.version(Place, row.profile_id, row.title_id) == row.position_ms + 1
    await tables.close()


async def test_objects_acknowledged_are_there_and_every_object_is_whole(tmp_path: Path) -> None:
    acknowledged = await asyncio.to_thread(killed, "objects", tmp_path, 4, 60)
    objects = open_objects(f"file://{tmp_path}/objects")
    infos = {int(info.key.partition("/")[2]): info async for info in objects.list("k")}
    assert acknowledged <= set(infos)
    assert {info.size for info in infos.values()} == {100_000}
    with pytest.raises(AlreadyExists):
        await objects.create(f"k/{min(acknowledged)}", b"")
    await objects.close()
