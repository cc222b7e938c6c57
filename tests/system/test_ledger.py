"""Every acknowledged event is in the views and the archive, once, whatever was killed."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from chassis.clock import SYSTEM
from chassis.contracts.events import PLAY_LIFECYCLE, PLAYBACK_BEACON
from chassis.contracts.viewing import ViewingHistory
from chassis.storage import open_tables
from deploy.load import Load, LoadSettings
from tests.support.system import System, eventually

SETTINGS = LoadSettings(viewers=12, seconds=10, rate=25)
KILLS = (("stream_pipeline", 2.0), ("beacon", 1.5), ("stream_pipeline", 2.0), ("play_api", 1.0))


async def play_and_kill(system: System) -> list[dict[str, Any]]:
    """The answers of the Plays whose events were all acknowledged."""
    load = Load(system.gateway, SETTINGS, SYSTEM)
    playing = asyncio.Event()
    try:
        run = asyncio.ensure_future(load.run(lambda done: playing.set()))
        await playing.wait()
        for service, pause in KILLS:
            await asyncio.sleep(pause)
            await asyncio.to_thread(system.ask, "kill", service)
        await run
    finally:
        await load.close()
    return load.acknowledged


def archived(system: System, topic: str) -> Counter[str]:
    """How often each event id stands in the archive of a topic."""
    seen: Counter[str] = Counter()
    for file in sorted((system.home / "archive" / "raw" / topic).rglob("*.parquet")):
        with pa.OSFile(str(file)) as source:
            seen.update(pq.read_table(source, columns=["event_id"])["event_id"].to_pylist())
    return seen


def viewed(system: System, profiles: set[str]) -> dict[str, ViewingHistory]:
    """The viewing history of these profiles, by session."""

    async def read() -> list[ViewingHistory]:
        tables = open_tables(f"sqlite://{system.home}/data/views.db")
        try:
            await tables.prepare(ViewingHistory)
            return [row async for row in tables.scan(ViewingHistory) if row.profile_id in profiles]
        finally:
            await tables.close()

    return {row.session_id: row for row in asyncio.run(read())}


def test_no_acknowledged_event_is_lost_or_doubled_by_kills(system: System) -> None:
    answers = asyncio.run(play_and_kill(system))
    assert len(answers) > 50
    expected = {f"{one['session']['id']}:{seq}" for one in answers for seq in (1, 2)}

    def complete() -> bool:
        return expected <= archived(system, PLAYBACK_BEACON).keys()

    eventually(complete, within=40, what="every acknowledged event in the archive")
    for topic in (PLAYBACK_BEACON, PLAY_LIFECYCLE):
        doubled = {key: count for key, count in archived(system, topic).items() if count > 1}
        assert doubled == {}
    sessions = {one["session"]["id"] for one in answers}
    history = viewed(system, {one["profile_id"] for one in answers})
    assert sessions - history.keys() == set()
    watched = {history[session].watched_ms for session in sessions}
    assert watched == {10_000}, msgspec.json.encode(sorted(watched))
