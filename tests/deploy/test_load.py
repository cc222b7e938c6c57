"""The load generator: what it draws, when it plays, and how it counts."""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.clock import ManualClock
from chassis.errors import ConfigurationFault, NotFound, PeerRefusal
from chassis.http.serving import Listener, bind
from deploy.load import Load, LoadReport, LoadSettings, Popularity, outcome_of, quantile

# --- arithmetic


@pytest.mark.parametrize(
    ("q", "expected"), [(0.5, 50.0), (0.9, 90.0), (0.99, 99.0), (1.0, 100.0), (0.0, 1.0)]
)
def test_a_quantile_is_the_value_that_so_many_do_not_exceed(q: float, expected: float) -> None:
    ordered = [n / 1000 for n in range(1, 101)]
    assert quantile(ordered, q) == expected


def test_nothing_has_no_quantile() -> None:
    assert quantile([], 0.5) == 0.0


@given(
    st.lists(st.floats(min_value=0, max_value=10), min_size=1),
    st.floats(min_value=0.01, max_value=1),
)
def test_a_quantile_is_always_one_of_the_values(values: list[float], q: float) -> None:
    found = quantile(sorted(values), q)
    assert found in [round(value * 1000, 2) for value in values]
    assert sum(value * 1000 <= found + 0.01 for value in values) >= q * len(values) - 1e-6


def test_titles_are_drawn_in_proportion_to_their_votes() -> None:
    """Pearson's chi-squared test: with 5 degrees of freedom 20.5 is passed once in a thousand."""
    votes = [1.0, 2.0, 7.0, 10.0, 30.0, 50.0]
    popularity, clock, draws = Popularity("abcdef", votes), ManualClock(seed=7), 20_000
    seen = collections.Counter(popularity.draw(clock.random()) for _ in range(draws))
    expected = {
        title: draws * vote / sum(votes) for title, vote in zip("abcdef", votes, strict=True)
    }
    assert sum((seen[t] - e) ** 2 / e for t, e in expected.items()) < 20.5


def test_the_ends_of_chance_draw_the_first_and_the_last() -> None:
    popularity = Popularity(["first", "last"], [0.1, 0.2])
    assert popularity.draw(0.0) == "first"
    assert popularity.draw(1.0) == "last"


def test_an_empty_catalogue_says_how_to_fill_it() -> None:
    with pytest.raises(NotFound, match="catalog ingest"):
        Popularity([], [])


def test_settings_that_make_no_sense_are_all_told_at_once() -> None:
    with pytest.raises(ConfigurationFault) as fault:
        LoadSettings(viewers=0, seconds=0, rate=-1)
    assert len(fault.value.faults) == 3
    with pytest.raises(ConfigurationFault):
        LoadSettings(seconds=float("nan"))


def test_without_a_rate_each_viewer_plays_every_five_seconds() -> None:
    assert LoadSettings(viewers=50).plays_per_s == 10
    assert LoadSettings(viewers=50, rate=3).plays_per_s == 3


@pytest.mark.parametrize(
    ("status", "answer", "outcome"),
    [
        (200, {"session": {}}, "200"),
        (200, {}, "200 ?"),
        (503, {"code": "dependency", "step": "rights"}, "503 dependency:rights"),
        (502, {}, "502 ?"),
    ],
)
def test_an_outcome_says_what_failed(status: int, answer: dict[str, Any], outcome: str) -> None:
    assert outcome_of(status, answer) == outcome


def test_a_report_reads_as_text() -> None:
    report = LoadReport(
        plays=3,
        seconds=2.0,
        plays_per_s=1.5,
        outcomes={"503 dependency:rights": 1, "200": 2},
        degraded={"steering": 1},
        latency_ms={"p50": 4.2},
        events_accepted=4,
        events_refused={"spool_full": 1},
    )
    assert report.lines() == [
        "3 plays in 2.0 s: 1.5/s",
        "  200: 2",
        "  503 dependency:rights: 1",
        "  degraded steering: 1",
        "  latency p50 4.2 ms",
        "  events accepted: 4",
        "  events spool_full: 1",
    ]


# --- against a gateway


