"""Asks the shared cache for tokens, beside the requests; tells when it cannot be asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from chassis.cache import Cache, Grant, Quota
from chassis.clock import Clock
from chassis.errors import StagedoorError

ASKERS = 8
PROBE_S = 0.25

Answer = Callable[[Grant | None], None]


class Refills:
    """Leases of all limits of a worker. `away` is true from a failure until the cache answers."""

    def __init__(self, cache: Cache, clock: Clock, say: Callable[..., Any]) -> None:
        self.away = False
        self._cache = cache
        self._clock = clock
        self._say = say
        self._asked: deque[tuple[str, Quota, int, Answer]] = deque()
        self._askers: set[asyncio.Task[None]] = set()
        self._probing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Refills({self._cache!r}, away={self.away}, {len(self._asked)} waiting)"

    def ask(self, name: str, quota: Quota, wanted: int, answer: Answer) -> None:
        """Calls `answer` soon: with the grant, or with None when none could be had."""
        self._asked.append((name, quota, wanted, answer))
        if len(self._askers) < ASKERS:
            asker = asyncio.get_running_loop().create_task(self._ask_all())
            self._askers.add(asker)
            asker.add_done_callback(self._askers.discard)

    async def close(self) -> None:
        running = [*self._askers, *filter(None, [self._probing])]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._cache.close()

    async def _ask_all(self) -> None:
        while self._asked:
            name, quota, wanted, answer = self._asked.popleft()
            grant = None
            try:
                if not self.away:
                    grant = await self._cache.lease(name, quota, wanted)
            except StagedoorError as fault:
                self._lost(fault)
            finally:
                answer(grant)

    def _lost(self, fault: StagedoorError) -> None:
        if not self.away:
            self.away = True
            self._say("quota_away", why=str(fault))
            self._probing = asyncio.get_running_loop().create_task(self._probe())

    async def _probe(self) -> None:
        """Until the cache answers again."""
        while self.away:
            await self._clock.sleep(PROBE_S)
            try:
                await self._cache.get("probe")
            except StagedoorError:
                continue
            self.away = False
        self._say("quota_back")
