"""`stagedoor load`: many viewers, open loop, films by their popularity.

Open loop: arrivals are drawn by chance alone and kept whether or not answers come, and latency is
counted from the instant a Play was due, so that a stall shows in every percentile (no coordinated
omission).
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from chassis.clock import Clock
from chassis.errors import ConfigurationFault, NotFound, StagedoorError
from chassis.http.pool import PoolLimits
from chassis.http.transport import Transport
from deploy.member import Member, decoded, player_event, watching

Progress = Callable[[float], None]

DEVICES_PER_ACCOUNT = 4
PLAYS_PER_VIEWER_S = 0.2
SIGN_UPS_AT_ONCE = 4


class LoadSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`rate` is Plays a second; None: a Play every five seconds for each viewer."""

    viewers: int = 20
    seconds: float = 10.0
    rate: float | None = None
    country: str = "US"
    events: bool = True

    def __post_init__(self) -> None:
        faults = []
        if not 1 <= self.viewers <= 100_000:
            faults.append("--viewers must be 1 to 100000")
        if not 0 < self.seconds <= 86_400:
            faults.append("--seconds must be above 0 and at most 86400")
        if self.rate is not None and not 0 < self.rate <= 100_000:
            faults.append("--rate must be above 0 and at most 100000")
        if faults:
            raise ConfigurationFault(faults, what="the load")

    @property
    def plays_per_s(self) -> float:
        return self.rate if self.rate is not None else self.viewers * PLAYS_PER_VIEWER_S


class LoadReport(msgspec.Struct, kw_only=True):
    """Counts by outcome (`200`, `503 dependency:rights`, …); latencies in milliseconds.

    Each Play is one outcome; what became of its events is counted apart.
    """

    plays: int
    seconds: float
    plays_per_s: float
    outcomes: dict[str, int]
    degraded: dict[str, int]
    latency_ms: dict[str, float]
    events_accepted: int
    events_refused: dict[str, int]

    def lines(self) -> list[str]:
        shown = [f"{self.plays} plays in {self.seconds:.1f} s: {self.plays_per_s:.1f}/s"]
        shown += [f"  {outcome}: {count}" for outcome, count in sorted(self.outcomes.items())]
        shown += [f"  degraded {part}: {count}" for part, count in sorted(self.degraded.items())]
        quantiles = ", ".join(f"{name} {value:.1f} ms" for name, value in self.latency_ms.items())
        shown += [f"  latency {quantiles}", f"  events accepted: {self.events_accepted}"]
        return shown + [f"  events {code}: {n}" for code, n in sorted(self.events_refused.items())]


class Popularity:
    """Titles drawn in proportion to their votes; `NotFound` when there are none."""

    def __init__(self, titles: Sequence[str], votes: Sequence[float]) -> None:
        if not titles:
            raise NotFound("the catalogue is empty: fill it with `stagedoor catalog ingest`")
        self._titles = titles
        self._sums = list(itertools.accumulate(votes))

    def draw(self, random: float) -> str:
        """The title at `random`, which is uniform in [0, 1)."""
        last = len(self._sums) - 1
        return self._titles[bisect.bisect_right(self._sums, random * self._sums[-1], hi=last)]


