"""View rows, written whole under the version of the last record folded into them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from chassis.contracts.events import PlayerEvent, PlayStarted
from chassis.contracts.viewing import (
    VIEWS,
    ContinueWatching,
    Frontier,
    SessionWindow,
    StartSeen,
    TrendingPartial,
    ViewingHistory,
)
from chassis.events import Record
from chassis.storage import Tables
from stream_pipeline.operators.decode import Decoded
from stream_pipeline.operators.dedup import Verdict, observe, signed, unsigned
from stream_pipeline.operators.history import Views, counts, history, place, view_id
from stream_pipeline.operators.resume import resume
from stream_pipeline.operators.trending import HALF_LIFE_S, trending
from stream_pipeline.sinks import Positions
from stream_pipeline.source import Source
from stream_pipeline.state import Absent, Place, Rows

GROUP = "state"


class ViewSink:
    """Folds player events into three tables and play starts into trending."""

    group = GROUP

    def __init__(
        self,
        tables: Tables,
        *,
        flush_s: float = 0.2,
        flush_rows: int = 5_000,
        cached_rows: int = 10_000,
        half_life_s: float = HALF_LIFE_S,
    ) -> None:
        self._tables = tables
        self._rows = Rows(tables, capacity=cached_rows)
        self._flush_s = flush_s
        self._flush_rows = flush_rows
        self._half_life_s = half_life_s
        self._taken: Positions = {}
        self._since: float | None = None
        self.rows_written = 0

    async def prepare(self) -> None:
        await self._tables.prepare(*VIEWS)

    async def resume(self, sources: Sequence[Source]) -> Positions:
        found = [(s, await self._tables.get(Frontier, GROUP, s.epoch, s.name)) for s in sources]
        return {source: frontier.offset for source, frontier in found if frontier is not None}

    async def read_ahead(self, batch: Sequence[tuple[Source, Decoded | None]]) -> None:
        facts = [(source, one) for source, one in batch if one is not None and one.fact is not None]
        loaded = await self._rows.load(_places(facts))
        sessions = {place[1:]: self._window(place) for place in loaded if place[0] is SessionWindow}
        if sessions:
            await self._rows.load(_views(facts, sessions))

    def _window(self, place: Place) -> Views:
        window: SessionWindow | None = self._rows[place]
        return () if window is None else window.views

    async def take(self, source: Source, record: Record, decoded: Decoded | None) -> Verdict:
        self._taken[source] = record.offset + 1
        if decoded is None or decoded.fact is None:
            return Verdict.FRESH
        version = source.version(record.offset)
        while True:
            try:
                if isinstance(decoded.fact, PlayerEvent):
                    return self._take_moment(decoded.fact, version)
                return self._take_start(source.name, decoded.id, decoded.fact, version)
            except Absent as absent:
                await self._rows.load(absent.args)

    def due(self, now: float) -> float:
        if not self._taken:
            return math.inf
        if self._since is None:
            self._since = now
        if self._rows.changed >= self._flush_rows:
            return 0.0
        return self._since + self._flush_s - now

    async def flush(self, now: float, *, everything: bool = False) -> Positions:
        self.rows_written += await self._rows.write()
        flushed, self._taken, self._since = self._taken, {}, None
        return flushed

    async def remember(self, positions: Mapping[Source, int]) -> None:
        rows = [
            (
                Frontier(group=GROUP, epoch=source.epoch, source=source.name, offset=offset),
                source.version(offset),
            )
            for source, offset in positions.items()
        ]
        await self._tables.put_versioned(rows)

    def forget(self) -> None:
        self._rows.forget()
        self._taken.clear()
        self._since = None

    def _take_moment(self, event: PlayerEvent, version: int) -> Verdict:
        """Reads every row before it changes one: `Absent` leaves all as they were."""
        rows, profile = self._rows, event.profile_id
        session = (SessionWindow, profile, event.session_id)
        window: SessionWindow | None = rows[session]
        verdict, number, seen = _observe(window, event, version)
        if verdict is not Verdict.FRESH:
            return verdict
        title = (ContinueWatching, profile, event.title_id)
        stood: ContinueWatching | None = rows[title]
        if number is not None:
            view = (ViewingHistory, profile, view_id(event.session_id, number))
            watched: ViewingHistory | None = rows[view]
            if watched is None or (
                watched.src_version < version and watched.title_id == event.title_id
            ):
                after = history(watched, event, number, version)
                if after is not watched:
                    rows[view] = after
        if stood is None or stood.src_version < version:
            stands = resume(stood, event, version)
            if stands is not None and stands is not stood:
                rows[title] = stands
        if seen is not None and seen is not window:
            rows[session] = seen
        return Verdict.FRESH

    def _take_start(self, source: str, event_id: str, event: PlayStarted, version: int) -> Verdict:
        rows = self._rows
        start = (StartSeen, event.profile_id, event_id)
        scope = (TrendingPartial, event.country, source)
        seen: StartSeen | None = rows[start]
        partial: TrendingPartial | None = rows[scope]
        if seen is not None and seen.src_version < version:
            return Verdict.DUPLICATE
        if seen is None:
            rows[start] = StartSeen(
                profile_id=event.profile_id,
                event_id=event_id,
                at_ms=event.at_ms,
                src_version=version,
            )
        if partial is None or partial.src_version < version:
            rows[scope] = trending(partial, event, source, version, self._half_life_s)
        return Verdict.FRESH


def _observe(
    window: SessionWindow | None, event: PlayerEvent, version: int
) -> tuple[Verdict, int | None, SessionWindow | None]:
    """The verdict, the number of the view that the event belongs to, and the window after it."""
    if window is None:
        verdict, last, bits = observe(-1, 0, event.seq)
        views: Views = ()
        last_ms, count = event.at_ms, 1
    elif version <= window.src_version:
        # The row has seen this record; whether the others have, their own versions tell.
        seen_in = place(window.views, event.seq, event.at_ms)[0] if counts(event) else None
        return Verdict.FRESH, seen_in, window
    else:
        verdict, last, bits = observe(window.last_seq, unsigned(window.window), event.seq)
        if verdict is not Verdict.FRESH:
            return verdict, None, window
        views, count = window.views, window.count + 1
        last_ms = max(event.at_ms, window.last_ms)
    number = None
    if counts(event):
        number, views = place(views, event.seq, event.at_ms)
    return (
        verdict,
        number,
        SessionWindow(
            profile_id=event.profile_id,
            session_id=event.session_id,
            last_seq=last,
            window=signed(bits),
            last_ms=last_ms,
            count=count,
            views=views,
            src_version=version,
        ),
    )


def _places(facts: Sequence[tuple[Source, Decoded]]) -> Iterator[Place]:
    """The rows that folding these is going to ask for, but for the views of sessions."""
    for source, decoded in facts:
        fact = decoded.fact
        if isinstance(fact, PlayerEvent):
            yield SessionWindow, fact.profile_id, fact.session_id
            yield ContinueWatching, fact.profile_id, fact.title_id
        elif fact is not None:
            yield StartSeen, fact.profile_id, decoded.id
            yield TrendingPartial, fact.country, source.name


def _views(
    facts: Sequence[tuple[Source, Decoded]], sessions: dict[tuple[str, ...], Views]
) -> Iterator[Place]:
    """The views that events of `sessions` fall into, as their folds will find."""
    for _, decoded in facts:
        fact = decoded.fact
        if isinstance(fact, PlayerEvent) and counts(fact):
            session = (fact.profile_id, fact.session_id)
            if session in sessions:
                number, sessions[session] = place(sessions[session], fact.seq, fact.at_ms)
                yield ViewingHistory, fact.profile_id, view_id(fact.session_id, number)
