"""Crashes after every step: whatever was told is in both sinks, once."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chassis.clock import ManualClock
from chassis.contracts.viewing import Frontier, SessionWindow, StartSeen
from chassis.errors import StoreUnavailable
from chassis.events import Message, Record
from chassis.storage import Objects, Tables
from tests.support.streams import (
    SESSION_S,
    Crash,
    Fact,
    Ledger,
    Member,
    bury,
    crash_after,
    in_archive,
    in_views,
    ledger,
    rows,
)
from tests.support.watching import moment, start

NOTHING_WRONG = Ledger(*[{"views": 0, "archive": 0}] * 3)
SESSIONS = 6
EVENTS = 12


def story() -> list[Fact]:
    """Some viewers, each with a start and a dozen moments, told round about."""
    starts = [start(f"start-{n}", profile=f"p{n}", title=f"t{n % 2}") for n in range(SESSIONS)]
    moments = [
        moment(seq, _kind(seq), profile=f"p{n}", session=f"s{n}", title=f"t{n % 2}")
        for seq in range(1, EVENTS + 1)
        for n in range(SESSIONS)
    ]
    return [*starts, *moments]


def _kind(seq: int) -> str:
    return "start" if seq == 1 else "pause" if seq % 5 == 0 else "heartbeat"


async def undisturbed(home: Path) -> dict[str, list[Any]]:
    member = await Member(home, ManualClock()).open()
    await member.tell(story())
    await member.drain()
    await member.close()
    return await rows(home)


async def crashing(home: Path, clock: ManualClock, step: int, times: int) -> None:
    """One life that ends after the step."""
    member = await Member(home, clock, after=crash_after(step, times)).open()
    with pytest.raises(Crash):
        await member.drain()
    await member.crash()
    await bury(clock)


async def healthy(home: Path, clock: ManualClock, **wrapped: Any) -> Member:
    member = await Member(home, clock, **wrapped).open()
    await member.drain()
    await member.close()
    return member


@pytest.mark.parametrize("step", range(1, 8))
async def test_a_crash_after_any_step_loses_nothing_and_doubles_nothing(
    step: int, tmp_path: Path
) -> None:
    clock, home = ManualClock(), tmp_path / "crashed"
    teller = await Member(home, clock).open()
    await teller.tell(story())
    await teller.crash()
    for times in (1, 2, 4):
        await crashing(home, clock, step, times)
    await healthy(home, clock)
    assert (await ledger(home, story())).clean
    assert await rows(home) == await undisturbed(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))]
)
async def test_crashes_at_random_with_duplicates_lose_nothing(seed: int, tmp_path: Path) -> None:
    draw, clock = random.Random(seed), ManualClock()
    teller = await Member(tmp_path, clock).open()
    for fact in story():
        await teller.tell([fact] * draw.choice([1, 1, 1, 2]))
    await teller.crash()
    for _ in range(4):
        after = crash_after(draw.randint(1, 7), draw.randint(1, 5))
        member = await Member(tmp_path, clock, after=after).open()
        try:
            await member.drain(limit=draw.randint(1, 25))
        except Crash:
            await member.crash()
            await bury(clock)
        else:
            await member.close()
    await healthy(tmp_path, clock)
    assert await ledger(tmp_path, story()) == NOTHING_WRONG


class Wrapped:
    """Passes everything on; what a control breaks is overridden."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Unversioned(Wrapped):
    """The failing control: rows forget which record they know of."""

    async def get(self, row: type, *key: Any) -> Any:
        found = await self._inner.get(row, *key)
        if found is None or isinstance(found, Frontier | StartSeen):
            return found
        return msgspec.structs.replace(found, src_version=0)

    async def get_many(self, row: type, keys: Sequence[tuple[Any, ...]]) -> list[Any]:
        return [await self.get(row, *key) for key in keys]

    async def put_versioned(self, pairs: Sequence[tuple[Any, int]]) -> None:
        await self._inner.put(*[row for row, _ in pairs])


def unversioned(tables: Tables) -> Any:
    return Unversioned(tables)


