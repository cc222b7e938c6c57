"""Restarts a service while it serves: one process at a time, the next when the last is back.

A gateway is replaced: its successor accepts from the same sockets before it is told to drain. Any
other process is drained and started again, so there must be another one of its service for nobody
to notice.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

from chassis.clock import Clock
from chassis.errors import Conflict, StagedoorError
from deploy.fleet import Fleet, Running
from deploy.forking import Child

SETTLE_S = 0.5
"""How long everybody else has to learn of the one that is back, before the next one goes."""


class Rolling:
    """`is_found(running, pid)` says whether that process is in the registry."""

    def __init__(
        self,
        fleet: Fleet,
        is_found: Callable[[Running, int], bool],
        clock: Clock,
        *,
        back_s: float = 30.0,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._fleet = fleet
        self._is_found = is_found
        self._clock = clock
        self._back_s = back_s
        self._settle_s = settle_s
        self._under_way = ""

    def __repr__(self) -> str:
        return f"Rolling({self._under_way or 'nothing'} under way)"

    async def restart(self, name: str) -> list[str]:
        """Every process of a service, or one instance; which ones. `StagedoorError` when one does
        not come back: those behind it are left as they are."""
        chosen = self._fleet.named(name)
        if self._under_way:
            raise Conflict(f"a restart of {self._under_way} is under way")
        self._under_way = name
        try:
            for running in chosen:
                if running.spec.hands_over:
                    await self._replace(running)
                else:
                    await self._start_again(running)
        finally:
            self._under_way = ""
        return [running.spec.instance for running in chosen]

    async def _replace(self, running: Running) -> None:
        """The successor is there before the old one goes; if it does not come, nothing changes."""
        successor = await self._fleet.fork(running.spec)
        try:
            await self._until_back(running, successor)
        except BaseException:
            await self._fleet.end(successor, running.spec, signal.SIGKILL)
            raise
        old = running.child
        self._fleet.adopt(running, successor)
        if old is not None:
            await self._fleet.end(old, running.spec, signal.SIGHUP)

    async def _start_again(self, running: Running) -> None:
        running.is_leaving = True
        try:
            if running.child is not None:
                await self._fleet.end(running.child, running.spec, signal.SIGTERM)
            child = await self._fleet.fork(running.spec)
            self._fleet.adopt(running, child)
        finally:
            running.is_leaving = False
        await self._until_back(running, child)
        await self._clock.sleep(self._settle_s)

    async def _until_back(self, running: Running, child: Child) -> None:
        instance = running.spec.instance
        give_up = self._clock.monotonic() + self._back_s
        while not self._is_found(running, child.pid):
            if child.ended.done():
                why = self._fleet.words(running.spec)
                raise StagedoorError(f"{instance} ended instead of coming back: {why}")
            if self._clock.monotonic() > give_up:
                raise StagedoorError(f"{instance} is not back after {self._back_s:.0f} s")
            await self._clock.sleep(0.02)
