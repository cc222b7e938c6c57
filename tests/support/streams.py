"""A pipeline on temporary files that can crash after any step, and the ledger of what it did."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from chassis.clock import Clock, ManualClock
from chassis.contracts.events import PlayerEvent, PlayStarted
from chassis.contracts.viewing import VIEWS, Frontier, SessionWindow, TrendingPartial
from chassis.events import Log, Topic, open_log
from chassis.events.embedded import EmbeddedLog
from chassis.storage import Objects, Tables, open_objects, open_tables
from chassis.telemetry.metrics import Metrics
from stream_pipeline.app import CONSUMED
from stream_pipeline.checkpoint import Checkpoint, Step
from stream_pipeline.dead_letter import SUFFIX, DeadLetters
from stream_pipeline.measures import Measures
from stream_pipeline.sinks.archive import ArchiveSink
from stream_pipeline.sinks.segment import Limits
from stream_pipeline.sinks.views import ViewSink
from stream_pipeline.source import Source
from tests.support.watching import message

SESSION_S = 5.0
Fact = PlayerEvent | PlayStarted


class Crash(BaseException):
    """The process is gone: nothing catches it, nothing is tidied up."""


def crash_after(step: int, times: int = 1) -> Step:
    """Crashes when `step` is done for the `times`-th time."""
    left = times

    def after(done: int) -> None:
        nonlocal left
        left -= done == step
        if not left:
            raise Crash

    return after


def go_on(step: int) -> None:
    pass


class Member:
    """One process's worth of pipeline: both groups over adapters of its own."""

    def __init__(
        self,
        home: Path,
        clock: Clock,
        *,
        after: Step = go_on,
        tables: Callable[[Tables], Tables] = lambda tables: tables,
        objects: Callable[[Objects], Objects] = lambda objects: objects,
        limits: Limits = Limits(roll_records=20, roll_s=1.0),  # noqa: B008  # frozen
        session_s: float = SESSION_S,
        partitions: int = 2,
        log_url: str = "",
    ) -> None:
        self.clock = clock
        self.log: Log = EmbeddedLog(home / "events", clock, session_s=session_s)
        if log_url:
            self.log = open_log(log_url, clock)
        self.tables = tables(open_tables(f"sqlite://{home}/views.db"))
        self.objects = objects(open_objects(f"file://{home}/archive"))
        self.views = ViewSink(self.tables, flush_s=0.0)
        self.archive = ArchiveSink(self.objects, limits)
        self.dead_letters = DeadLetters(self.log)
        self.measures = Measures(Metrics())
        self._partitions = partitions
        self._after = after

    async def open(self) -> Member:
        await self.log.ensure(*(Topic(name, self._partitions) for name in CONSUMED))
        await self.log.ensure(*(Topic(name + SUFFIX, 1) for name in CONSUMED))
        await self.views.prepare()
        self.state = self._checkpoint(self.views, self.dead_letters)
        self.archiving = self._checkpoint(self.archive, None)
        return self

    def _checkpoint(self, sink: Any, letters: DeadLetters | None) -> Checkpoint:
        numbers = self.measures.group(sink.group)
        consumer = self.log.consumer(sink.group, CONSUMED)
        return Checkpoint(self.log, consumer, sink, letters, numbers, self.clock, self._after)

    async def tell(self, facts: Iterable[Fact]) -> None:
        await self.log.produce([message(fact) for fact in facts])

    async def turn(self, limit: int = 10) -> int:
        """Both groups take a batch and finish what is due."""
        taken = 0
        for group in (self.state, self.archiving):
            taken += await group.take(limit, 0.0)
            if group.due():
                await group.finish()
        return taken

    async def restart(self) -> None:
        for group in (self.state, self.archiving):
            await group.restart()

    async def drain(self, limit: int = 10) -> None:
        """Until nothing is left to take, then one checkpoint of everything."""
        while await self.turn(limit):
            pass
        for group in (self.state, self.archiving):
            await group.finish(everything=True)

    async def crash(self) -> None:
        """The files are let go of, as the kernel would; the groups are not told."""
        for close in (self.log.close, self.tables.close, self.objects.close):
            await close()

    async def close(self) -> None:
        await self.state.close()
        await self.archiving.close()
        await self.crash()


async def bury(clock: ManualClock) -> None:
    """Lets so much time pass that crashed members are taken for dead."""
    clock.tick(2 * SESSION_S)


class Ledger(msgspec.Struct, frozen=True):
    """What became of the events that were told: counts by sink."""

    lost: dict[str, int]
    doubled: dict[str, int]
    phantom: dict[str, int]

    @property
    def clean(self) -> bool:
        return not any(
            count for sinks in (self.lost, self.doubled, self.phantom) for count in sinks.values()
        )


async def ledger(home: Path, told: Sequence[Fact]) -> Ledger:
    """Compares what was told with both sinks. Sessions have at most 64 events."""
    expected = Counter(dict.fromkeys((_id(fact) for fact in told), 1))
    found = {"views": await in_views(home), "archive": await in_archive(home)}
    return Ledger(
        lost={sink: (expected - seen).total() for sink, seen in found.items()},
        doubled={
            sink: sum(max(0, seen[one] - 1) for one in seen if one in expected)
            for sink, seen in found.items()
        },
        phantom={sink: sum(one not in expected for one in seen) for sink, seen in found.items()},
    )


def _id(fact: Fact) -> str:
    return f"{fact.session_id}:0" if isinstance(fact, PlayStarted) else fact.id


async def in_views(home: Path) -> Counter[str]:
    """Events that the rows own to: one a bit of a window; starts by their number only."""
    tables = open_tables(f"sqlite://{home}/views.db")
    await tables.prepare(*VIEWS)
    seen: Counter[str] = Counter()
    try:
        async for window in tables.scan(SessionWindow):
            seqs = [window.last_seq - bit for bit in range(64) if window.window >> bit & 1]
            seen.update(f"{window.session_id}:{seq}" for seq in seqs)
            extra = window.count - len(seqs)
            seen[f"{window.session_id}:{window.last_seq}"] += extra
        starts = sum([row.count async for row in tables.scan(TrendingPartial)])
    finally:
        await tables.close()
    return seen + Counter({f"start-{n}:0": 1 for n in range(starts)})


async def in_archive(home: Path) -> Counter[str]:
    objects = open_objects(f"file://{home}/archive")
    seen: Counter[str] = Counter()
    try:
        async for info in objects.list("raw"):
            table = pq.read_table(io.BytesIO(await objects.get(info.key)))
            seen.update(table.column("event_id").to_pylist())
    finally:
        await objects.close()
    return seen


async def rows(home: Path) -> dict[str, list[Any]]:
    """Every view row but the frontier, without what differs from one log to another."""
    tables = open_tables(f"sqlite://{home}/views.db")
    await tables.prepare(*VIEWS)
    found: dict[str, list[Any]] = {}
    try:
        for kind in VIEWS:
            if kind is not Frontier:
                listed = [_plain(row) async for row in tables.scan(kind)]
                found[kind.__name__] = listed
    finally:
        await tables.close()
    return found


def _plain(row: Any) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(row)
    values.pop("src_version", None)
    return values


def source(partition: int = 0, topic: str = "playback.beacon", epoch: int = 1_000_000) -> Source:
    return Source(topic, partition, epoch)
