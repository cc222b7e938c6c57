from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from chassis.clock import ManualClock
from chassis.contracts.common import Maturity
from chassis.contracts.titles import (
    NEXT,
    PLAYABLE,
    SUMMARIES,
    Episodes,
    NextQuery,
    PlayableQuery,
    SummariesQuery,
    TitleDetail,
    TitlePage,
)
from chassis.storage import open_tables
from microservices.catalog.app import build
from microservices.catalog.model import Episode, Title
from microservices.catalog.store import ROWS, write_titles
from tests.support.services import MEMBER, in_process

CHILD = msgspec.structs.replace(MEMBER, maturity=int(Maturity.KIDS))


def title(title_id: str, **values: Any) -> Title:
    return Title(
        **{
            "title_id": title_id,
            "name": title_id.title(),
            "released": "2001-01-01",
            "maturity": Maturity.TEENS,
            "minutes": 100,
            **values,
        }
    )


FIRST = Episode(
    title_id="show",
    season=1,
    number=1,
    episode_id="show-1",
    name="Pilot",
    released="2002-02-02",
    minutes=45,
)
TITLES = [title("heat", votes=5), title("show", kind="series")]


async def fill(home: Path, titles: list[Title] = TITLES) -> None:
    """What an ingest in another process does."""
    (home / "data").mkdir(exist_ok=True)
    tables = open_tables(f"sqlite://{home}/data/catalog.db")
    await tables.prepare(*ROWS)
    await write_titles(tables, titles, [FIRST])
    await tables.close()


async def test_an_empty_catalogue_is_an_outage_and_never_a_404(tmp_path: Path) -> None:
    async with in_process("catalog", build, tmp_path) as client:
        answer = await client.raw_call(PLAYABLE, PlayableQuery(title_id="heat"))
        assert (answer.status_code, answer.json()["code"]) == (503, "catalog_empty")
        for path in ("/v1/titles", "/v1/titles/heat", "/v1/titles/heat/episodes"):
            assert (await client.rest("GET", path)).status_code == 503


async def test_a_running_service_notices_an_ingest_within_a_second(tmp_path: Path) -> None:
    clock = ManualClock()
    async with in_process("catalog", build, tmp_path, clock=clock) as client:
        following = asyncio.ensure_future(client.service.background[0]())
        await fill(tmp_path)
        await clock.advance(1.0)
        assert (await client.call(PLAYABLE, PlayableQuery(title_id="heat"))).name == "Heat"
        following.cancel()


async def test_a_title_that_is_not_there_is_title_unknown(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with in_process("catalog", build, tmp_path) as client:
        answer = await client.raw_call(PLAYABLE, PlayableQuery(title_id="x"))
        assert (answer.status_code, answer.json()["code"]) == (404, "title_unknown")


async def test_episodes_are_listed_played_and_followed(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with in_process("catalog", build, tmp_path) as client:
        answer = await client.rest("GET", "/v1/titles/show/episodes")
        listed = msgspec.json.decode(answer.content, type=Episodes)
        assert [one.episode_id for one in listed.episodes] == ["show-1"]
        playable = await client.call(PLAYABLE, PlayableQuery(episode_id="show-1"))
        assert playable.duration_ms == 45 * 60_000
        following = await client.call(NEXT, NextQuery(title_id="show", episode_id="show-1"))
        assert following.episode_id is None


async def test_summaries_are_sent_only_to_those_who_lack_them(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with in_process("catalog", build, tmp_path) as client:
        summaries = await client.call(SUMMARIES, SummariesQuery())
        assert [one.title_id for one in summaries.titles] == ["heat", "show"]
        again = await client.call(SUMMARIES, SummariesQuery(known=summaries.generation))
        assert (again.generation, again.titles) == (summaries.generation, ())


async def test_titles_are_searched_and_paged(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with in_process("catalog", build, tmp_path) as client:
        answer = await client.rest("GET", "/v1/titles?limit=1")
        page = msgspec.json.decode(answer.content, type=TitlePage)
        assert (page.total, page.next, page.titles[0].title_id) == (2, "heat", "heat")
        answer = await client.rest("GET", f"/v1/titles?limit=1&cursor={page.next}")
        assert msgspec.json.decode(answer.content, type=TitlePage).titles[0].title_id == "show"
        answer = await client.rest("GET", "/v1/titles?q=HEA")
        assert msgspec.json.decode(answer.content, type=TitlePage).total == 1


async def test_bad_queries_say_what_to_do(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with in_process("catalog", build, tmp_path) as client:
        for query in (
            "limit=0",
            "limit=101",
            "limit=x",
            "limit=-1",
            "cursor=nope",
            "q=" + "a" * 201,
        ):
            answer = await client.rest("GET", f"/v1/titles?{query}")
            assert answer.status_code == 400, query
            assert answer.json()["detail"]


async def test_a_title_is_shown_in_full(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with in_process("catalog", build, tmp_path) as client:
        answer = await client.rest("GET", "/v1/titles/heat")
        detail = msgspec.json.decode(answer.content, type=TitleDetail)
        assert (detail.year, detail.minutes, detail.kind) == (2001, 100, "film")
        assert detail.artwork["poster"].startswith("https://")


async def test_a_child_is_not_shown_what_it_may_not_watch(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with in_process("catalog", build, tmp_path) as client:
        answer = await client.rest("GET", "/v1/titles", passport=CHILD)
        assert msgspec.json.decode(answer.content, type=TitlePage).total == 0
        answer = await client.rest("GET", "/v1/titles/heat", passport=CHILD)
        assert (answer.status_code, answer.json()["code"]) == (403, "maturity")


async def test_titles_need_a_passport(tmp_path: Path) -> None:
    async with in_process("catalog", build, tmp_path) as client:
        assert (await client.rest("GET", "/v1/titles", passport=None)).status_code == 401
