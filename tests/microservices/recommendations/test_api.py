"""Recommendations over HTTP, while the catalogue comes, goes and changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chassis.clock import ManualClock
from chassis.contracts.common import Maturity
from chassis.contracts.titles import Summaries, SummariesQuery
from chassis.contracts.viewing import UP_NEXT, ContinueWatching, UpNextQuery
from chassis.errors import OriginTimeout, StoreUnavailable
from chassis.http.api import Context
from chassis.identity import Passport
from chassis.storage import Tables, open_tables
from microservices.recommendations.app import build
from microservices.recommendations.store import WATCHED_S, Remembered
from stream_pipeline.operators.trending import trending
from tests.support.films import SUMMARIES, row
from tests.support.services import InProcess, in_process
from tests.support.watching import start

GROWN = Passport(account_id="a1", profile_id="p1", country="US", maturity=3)


class ScriptedCatalogue:
    def __init__(self) -> None:
        self.titles = SUMMARIES.titles
        self.generation = 3
        self.away = False
        self.known: list[int] = []

    async def __call__(self, query: SummariesQuery, context: Context) -> Summaries:
        if self.away:
            raise OriginTimeout("no answer")
        self.known.append(query.known)
        titles = () if query.known == self.generation else self.titles
        return Summaries(generation=self.generation, titles=titles)


@pytest.fixture
def catalogue() -> ScriptedCatalogue:
    return ScriptedCatalogue()


@pytest.fixture
async def views(tmp_path: Path) -> Tables:
    return open_tables(f"sqlite://{tmp_path}/views.db")


@pytest.fixture
async def service(
    tmp_path: Path, views: Tables, catalogue: ScriptedCatalogue
) -> AsyncIterator[InProcess]:
    async with in_process(
        "recommendations", build, tmp_path, views=views, summaries=catalogue
    ) as service:
        yield service


async def follow(service: InProcess) -> None:
    """One round of the background refresh."""
    follower = service.service.background[0].__self__  # type: ignore[attr-defined]
    await follower.refresh()


def ask(**more: Any) -> UpNextQuery:
    return UpNextQuery(**{"profile_id": "p1", "title_id": "alien", "country": "US", **more})


async def test_before_the_catalogue_arrived_it_is_an_outage_and_not_an_empty_answer(
    service: InProcess,
) -> None:
    answer = await service.raw_call(UP_NEXT, ask())
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert (await service.rest("GET", "/v1/recommendations", passport=GROWN)).status_code == 503


async def test_up_next_leaves_out_what_was_watched(service: InProcess, views: Tables) -> None:
    await follow(service)
    first = await service.call(UP_NEXT, ask())
    assert first.suggestion is not None
    assert first.suggestion.title_id == "blade"
    await views.put_versioned([(row("blade", 1), 1)])
    service.chassis.clock.tick(WATCHED_S + 1)  # type: ignore[attr-defined]
    second = await service.call(UP_NEXT, ask())
    assert second.suggestion is not None
    assert second.suggestion.title_id == "thing"


async def test_a_child_is_offered_only_what_fits(service: InProcess) -> None:
    await follow(service)
    found = await service.call(UP_NEXT, ask(maturity=Maturity.KIDS))
    assert found.suggestion is not None
    assert found.suggestion.title_id == "hit"


async def test_the_home_screen_shows_what_the_stream_knows(
    service: InProcess, views: Tables
) -> None:
    await follow(service)
    partial = trending(None, start(title="plain"), "play.lifecycle/0", 1)
    await views.put_versioned([(partial, 1), (row("alien", 5), 1)])
    body = (await service.rest("GET", "/v1/recommendations", passport=GROWN)).json()
    kinds = {one["kind"]: [card["title_id"] for card in one["titles"]] for one in body["rows"]}
    assert kinds["continue"] == ["alien"]
    assert kinds["trending"] == ["plain"]
    assert kinds["because"][0] == "blade"
    assert "hit" in kinds["popular"]


async def test_of_an_unknown_maturity_only_what_is_for_everybody_is_shown(
    service: InProcess,
) -> None:
    await follow(service)
    nobody = Passport(account_id="a1", profile_id="p1", country="US")
    assert (await service.rest("GET", "/v1/recommendations", passport=nobody)).json()["rows"] == []


async def test_the_last_catalogue_serves_while_the_service_is_away(
    service: InProcess, catalogue: ScriptedCatalogue
) -> None:
    await follow(service)
    catalogue.away = True
    await follow(service)
    assert (await service.call(UP_NEXT, ask())).suggestion is not None


async def test_a_new_generation_takes_the_place_of_the_old(
    service: InProcess, catalogue: ScriptedCatalogue
) -> None:
    await follow(service)
    await follow(service)
    assert catalogue.known == [-1, 3]
    catalogue.generation, catalogue.titles = 4, catalogue.titles[:1]
    await follow(service)
    assert (await service.call(UP_NEXT, ask())).suggestion is None


async def test_what_was_read_last_stands_in_for_an_outage_of_the_views() -> None:
    clock = ManualClock()
    known: Remembered[int] = Remembered(clock, 1.0, 2)

    async def read(key: str) -> int:
        return 7

    async def fail(key: str) -> int:
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        await known.get("a", fail)
    assert await known.get("a", read) == 7
    clock.tick(2)
    assert await known.get("a", fail) == 7


async def test_only_so_many_are_remembered(views: Tables) -> None:
    known: Remembered[str] = Remembered(ManualClock(), 1.0, 2)
    reads: list[str] = []

    async def read(key: str) -> str:
        reads.append(key)
        return key

    for key in ("a", "b", "c", "b", "a"):
        await known.get(key, read)
    assert reads == ["a", "b", "c", "a"]
    await views.prepare(ContinueWatching)