async def test_the_control_without_versions_does_double(tmp_path: Path) -> None:
    clock = ManualClock()
    teller = await Member(tmp_path, clock).open()
    await teller.tell(story())
    await teller.crash()
    member = await Member(tmp_path, clock, tables=unversioned, after=crash_after(5, 1)).open()
    with pytest.raises(Crash):
        await member.drain(limit=1000)
    await member.crash()
    await bury(clock)
    await healthy(tmp_path, clock, tables=unversioned)
    told = await ledger(tmp_path, story())
    assert told.phantom["views"] > 0, "starts were counted twice, as they must be here"


def later() -> ManualClock:
    """The time at which one whose clock stands still is taken for dead."""
    clock = ManualClock()
    clock.tick(2 * SESSION_S)
    return clock


async def test_a_zombie_that_writes_late_changes_nothing(tmp_path: Path) -> None:
    zombie = await Member(tmp_path, ManualClock()).open()
    await zombie.tell(story()[:20])
    await zombie.state.take(1000, 0.0)
    heir = await Member(tmp_path, later()).open()
    await heir.tell(story()[20:])
    await heir.drain()
    await zombie.views.flush(0.0)
    await zombie.crash()
    await heir.close()
    assert (await in_views(tmp_path)).total() == len(story())


async def test_the_control_zombie_without_versions_does_lose(tmp_path: Path) -> None:
    zombie = await Member(tmp_path, ManualClock(), tables=unversioned).open()
    await zombie.tell(story()[:20])
    await zombie.state.take(1000, 0.0)
    heir = await Member(tmp_path, later()).open()
    await heir.tell(story()[20:])
    await heir.drain()
    await zombie.views.flush(0.0)
    await zombie.crash()
    await heir.close()
    assert (await in_views(tmp_path)).total() < len(story())


class Overwriting(Wrapped):
    """The failing control of the archive: a store that creates over what exists."""

    async def create(self, key: str, body: bytes) -> None:
        await self._inner.delete(key)
        await self._inner.create(key, body)


def overwriting(objects: Objects) -> Any:
    return Overwriting(objects)


@pytest.mark.parametrize(
    ("wrap", "harmless"), [(lambda objects: objects, True), (overwriting, False)]
)
async def test_two_writers_of_one_chain_store_nothing_twice(
    wrap: Any, harmless: bool, tmp_path: Path
) -> None:
    zombie = await Member(tmp_path, ManualClock(), objects=wrap).open()
    await zombie.tell(story()[:40])
    await zombie.archiving.take(1000, 0.0)
    heir = await Member(tmp_path, later()).open()
    await heir.tell(story()[40:])
    await heir.drain()
    await zombie.archive.flush(0.0, everything=True)
    await zombie.crash()
    await heir.close()
    seen = await in_archive(tmp_path)
    assert (seen == dict.fromkeys(seen, 1) and len(seen) == len(story())) is harmless


