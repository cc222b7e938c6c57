"""Being in the registry: entered when it can be, and taken out on leaving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from chassis.clock import ManualClock
from chassis.discovery import Instance, Registration
from chassis.discovery.presence import stay
from chassis.errors import StoreUnavailable
from tests.support.services import StillRegistry
from tests.support.waiting import until

ME = Instance("things-1", "things", "127.0.0.1", 80)


class Entered:
    """What the registry gave out; `away` as the registry is."""

    def __init__(self, registry: Moody, instance: Instance) -> None:
        self.instance = instance
        self._registry = registry

    async def deregister(self) -> None:
        self._registry.answer()
        self._registry.entered.remove(self.instance)


class Moody(StillRegistry):
    """A registry that is away while the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.tries = 0
        self.entered: list[Instance] = []

    def answer(self) -> None:
        self.tries += 1
        if self.away:
            raise StoreUnavailable("the registry is away")

    async def register(self, instance: Instance, *, ttl_s: float = 3.0) -> Registration:
        self.answer()
        self.entered.append(instance)
        return Entered(self, instance)


@asynccontextmanager
async def staying(registry: Moody, clock: ManualClock, **options: Any) -> AsyncIterator[None]:
    task = asyncio.ensure_future(stay(registry, ME, clock, **options))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()


async def test_it_is_there_until_it_leaves() -> None:
    registry, entered = Moody(), list[str]()
    async with staying(registry, ManualClock(), entered=lambda: entered.append("entered")):
        await until(lambda: entered)
        assert registry.entered == [ME]
    assert registry.entered == []


async def test_a_registry_that_is_away_is_asked_again_ever_more_slowly() -> None:
    registry, clock, faults = Moody(), ManualClock(), list[StoreUnavailable]()
    registry.away = True
    async with staying(registry, clock, refused=faults.append):
        await clock.advance(1.0)
        early = registry.tries
        await clock.advance(60.0)
        assert early >= 3 and 30 <= registry.tries <= 70
        assert len(faults) == registry.tries
        registry.away = False
        await clock.advance(2.0)
        assert registry.entered == [ME]


async def test_told_to_leave_before_it_could_enter_it_just_goes() -> None:
    registry, clock = Moody(), ManualClock()
    registry.away = True
    async with staying(registry, clock):
        await until(lambda: registry.tries)
    await clock.advance(10)
    assert registry.tries == 1


async def test_leaving_a_registry_that_is_away_is_told_and_no_failure() -> None:
    registry, faults = Moody(), list[StoreUnavailable]()
    async with staying(registry, ManualClock(), refused=faults.append):
        await until(lambda: registry.entered)
        registry.away = True
    assert len(faults) == 1