class Gateway:
    """A gateway with two titles on two pages; `go` lets its Plays be answered."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.accounts = itertools.count(1)
        self.played: list[dict[str, Any]] = []
        self.events = 0
        self.degraded: list[dict[str, str]] = []
        self.fails: dict[str, tuple[int, bytes]] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        query = scope["query_string"].decode()
        status, body = await self.answer(scope["path"], query, message["body"])
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def answer(self, path: str, query: str, body: bytes) -> tuple[int, bytes]:
        if path in self.fails:
            return self.fails[path]
        match path:
            case "/v1/accounts":
                number = next(self.accounts)
                answer = {"account_id": f"a{number}", "profile_id": f"p{number}"}
            case "/v1/token":
                answer = {"access_token": "t"}
            case "/v1/titles" if "cursor" in query:
                answer = {"titles": [{"title_id": "rare", "votes": None}]}
            case "/v1/titles":
                answer = {"titles": [{"title_id": "heat", "votes": 999}], "next": "x"}
            case "/v1/play":
                answer = await self.play(json.loads(body))
            case _:
                self.events += 1
                answer = {"accepted": len(json.loads(body)["events"])}
        return 200, json.dumps(answer).encode()

    async def play(self, request: dict[str, Any]) -> dict[str, Any]:
        self.played.append(request)
        await self.go.wait()
        return {
            "play_id": "x",
            "title_id": request["title_id"],
            "duration_ms": 60_000,
            "session": {"id": "s"},
            "degraded": self.degraded,
        }


class Driven:
    """A gateway, and the address where it listens."""

    def __init__(self, gateway: Gateway, url: str) -> None:
        self.gateway = gateway
        self.url = url
        self.clock = ManualClock(seed=3)

    def load(self, **settings: Any) -> Load:
        return Load(self.url, LoadSettings(**settings), self.clock)

    async def report(self, **settings: Any) -> LoadReport:
        """A whole run; its time passes as fast as its answers come."""
        load = self.load(**settings)
        running = asyncio.ensure_future(load.run(lambda done: None))
        try:
            async with asyncio.timeout(20):
                while not running.done():
                    await self.clock.advance(0.005)
            return await running
        finally:
            running.cancel()
            await load.close()


@pytest.fixture
async def driven() -> AsyncIterator[Driven]:
    gateway = Gateway()
    listener = Listener(gateway, bind("127.0.0.1", 0))
    await listener.start()
    yield Driven(gateway, f"http://127.0.0.1:{listener.port}")
    gateway.go.set()
    await listener.drain(1)


async def test_viewers_share_accounts_and_play_what_is_popular(driven: Driven) -> None:
    report = await driven.report(viewers=6, seconds=2, rate=30)
    played = driven.gateway.played
    assert next(driven.gateway.accounts) == 3
    assert report.plays == len(played) == report.outcomes["200"]
    assert {one["profile_id"] for one in played} == {"p1", "p2"}
    titles = collections.Counter(one["title_id"] for one in played)
    assert titles["heat"] > titles["rare"]
    assert report.events_accepted == 2 * report.plays


async def test_plays_come_at_the_rate_that_was_asked_for(driven: Driven) -> None:
    report = await driven.report(viewers=1, seconds=10, rate=20, events=False)
    assert report.plays == pytest.approx(200, abs=4 * 200**0.5)
    assert driven.gateway.events == 0


async def test_plays_go_on_while_answers_stall_and_the_wait_counts_from_when_each_was_due(
    driven: Driven,
) -> None:
    driven.gateway.go.clear()
    load = driven.load(viewers=1, seconds=2, rate=20, events=False)
    running = asyncio.ensure_future(load.run(lambda done: None))
    async with asyncio.timeout(10):
        while not driven.gateway.played:
            await driven.clock.advance(0.01)
        began = driven.clock.monotonic()
        while driven.clock.monotonic() < began + 4:
            await driven.clock.advance(0.01)
    stalled = len(driven.gateway.played)
    assert stalled > 20
    driven.gateway.go.set()
    report = await asyncio.wait_for(running, 10)
    await load.close()
    assert report.plays == stalled
    assert report.latency_ms["p50"] > 2000 and report.latency_ms["max"] > 3000


async def test_plays_that_the_generator_itself_begins_late_count_from_when_they_were_due(
    driven: Driven,
) -> None:
    load = driven.load(viewers=1, seconds=2, rate=20, events=False)
    running = asyncio.ensure_future(load.run(lambda done: None))
    async with asyncio.timeout(10):
        while not driven.gateway.played:
            await driven.clock.advance(0.01)
        driven.clock.tick(3.0)
        while not running.done():
            await driven.clock.advance(0.01)
    report = await running
    await load.close()
    assert report.latency_ms["p50"] > 1000


async def test_what_is_degraded_and_what_fails_is_counted_by_what_it_says(driven: Driven) -> None:
    driven.gateway.degraded = [
        {"part": "steering", "reason": "origin_timeout", "fallback": "static_order"}
    ]
    report = await driven.report(viewers=1, seconds=1, rate=20)
    assert report.degraded == {"steering (origin_timeout -> static_order)": report.plays}
    driven.gateway.fails["/v1/play"] = (503, b'{"code":"dependency","step":"rights"}')
    report = await driven.report(viewers=1, seconds=1, rate=20)
    assert report.outcomes == {"503 dependency:rights": report.plays}


@pytest.mark.parametrize("body", [b"<html>", b"[]", b""])
async def test_an_answer_that_is_no_json_is_counted_and_harms_nothing(
    driven: Driven, body: bytes
) -> None:
    driven.gateway.fails["/v1/play"] = (502, body)
    report = await driven.report(viewers=1, seconds=1, rate=20)
    assert report.plays > 0 and report.outcomes == {"502 ?": report.plays}


async def test_events_that_are_refused_are_no_outcome_of_a_play(driven: Driven) -> None:
    driven.gateway.fails["/v1/events"] = (503, b'{"code":"spool_full"}')
    report = await driven.report(viewers=1, seconds=1, rate=20)
    assert sum(report.outcomes.values()) == report.plays
    assert report.events_refused == {"spool_full": report.plays}


async def test_a_sign_up_that_fails_ends_the_run_with_its_reason(driven: Driven) -> None:
    driven.gateway.fails["/v1/accounts"] = (429, b'{"code":"rate","detail":"later"}')
    with pytest.raises(PeerRefusal, match="rate: later"):
        await driven.report(viewers=1, seconds=1)