async def test_partitions_that_move_between_members_are_read_on_from_the_frontier(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    first = await Member(tmp_path, clock).open()
    second = await Member(tmp_path, clock).open()
    told = story()
    for at in range(0, len(told), 13):
        await first.tell(told[at : at + 13])
        await first.turn(5)
        if at >= 26:
            await second.turn(5)
        clock.tick(0.3)
    await first.close()
    clock.tick(1.0)
    await second.drain()
    await second.close()
    assert (await ledger(tmp_path, told)).clean


async def test_the_frontier_decides_and_the_committed_offset_is_a_hint(tmp_path: Path) -> None:
    clock = ManualClock()
    member = await Member(tmp_path, clock).open()
    await member.tell(story())
    await member.drain()
    for group in (member.state, member.archiving):
        consumer = group._consumer
        await consumer.commit(dict.fromkeys(consumer.assignment, 1))
    await member.close()
    again = await healthy(tmp_path, clock)
    assert again.views.rows_written == 0
    assert again.archive.objects_created == 0
    assert (await ledger(tmp_path, story())).clean


async def test_views_that_were_deleted_are_built_again_from_the_log(tmp_path: Path) -> None:
    clock = ManualClock()
    member = await Member(tmp_path, clock).open()
    await member.tell(story())
    await member.drain()
    await member.close()
    before = await rows(tmp_path)
    for file in list(os.scandir(tmp_path)):
        if file.name.startswith("views.db"):
            os.unlink(file)  # noqa: PTH108
    await healthy(tmp_path, clock)
    assert await rows(tmp_path) == before


async def test_a_record_that_cannot_be_read_becomes_a_dead_letter_and_stops_nobody(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    member = await Member(tmp_path, clock).open()
    bad = Message("playback.beacon", b"p0", b"no envelope", (("x", b"1"),))
    await member.log.produce([bad])
    await member.tell(story())
    await member.drain()
    assert member.dead_letters.by_reason == {"envelope": 1}
    letter = (await letters(member))[0]
    assert letter.value == b"no envelope"
    named = dict(letter.headers)
    where = f"playback.beacon-{named['__connect.errors.partition'].decode()}-0"
    assert letter.key.decode() == where
    assert named["stagedoor.reason"] == b"envelope"
    await member.close()
    assert (await in_archive(tmp_path))[None] == 1  # type: ignore[index]  # kept raw, with no id
    assert (await in_views(tmp_path)).total() == len(story())


async def letters(member: Member) -> list[Record]:
    reader = member.log.consumer("letters", ["playback.beacon.dlq"])
    found = await reader.consume(10, 0.0)
    await reader.close()
    return found


async def test_dead_letters_are_acknowledged_before_anything_is_committed(tmp_path: Path) -> None:
    clock = ManualClock()
    member = await Member(tmp_path, clock, after=crash_after(6, 1)).open()
    await member.log.produce([Message("playback.beacon", b"p0", b"no envelope")])
    with pytest.raises(Crash):
        await member.drain()
    assert len(await letters(member)) == 1
    assert [row async for row in member.tables.scan(Frontier)] == []
    await member.crash()
    await bury(clock)
    again = await healthy(tmp_path, clock)
    assert again.dead_letters.by_reason == {"envelope": 1}


class Broken(Wrapped):
    """Tables whose rows of one title cannot be folded: a defect of ours, or of the data."""

    async def get(self, row: type, *key: Any) -> Any:
        if key[-1] == "poison":
            raise ZeroDivisionError("a fold broke")
        return await self._inner.get(row, *key)

    async def get_many(self, row: type, keys: Sequence[tuple[Any, ...]]) -> list[Any]:
        return [await self.get(row, *key) for key in keys]


async def test_a_record_that_breaks_a_fold_becomes_a_dead_letter(tmp_path: Path) -> None:
    clock = ManualClock()
    member = await Member(tmp_path, clock, tables=Broken).open()  # type: ignore[arg-type,return-value]
    await member.tell([moment(1, title="poison"), moment(1, session="s2")])
    await member.drain()
    assert member.dead_letters.by_reason == {"fold": 1}
    assert (await member.tables.page(SessionWindow, "p1"))[-1].session_id == "s2"
    await member.close()


class Away(Wrapped):
    """A store that is away until told otherwise."""

    down = False

    async def put_versioned(self, pairs: Any) -> None:
        if self.down:
            raise StoreUnavailable("the tables are away")
        await self._inner.put_versioned(pairs)


async def test_an_outage_of_one_sink_never_stalls_the_other(tmp_path: Path) -> None:
    clock = ManualClock()
    member = await Member(tmp_path, clock, tables=Away).open()  # type: ignore[arg-type,return-value]
    await member.tell(story())
    member.tables.down = True  # type: ignore[attr-defined]
    await member.state.take(1000, 0.0)
    with pytest.raises(StoreUnavailable):
        await member.state.finish()
    await member.archiving.take(1000, 0.0)
    await member.archiving.finish(everything=True)
    assert len(await in_archive(tmp_path)) == len(story())
    member.tables.down = False  # type: ignore[attr-defined]
    await member.state.restart()
    await member.drain()
    await member.close()
    assert (await ledger(tmp_path, story())).clean
