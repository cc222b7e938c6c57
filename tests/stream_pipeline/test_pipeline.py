"""The run loop: waiting for a store, halting at a gap, leaving in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from chassis.clock import ManualClock
from chassis.errors import (
    ConfigurationFault,
    Fenced,
    OutOfRange,
    SchemaFault,
    StagedoorError,
    StoreUnavailable,
)
from chassis.telemetry.logs import LineLog
from chassis.telemetry.metrics import Metrics
from stream_pipeline.measures import GroupMeasures, Measures
from stream_pipeline.pipeline import BACKOFF_LIMIT_S, MENDED_S, Group
from tests.support.waiting import until


class ScriptedCheckpoint:
    """Fails with what is in the script, one turn after another; then takes nothing for ever."""

    def __init__(self, clock: ManualClock, *script: StagedoorError | None) -> None:
        self._clock = clock
        self._script = list(script)
        self.calls: list[str] = []
        self.leaving: StagedoorError | None = None

    async def take(self, limit: int, timeout_s: float) -> int:
        self.calls.append("take")
        if not self._script:
            await self._clock.sleep(timeout_s)
            return 0
        fault = self._script.pop(0)
        if fault is not None:
            raise fault
        return 1

    def due(self) -> bool:
        return True

    async def finish(self) -> None:
        self.calls.append("finish")

    async def restart(self) -> None:
        self.calls.append("restart")

    async def lag(self) -> dict[str, int]:
        return {"playback.beacon": 3}

    async def close(self) -> None:
        if self.leaving is not None:
            raise self.leaving
        self.calls.append("close")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


Make = Callable[[ScriptedCheckpoint], tuple[Group, GroupMeasures]]


@pytest.fixture
def make(clock: ManualClock, metrics: Metrics, tmp_path: Path) -> Make:
    def group(checkpoint: ScriptedCheckpoint) -> tuple[Group, GroupMeasures]:
        numbers = Measures(metrics).group("state")
        log = LineLog(tmp_path / "log.jsonl", clock, {})
        return Group("state", checkpoint, numbers, clock, log), numbers  # type: ignore[arg-type]

    return group


async def ended(task: asyncio.Future[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_turn_takes_and_finishes_what_is_due(make: Make, clock: ManualClock) -> None:
    checkpoint = ScriptedCheckpoint(clock, None)
    group, numbers = make(checkpoint)
    assert await group.turn() == 1
    assert checkpoint.calls == ["take", "finish"]
    assert numbers.lag == {"playback.beacon": 3}


@pytest.mark.parametrize("fault", [StoreUnavailable("away"), Fenced("moved")])
async def test_after_a_failure_it_waits_and_starts_again_from_the_frontier(
    make: Make, clock: ManualClock, fault: StagedoorError
) -> None:
    checkpoint = ScriptedCheckpoint(clock, fault, None)
    group, _ = make(checkpoint)
    running = asyncio.ensure_future(group.run())
    await until(lambda: checkpoint.calls == ["take"])
    await clock.advance(BACKOFF_LIMIT_S)
    assert checkpoint.calls[:4] == ["take", "restart", "take", "finish"]
    await ended(running)


async def test_it_waits_longer_each_time_and_never_longer_than_its_limit(
    make: Make, clock: ManualClock
) -> None:
    checkpoint = ScriptedCheckpoint(clock, *[StoreUnavailable("away")] * 40)
    group, _ = make(checkpoint)
    running = asyncio.ensure_future(group.run())
    await clock.advance(0.5)
    soon = checkpoint.calls.count("take")
    await clock.advance(30.0)
    later = checkpoint.calls.count("take")
    await clock.advance(30.0)
    latest = checkpoint.calls.count("take")
    assert 2 <= soon <= 8
    assert latest - later >= 30 / (BACKOFF_LIMIT_S * 1.5) - 1
    assert latest - later <= 30 / (BACKOFF_LIMIT_S * 0.5) + 1
    await ended(running)


@pytest.mark.parametrize("fault", [OutOfRange("offset 4 is gone"), SchemaFault("a table is gone")])
async def test_a_gap_in_the_log_halts_the_group_and_says_so(
    make: Make, clock: ManualClock, metrics: Metrics, fault: StagedoorError
) -> None:
    checkpoint = ScriptedCheckpoint(clock, fault)
    group, numbers = make(checkpoint)
    running = asyncio.ensure_future(group.run())
    await until(lambda: numbers.halted)
    await clock.advance(600.0)
    assert checkpoint.calls == ["take"]
    assert 'stream_halted{stage="state"} 1.0' in metrics.render().decode()
    await ended(running)


async def test_a_store_that_refuses_us_halts_the_group_until_that_is_mended(
    make: Make, clock: ManualClock
) -> None:
    refused = ConfigurationFault(["there is no such bucket"], what="the objects URL")
    checkpoint = ScriptedCheckpoint(clock, refused, refused, None)
    group, numbers = make(checkpoint)
    running = asyncio.ensure_future(group.run())
    await until(lambda: numbers.halted)
    await clock.advance(MENDED_S)
    assert numbers.halted and checkpoint.calls == ["take", "restart", "take"]
    await clock.advance(MENDED_S)
    assert checkpoint.calls[3:6] == ["restart", "take", "finish"]
    await until(lambda: not numbers.halted)
    await ended(running)


async def test_leaving_tells_when_something_was_left_unfinished(
    make: Make, clock: ManualClock
) -> None:
    checkpoint = ScriptedCheckpoint(clock)
    group, _ = make(checkpoint)
    await group.close()
    assert checkpoint.calls == ["close"]
    checkpoint.leaving = StoreUnavailable("away")
    await group.close()