class Load:
    def __init__(self, url: str, settings: LoadSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._transport = Transport(
            clock=clock, limits=PoolLimits(connections=4096, idle=1024, waiters=100_000)
        )
        self._url = url
        self._viewers: list[tuple[Member, str]] = []
        self._outcomes: Counter[str] = Counter()
        self._degraded: Counter[str] = Counter()
        self._latencies: list[float] = []
        self._accepted = 0
        self._refused: Counter[str] = Counter()
        self.acknowledged: list[dict[str, Any]] = []
        """The answers of the Plays whose events were all accepted, each with its `profile_id`."""

    async def run(self, progress: Progress) -> LoadReport:
        """Signs viewers up, then plays for the given time and waits for the last answers."""
        await self._sign_up()
        films = await self._films()
        began = self._clock.monotonic()
        running: set[asyncio.Task[None]] = set()
        for due in self._arrivals():
            wait = began + due - self._clock.monotonic()
            if wait > 0:
                await self._clock.sleep(wait)
                progress(due / self._settings.seconds)
            task = asyncio.ensure_future(self._view(films, began + due))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)
        progress(1.0)
        return self._report(self._clock.monotonic() - began)

    def _arrivals(self) -> Iterator[float]:
        """When Plays are due, in seconds from the begin: Poisson arrivals, exponential gaps."""
        due = 0.0
        while True:
            due -= math.log(1.0 - self._clock.random()) / self._settings.plays_per_s
            if due >= self._settings.seconds:
                return
            yield due

    async def _sign_up(self) -> None:
        count = math.ceil(self._settings.viewers / DEVICES_PER_ACCOUNT)
        room = asyncio.Semaphore(SIGN_UPS_AT_ONCE)

        async def one() -> Member:
            async with room:
                member = Member(self._url, self._clock, transport=self._transport)
                await member.sign_up(country=self._settings.country)
                return member

        members = await asyncio.gather(*(one() for _ in range(count)))
        for number in range(self._settings.viewers):
            member = members[number // DEVICES_PER_ACCOUNT]
            self._viewers.append((member, f"tv-{number % DEVICES_PER_ACCOUNT}"))

    async def _films(self) -> Popularity:
        """Every title of the catalogue with its votes, by the public API."""
        member = self._viewers[0][0]
        titles: list[str] = []
        votes: list[float] = []
        cursor = ""
        while True:
            page = await member.ask("GET", f"/v1/titles?limit=100{cursor}")
            titles += [title["title_id"] for title in page["titles"]]
            votes += [float(title["votes"] or 1) for title in page["titles"]]
            if not page.get("next"):
                return Popularity(titles, votes)
            cursor = f"&cursor={page['next']}"

    async def _view(self, films: Popularity, due: float) -> None:
        member, device = self._viewers[int(self._clock.random() * len(self._viewers))]
        title = films.draw(self._clock.random())
        try:
            response = await member.play(title, device)
        except StagedoorError as failure:
            self._outcomes[failure.code] += 1
            return
        finally:
            self._latencies.append(self._clock.monotonic() - due)
        answer = decoded(response)
        self._outcomes[outcome_of(response.status_code, answer)] += 1
        for one in answer.get("degraded", ()):
            self._degraded[f"{one['part']} ({one['reason']} -> {one['fallback']})"] += 1
        if "session" in answer and self._settings.events:
            await self._tell(member, device, answer)

    async def _tell(self, member: Member, device: str, answer: dict[str, Any]) -> None:
        session = watching(answer, member.profile_id, device, self._settings.country)
        now = self._clock.now()
        events = [
            player_event(session, 1, "start", 0, now - 10),
            player_event(session, 2, "heartbeat", 10_000, now),
        ]
        try:
            receipt = await member.ask("POST", "/v1/events", {"events": events})
        except StagedoorError as failure:
            self._refused[failure.code] += 1
            return
        self._accepted += receipt["accepted"]
        if receipt["accepted"] == len(events):
            self.acknowledged.append({**answer, "profile_id": member.profile_id})

    def _report(self, seconds: float) -> LoadReport:
        ordered = sorted(self._latencies)
        return LoadReport(
            plays=len(ordered),
            seconds=round(seconds, 3),
            plays_per_s=round(len(ordered) / seconds, 2),
            outcomes=dict(self._outcomes),
            degraded=dict(self._degraded),
            latency_ms={name: quantile(ordered, q) for name, q in QUANTILES.items()},
            events_accepted=self._accepted,
            events_refused=dict(self._refused),
        )

    async def close(self) -> None:
        await self._transport.aclose()


def outcome_of(status: int, answer: Mapping[str, Any]) -> str:
    """What became of one Play, in a few words."""
    if status == 200 and "session" in answer:
        return "200"
    step = f":{answer['step']}" if "step" in answer else ""
    return f"{status} {answer.get('code', '?')}{step}"


QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def quantile(ordered: Sequence[float], q: float) -> float:
    """The nearest-rank quantile of sorted seconds, in milliseconds."""
    if not ordered:
        return 0.0
    return round(ordered[max(0, math.ceil(q * len(ordered)) - 1)] * 1000, 2)
