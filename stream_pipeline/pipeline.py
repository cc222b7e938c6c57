"""The run loop of one group: take, finish when due, wait longer each time a store refuses."""

from __future__ import annotations

import asyncio

from chassis.clock import Clock
from chassis.errors import ConfigurationFault, Fenced, StagedoorError, StoreUnavailable
from chassis.telemetry.logs import LineLog
from stream_pipeline.checkpoint import Checkpoint
from stream_pipeline.measures import GroupMeasures

BATCH = 2_000
IDLE_S = 1.0
LAG_EVERY_S = 1.0
BACKOFF_S = 0.05
BACKOFF_LIMIT_S = 2.0
MENDED_S = 10.0
"""How long a group waits before it tries a store again that has refused it."""


class Group:
    """One member of a consumer group, from its first record until it is cancelled."""

    def __init__(
        self,
        name: str,
        checkpoint: Checkpoint,
        measures: GroupMeasures,
        clock: Clock,
        log: LineLog,
    ) -> None:
        self.name = name
        self._checkpoint = checkpoint
        self._measures = measures
        self._clock = clock
        self._log = log
        self._backoff = BACKOFF_S
        self._behind = False
        self._lag_at = 0.0

    async def run(self) -> None:
        """Until cancelled. A gap in the log halts this group only, and for good: it says so and
        waits. A store that refuses us halts it until somebody has mended that."""
        while True:
            try:
                await self.turn()
                self._backoff = BACKOFF_S
                self._measures.halted = False
            except (StoreUnavailable, Fenced) as fault:
                self._behind = True
                await self._wait(fault)
            except ConfigurationFault as fault:
                self._behind = True
                self._halt(fault)
                await self._clock.sleep(MENDED_S)
            except StagedoorError as fault:
                self._halt(fault)
                await asyncio.get_running_loop().create_future()

    async def turn(self) -> int:
        """One batch of records, and a checkpoint when one is due."""
        if self._behind:
            await self._checkpoint.restart()
            self._behind = False
        taken = await self._checkpoint.take(BATCH, IDLE_S)
        if self._checkpoint.due():
            await self._checkpoint.finish()
        if self._clock.monotonic() >= self._lag_at:
            self._lag_at = self._clock.monotonic() + LAG_EVERY_S
            self._measures.lag = await self._checkpoint.lag()
        return taken

    async def close(self) -> None:
        try:
            await self._checkpoint.close()
        except StagedoorError as fault:
            self._log.say("left_unfinished", group=self.name, why=fault.detail)

    async def _wait(self, fault: StagedoorError) -> None:
        self._log.say("store_unavailable", group=self.name, why=fault.detail)
        await self._clock.sleep(self._backoff * (0.5 + self._clock.random()))
        self._backoff = min(BACKOFF_LIMIT_S, self._backoff * 2)

    def _halt(self, fault: StagedoorError) -> None:
        """Going on would skip records: an operator has to decide."""
        self._measures.halted = True
        self._log.say("halted", group=self.name, code=fault.code, why=fault.detail)
