"""What became of acknowledged events: in the archive and in the views, wherever those are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from chassis.contracts.events import PLAY_LIFECYCLE, PLAYBACK_BEACON
from chassis.contracts.viewing import ViewingHistory
from chassis.storage import open_objects, open_tables
from deploy.backing import settings_of
from tests.support.system import eventually

WATCHED_MS = 10_000
"""What the two events of every Play of a load come to."""


def archived(home: Path, topic: str) -> Counter[str]:
    """How often each event id stands in the archive of a topic."""

    async def read() -> Counter[str]:
        objects = open_objects(settings_of(home).objects_url)
        seen: Counter[str] = Counter()
        try:
            async for one in objects.list(f"raw/{topic}"):
                table = pq.read_table(pa.BufferReader(await objects.get(one.key)))
                seen.update(table["event_id"].to_pylist())
        finally:
            await objects.close()
        return seen

    return asyncio.run(read())


def viewed(home: Path, profiles: Iterable[str]) -> dict[str, ViewingHistory]:
    """The viewing history of these profiles, by session."""

    async def read() -> list[ViewingHistory]:
        tables = open_tables(settings_of(home).views_url)
        try:
            await tables.prepare(ViewingHistory)
            return [
                row
                for profile in sorted(set(profiles))
                for row in await tables.page(ViewingHistory, profile, limit=1000)
            ]
        finally:
            await tables.close()

    return {row.session_id: row for row in asyncio.run(read())}


def assert_balanced(home: Path, answers: list[dict[str, Any]], *, within: float = 40) -> None:
    """Every acknowledged event of these Plays is archived once, and folded once."""
    expected = {f"{one['session']['id']}:{seq}" for one in answers for seq in (1, 2)}

    def missing() -> set[str]:
        return expected - archived(home, PLAYBACK_BEACON).keys()

    eventually(lambda: not missing(), within=within, what="every acknowledged event archived")
    for topic in (PLAYBACK_BEACON, PLAY_LIFECYCLE):
        assert {event: n for event, n in archived(home, topic).items() if n > 1} == {}
    sessions = {one["session"]["id"] for one in answers}
    profiles = {one["profile_id"] for one in answers}

    def unseen() -> set[str]:
        history = viewed(home, profiles)
        return {one for one in sessions if one not in history or not _whole(history[one])}

    eventually(lambda: not unseen(), within=within, what="every acknowledged event in the views")


def _whole(row: ViewingHistory) -> bool:
    assert row.watched_ms <= WATCHED_MS, f"{row.session_id} was folded twice"
    return row.watched_ms == WATCHED_MS
