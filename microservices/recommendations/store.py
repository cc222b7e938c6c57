"""What recommending reads: the catalogue by generation, and two views, each kept for a moment."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from chassis.clock import Clock
from chassis.contracts.titles import Summaries, SummariesQuery
from chassis.contracts.viewing import ContinueWatching, TrendingPartial
from chassis.deadline import Deadline
from chassis.errors import StagedoorError, StoreUnavailable
from chassis.http.api import Context
from chassis.storage import Tables
from chassis.telemetry import Trace
from chassis.telemetry.logs import LineLog
from microservices.recommendations.model import Catalogue, trending

Ask = Callable[[SummariesQuery, Context], Awaitable[Summaries]]
T = TypeVar("T")

CATALOGUE_EVERY_S = 5.0
CATALOGUE_AGAIN_S = 0.5
TRENDS_S = 2.0
WATCHED_S = 2.0
PROFILES_KEPT = 10_000
COUNTRIES_KEPT = 300
PARTIALS_LIMIT = 1_000
ROWS_LIMIT = 200


class CatalogueFollower:
    """Keeps the latest generation; the last good one serves while the catalogue is away."""

    def __init__(self, ask: Ask, clock: Clock, log: LineLog) -> None:
        self._ask = ask
        self._clock = clock
        self._log = log
        self._away = False
        self._present: Catalogue | None = None

    @property
    def present(self) -> Catalogue:
        """`StoreUnavailable` until the first generation arrived."""
        if self._present is None:
            raise StoreUnavailable("the catalogue has not arrived yet", retry_after_s=1.0)
        return self._present

    async def run(self) -> None:
        while True:
            ok = await self.refresh()
            await self._clock.sleep(CATALOGUE_EVERY_S if ok else CATALOGUE_AGAIN_S)

    async def refresh(self) -> bool:
        """Asks for what is new; False when the catalogue did not answer."""
        known = self._present.generation if self._present is not None else -1
        context = Context(Deadline.after(self._clock, CATALOGUE_EVERY_S), Trace.new(self._clock))
        try:
            answer = await self._ask(SummariesQuery(known=known), context)
        except StagedoorError as failure:
            if not self._away:
                self._log.say("catalogue_away", why=repr(failure))
            self._away = True
            return False
        self._away = False
        if self._present is None or answer.generation != known:
            self._present = Catalogue(answer)
        return True


class ViewStore:
    """Reads of the views, remembered for two seconds; the last good one stands in for an outage."""

    def __init__(self, views: Tables, clock: Clock) -> None:
        self._views = views
        self._trends: Remembered[list[str]] = Remembered(clock, TRENDS_S, COUNTRIES_KEPT)
        self._watched: Remembered[list[ContinueWatching]] = Remembered(
            clock, WATCHED_S, PROFILES_KEPT
        )

    async def trends(self, country: str) -> Sequence[str]:
        """Title ids, most started first."""
        return await self._trends.get(country, self._read_trends)

    async def watched(self, profile_id: str) -> Sequence[ContinueWatching]:
        """What the profile watched, newest first."""
        return await self._watched.get(profile_id, self._read_watched)

    async def _read_trends(self, country: str) -> list[str]:
        partials = await self._views.page(TrendingPartial, country, limit=PARTIALS_LIMIT)
        return trending(partials)

    async def _read_watched(self, profile_id: str) -> list[ContinueWatching]:
        rows = await self._views.page(ContinueWatching, profile_id, limit=ROWS_LIMIT)
        return sorted(rows, key=lambda row: row.last_watched_ms, reverse=True)


class Remembered(Generic[T]):
    """Values by key that are read again once they are old. The longest unread make room."""

    def __init__(self, clock: Clock, fresh_s: float, capacity: int) -> None:
        self._clock = clock
        self._fresh_s = fresh_s
        self._capacity = capacity
        self._values: OrderedDict[str, tuple[float, T]] = OrderedDict()

    async def get(self, key: str, read: Callable[[str], Awaitable[T]]) -> T:
        known = self._values.get(key)
        now = self._clock.monotonic()
        if known is not None and now < known[0]:
            return known[1]
        try:
            value = await read(key)
        except StoreUnavailable:
            if known is None:
                raise
            value = known[1]
        self._values[key] = (now + self._fresh_s, value)
        self._values.move_to_end(key)
        if len(self._values) > self._capacity:
            self._values.popitem(last=False)
        return value
