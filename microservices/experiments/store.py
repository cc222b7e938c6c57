"""Tests on disk, and the allocator over all of them in memory."""

from __future__ import annotations

from collections.abc import Callable

from chassis.clock import Clock
from chassis.contracts.profiles import EndTest, NewTest
from chassis.errors import StagedoorError
from chassis.storage import Tables
from chassis.storage.rewrite import Rewriter
from microservices.experiments.model import Allocator, StoredTest, end, same, start

RELOAD_EVERY_S = 2.0
"""How late another instance of this service learns of a new test."""
_SALT_BYTES = 16

Decide = Callable[[StoredTest | None], tuple[StoredTest, StoredTest]]


class ExperimentStore:
    """`allocator` answers from memory; it follows every change made here at once."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._rewriter = Rewriter(tables)
        self._clock = clock
        self.allocator = Allocator(())
        self._seen: list[StoredTest] = []

    async def all(self) -> list[StoredTest]:
        """Every test, the oldest first."""
        found = [test async for test in self._tables.scan(StoredTest)]
        return sorted(found, key=lambda test: (test.started_at, test.name))

    async def load(self) -> None:
        found = await self.all()
        if found != self._seen:
            self._seen = found
            self.allocator = Allocator(found)

    async def follow(self) -> None:
        """Reloads now and then; what is in memory stays while the store is away."""
        while True:
            await self._clock.sleep(RELOAD_EVERY_S)
            try:
                await self.load()
            except StagedoorError:
                continue

    async def create(self, asked: NewTest) -> StoredTest:
        fresh = start(asked, self._clock.entropy(_SALT_BYTES).hex(), self._clock.now())

        def decide(stored: StoredTest | None) -> tuple[StoredTest, StoredTest]:
            test = fresh if stored is None else same(stored, asked)
            return test, test

        return await self._change(asked.name, decide)

    async def end(self, asked: EndTest) -> StoredTest:
        def decide(stored: StoredTest | None) -> tuple[StoredTest, StoredTest]:
            test = end(stored, asked, self._clock.now())
            return test, test

        return await self._change(asked.name, decide)

    async def _change(self, name: str, decide: Decide) -> StoredTest:
        test = await self._rewriter.change(StoredTest, (name,), decide)
        await self.load()
        return test
