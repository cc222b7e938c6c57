"""Asks the shared cache for tokens, beside the requests; tells when it cannot be asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from chassis.cache import Cache, Grant, Quota
from chassis.clock import Clock
from chassis.errors import ConfigurationFault, StagedoorError, StoreUnavailable

ASKERS = 8
PROBE_S = 0.25

Answer = Callable[[Grant | None], None]


class Refills:
    """Leases of all limits of a worker. `away` is true from a failure until the cache answers.

    A cache that cannot be reached comes back by itself and is only told of; one that refuses us is
    told of as a fault that somebody has to mend, and stops a worker that is just starting.
    """

    def __init__(self, cache: Cache, clock: Clock, say: Callable[..., Any]) -> None:
        self.away = False
        self._cache = cache
        self._clock = clock
        self._say = say
        self._asked: deque[tuple[str, Quota, int, Answer]] = deque()
        self._askers: set[asyncio.Task[None]] = set()
        self._probing: asyncio.Task[None] | None = None
        self._told = ""

    def __repr__(self) -> str:
        return f"Refills({self._cache!r}, away={self.away}, {len(self._asked)} waiting)"

    async def check(self) -> None:
        """At the start: `ConfigurationFault` when the cache refuses us."""
        try:
            await self._cache.get("probe")
        except StoreUnavailable as fault:
            self._lost(fault)

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
            except (StoreUnavailable, ConfigurationFault) as fault:
                self._lost(fault)
            finally:
                answer(grant)

    def _lost(self, fault: StagedoorError) -> None:
        self._tell(fault)
        if not self.away:
            self.away = True
            self._probing = asyncio.get_running_loop().create_task(self._probe())

    def _tell(self, fault: StagedoorError) -> None:
        """Once for as long as the cache is away; again when it turns out to refuse us."""
        event = "quota_refused" if isinstance(fault, ConfigurationFault) else "quota_away"
        if event != self._told:
            self._told = event
            self._say(event, why=str(fault))

    async def _probe(self) -> None:
        """Until the cache answers again."""
        while self.away:
            await self._clock.sleep(PROBE_S)
            try:
                await self._cache.get("probe")
            except (StoreUnavailable, ConfigurationFault) as fault:
                self._tell(fault)
                continue
            self.away = False
        self._told = ""
        self._say("quota_back")
