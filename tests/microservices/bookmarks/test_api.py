"""Bookmarks over HTTP, on a view as the stream writes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from chassis.contracts.events import Envelope, PlayerEvent
from chassis.contracts.viewing import BOOKMARK, BookmarkQuery, ContinueWatching
from chassis.events import Record
from chassis.identity import Passport
from chassis.storage import Tables, open_tables
from microservices.bookmarks.app import build
from stream_pipeline.operators.decode import decode
from stream_pipeline.operators.resume import resume
from tests.support.events import ScriptedLog
from tests.support.services import InProcess, in_process
from tests.support.waiting import until
from tests.support.watching import moment


@pytest.fixture
async def views(tmp_path: Path) -> Tables:
    tables = open_tables(f"sqlite://{tmp_path}/views.db")
    await tables.prepare(ContinueWatching)
    told = [moment(5, title="t1"), moment(9, title="t2"), moment(3, title="t1", profile="p2")]
    rows = [resume(None, event, 1) for event in told]
    await tables.put_versioned([(row, 1) for row in rows if row is not None])
    return tables


@pytest.fixture
async def bookmarks(tmp_path: Path, views: Tables) -> AsyncIterator[InProcess]:
    log = ScriptedLog()
    async with in_process("bookmarks", build, tmp_path, views=views, log=log) as service:
        service.log = log  # type: ignore[attr-defined]
        yield service


async def test_the_position_of_a_title_is_answered(bookmarks: InProcess) -> None:
    found = await bookmarks.call(BOOKMARK, BookmarkQuery(profile_id="p1", title_id="t1"))
    assert (found.found, found.position_ms) == (True, 40_000)
    missing = await bookmarks.call(BOOKMARK, BookmarkQuery(profile_id="p1", title_id="t9"))
    assert not missing.found


async def test_the_list_is_the_profiles_own_newest_first(bookmarks: InProcess) -> None:
    body = (await bookmarks.rest("GET", "/v1/bookmarks?limit=1")).json()
    assert [one["title_id"] for one in body["bookmarks"]] == ["t2"]
    body = (await bookmarks.rest("GET", f"/v1/bookmarks?after={body['next']}")).json()
    assert [one["title_id"] for one in body["bookmarks"]] == ["t1"]
    assert body["next"] is None


async def test_one_title_is_found_or_named_unknown(bookmarks: InProcess) -> None:
    assert (await bookmarks.rest("GET", "/v1/bookmarks/t1")).json()["position_ms"] == 40_000
    answer = await bookmarks.rest("GET", "/v1/bookmarks/t9")
    assert (answer.status_code, answer.json()["code"]) == (404, "bookmark_unknown")


async def test_without_a_profile_there_are_no_bookmarks(bookmarks: InProcess) -> None:
    answer = await bookmarks.rest("GET", "/v1/bookmarks", passport=Passport(account_id="a1"))
    assert (answer.status_code, answer.json()["code"]) == (403, "profile_missing")


@pytest.mark.parametrize("query", ["limit=0", "after=nonsense"])
async def test_a_bad_page_is_refused(bookmarks: InProcess, query: str) -> None:
    assert (await bookmarks.rest("GET", f"/v1/bookmarks?{query}")).status_code == 400


async def test_a_change_is_told_durably_and_folds_into_the_view(
    bookmarks: InProcess, views: Tables
) -> None:
    answer = await bookmarks.rest("PUT", "/v1/bookmarks/t1", {"position_ms": 7_000})
    assert (answer.status_code, answer.json()["position_ms"]) == (202, 7_000)
    event = await told(bookmarks)
    assert (event.kind, event.profile_id, event.title_id) == ("seek", "p1", "t1")
    row = resume(await views.get(ContinueWatching, "p1", "t1"), event, 2)
    assert row is not None
    assert row.position_ms == 7_000


async def told(bookmarks: InProcess) -> PlayerEvent:
    """The event that reached the log, as the stream will read it."""
    import asyncio

    log: ScriptedLog = bookmarks.log  # type: ignore[attr-defined]
    running = asyncio.ensure_future(bookmarks.service.background[0]())
    await until(lambda: log.messages)
    running.cancel()
    sent = log.messages[0]
    assert msgspec.json.decode(sent.value, type=Envelope).partitionkey == "p1"
    now_ms = int(bookmarks.chassis.clock.now() * 1000)
    decoded = decode(Record(sent.topic, 0, 0, sent.key, sent.value, (), now_ms))
    assert isinstance(decoded.fact, PlayerEvent)
    return decoded.fact


async def test_a_change_of_an_unknown_title_needs_its_length(bookmarks: InProcess) -> None:
    answer = await bookmarks.rest("PUT", "/v1/bookmarks/t9", {"position_ms": 7_000})
    assert (answer.status_code, answer.json()["code"]) == (422, "duration_needed")
    body = {"position_ms": 7_000, "duration_ms": 60_000}
    assert (await bookmarks.rest("PUT", "/v1/bookmarks/t9", body)).status_code == 202
