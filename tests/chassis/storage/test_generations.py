from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chassis.clock import ManualClock
from chassis.errors import StoreUnavailable
from chassis.storage import Tables, open_tables
from chassis.storage.generations import (
    LOOK_EVERY_S,
    Follower,
    Generation,
    generation,
    raise_generation,
)
from chassis.storage.secrets import Secret, kept_secret


@pytest.fixture
async def tables(tmp_path: Path) -> AsyncIterator[Tables]:
    opened = open_tables(f"sqlite://{tmp_path}/t.db")
    await opened.prepare(Generation, Secret)
    yield opened
    await opened.close()


class Loads:
    """Remembers which generations were loaded; fails while told to."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.failing = False

    async def __call__(self, number: int) -> None:
        if self.failing:
            raise StoreUnavailable("the disk is away")
        self.seen.append(number)


async def test_writers_that_race_raise_it_once_each(tables: Tables) -> None:
    numbers = await asyncio.gather(*(raise_generation(tables, "films") for _ in range(8)))
    assert sorted(numbers) == list(range(1, 9))
    assert await generation(tables, "films") == 8
    assert await generation(tables, "others") == 0


async def test_a_follower_loads_at_once_and_then_only_what_is_new(tables: Tables) -> None:
    loads = Loads()
    follower = Follower(tables, "films", loads, ManualClock())
    assert await follower.refresh()
    assert not await follower.refresh()
    await raise_generation(tables, "films")
    assert await follower.refresh()
    assert loads.seen == [0, 1]


async def test_a_change_is_noticed_within_a_second(tables: Tables) -> None:
    clock, loads = ManualClock(), Loads()
    follower = Follower(tables, "films", loads, clock)
    await follower.refresh()
    running = asyncio.create_task(follower.run())
    await raise_generation(tables, "films")
    await clock.advance(1.0)
    assert loads.seen == [0, 1]
    running.cancel()


async def test_a_store_that_is_away_changes_nothing_and_is_asked_again(tables: Tables) -> None:
    clock, loads = ManualClock(), Loads()
    follower = Follower(tables, "films", loads, clock)
    await follower.refresh()
    running = asyncio.create_task(follower.run())
    await raise_generation(tables, "films")
    loads.failing = True
    await clock.advance(LOOK_EVERY_S)
    assert (follower.seen, follower.failures) == (0, 1)
    loads.failing = False
    await clock.advance(LOOK_EVERY_S)
    assert follower.seen == 1
    assert "generation=1" in repr(follower)
    running.cancel()


async def test_a_secret_is_made_once_however_many_ask(tables: Tables) -> None:
    asked = (kept_secret(tables, "cdn", ManualClock(seed=seed)) for seed in range(5))
    secrets = set(await asyncio.gather(*asked))
    assert len(secrets) == 1
    assert await kept_secret(tables, "cdn", ManualClock(seed=99)) in secrets
    assert await kept_secret(tables, "other", ManualClock(seed=99)) not in secrets


def test_a_secret_is_not_shown() -> None:
    assert "hush" not in repr(Secret("cdn", b"hush"))
