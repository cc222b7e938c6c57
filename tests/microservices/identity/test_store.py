from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chassis.clock import ManualClock
from chassis.storage import Tables, open_tables
from microservices.identity.model.device_codes import DeviceCode, UserCode
from microservices.identity.model.keys import PERIOD_S
from microservices.identity.store import ROWS, DeviceCodeStore, KeyStore


@pytest.fixture
async def tables(tmp_path: Path) -> AsyncIterator[Tables]:
    tables = open_tables(f"sqlite://{tmp_path}/identity.db")
    await tables.prepare(*ROWS)
    yield tables
    await tables.close()


async def test_expired_device_codes_are_swept_and_others_stay(tables: Tables) -> None:
    codes = DeviceCodeStore(tables)
    assert await codes.add(DeviceCode("old", "BBBBBBBB", "tv", "tv", 100.0))
    assert await codes.add(DeviceCode("new", "CCCCCCCC", "tv", "tv", 200.0))
    await codes.sweep(100.0)
    assert [one.digest async for one in tables.scan(DeviceCode)] == ["new"]
    assert [one.user_code async for one in tables.scan(UserCode)] == ["CCCCCCCC"]


async def test_a_user_code_in_use_is_not_given_twice(tables: Tables) -> None:
    codes = DeviceCodeStore(tables)
    assert await codes.add(DeviceCode("one", "BBBBBBBB", "tv", "tv", 100.0))
    assert not await codes.add(DeviceCode("two", "BBBBBBBB", "phone", "phone", 100.0))
    settled = await codes.settle("BBBBBBBB", "a-1", None, True, 50.0)
    assert settled.digest == "one"


async def test_two_instances_sign_with_one_ring(tables: Tables) -> None:
    clock = ManualClock()
    first, second = KeyStore(tables, clock), KeyStore(tables, clock)
    await first.refresh()
    await second.refresh()
    assert first.signer.ring == second.signer.ring
    clock.tick(PERIOD_S)
    await second.refresh()
    assert len(second.signer.ring.keys) == 3
    await first.refresh()
    assert await first.document() == await second.document()


async def test_nobody_else_may_read_the_keys(tables: Tables, tmp_path: Path) -> None:
    await KeyStore(tables, ManualClock()).refresh()
    assert modes(tmp_path) == [0o600, 0o600, 0o600]


def modes(folder: Path) -> list[int]:
    """Of the database, its log and its index."""
    return [file.stat().st_mode & 0o777 for file in folder.glob("identity.db*")]
