"""The whole pipeline as its root builds it, on real time and real files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from chassis.clock import SYSTEM
from chassis.contracts.viewing import ContinueWatching
from chassis.events import Message, open_log
from chassis.storage import open_objects, open_tables
from stream_pipeline.app import build
from stream_pipeline.settings import StreamSettings
from tests.support.services import InProcess, in_process
from tests.support.watching import message, moment, start

SETTINGS = StreamSettings(roll_s=0.2)
ARRIVES_S = 10.0


@pytest.fixture
async def pipeline(tmp_path: Path) -> AsyncIterator[InProcess]:
    async with in_process(
        "stream_pipeline",
        build,
        tmp_path,
        clock=SYSTEM,  # type: ignore[arg-type]  # real threads and files keep real time
        settings=SETTINGS,
    ) as service:
        running = [asyncio.ensure_future(run()) for run in service.service.background]
        yield service
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


COUNTED = (
    'sink_writes_total{result="ok",sink="archive"}',
    'stream_records_total{result="fresh",stage="state"} 20.0',
    'dlq_records_total{reason="envelope"} 1.0',
    'stream_end_to_end_seconds_count{sink="state"} 20.0',
    'stream_end_to_end_seconds_bucket{le="1.5",sink="state"} 20.0',
)


async def arrives(look: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(ARRIVES_S):
        while True:
            found = await look()
            if found:
                return found
            await asyncio.sleep(0)


async def test_a_play_event_reaches_both_sinks(pipeline: InProcess) -> None:
    settings = pipeline.chassis.settings
    log, tables = open_log(settings.log_url), open_tables(settings.views_url)
    objects = open_objects(settings.objects_url)
    now_ms = int(SYSTEM.now() * 1000)
    await log.produce([message(start(at_ms=now_ms))])
    await log.produce([message(moment(n, at_ms=now_ms)) for n in range(1, 20)])
    await log.produce([Message("playback.beacon", b"p1", b"broken")])
    row = await arrives(lambda: tables.get(ContinueWatching, "p1", "t1"))
    assert row.seq == 19

    async def archived() -> bool:
        topics = {info.key.split("/")[1] async for info in objects.list("raw")}
        return topics == {"play.lifecycle", "playback.beacon"}

    await arrives(archived)

    async def counted() -> bool:
        text = pipeline.chassis.telemetry.metrics.render().decode()
        return all(line in text for line in COUNTED)

    await arrives(counted)
    for close in (log.close, tables.close, objects.close):
        await close()


@pytest.mark.slow
async def test_what_was_taken_is_finished_on_leaving(tmp_path: Path) -> None:
    """The second life has nothing left to do."""
    for _ in range(2):
        async with in_process(
            "stream_pipeline",
            build,
            tmp_path,
            clock=SYSTEM,  # type: ignore[arg-type]
            settings=StreamSettings(flush_s=60.0, roll_s=60.0),
        ) as service:
            log = open_log(service.chassis.settings.log_url)
            if sum((await log.ends("playback.beacon")).values()) == 0:
                await log.produce([message(moment(n)) for n in range(1, 20)])
            state, archiving = (run.__self__ for run in service.service.background)  # type: ignore[attr-defined]
            taken = [await state.turn(), await archiving.turn()]
            await log.close()
    assert taken == [0, 0]
    tables = open_tables(f"sqlite://{tmp_path}/data/views.db")
    await tables.prepare(ContinueWatching)
    assert await tables.get(ContinueWatching, "p1", "t1") is not None
    await tables.close()


async def test_settings_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGEDOOR_STREAM_ROLL_S", "soon")
    with pytest.raises(Exception, match="STAGEDOOR_STREAM_ROLL_S"):
        async with in_process("stream_pipeline", build, tmp_path):
            pass
