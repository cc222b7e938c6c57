from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from chassis.clock import ManualClock
from chassis.contracts.titles import DECIDE, SET_WINDOW, RightsQuery, Window
from chassis.storage import open_tables
from microservices.rights.app import build
from microservices.rights.store import ROWS, WindowRow, write_windows
from tests.support.services import in_process

NOW = ManualClock().now()
OPEN = Window(title_id="heat", territory="*", starts=NOW - 10, ends=NOW + 100)
ASKED = RightsQuery(title_id="heat", country="US", plan="basic")


async def test_without_any_window_nothing_is_decided(tmp_path: Path) -> None:
    async with in_process("rights", build, tmp_path) as client:
        answer = await client.raw_call(DECIDE, ASKED)
        assert (answer.status_code, answer.json()["code"]) == (503, "rights_empty")


async def test_a_window_that_was_set_holds_at_once_and_after_a_restart(tmp_path: Path) -> None:
    async with in_process("rights", build, tmp_path) as client:
        await client.call(SET_WINDOW, OPEN)
        assert (await client.call(DECIDE, ASKED)).allowed
    async with in_process("rights", build, tmp_path) as client:
        decision = await client.call(DECIDE, ASKED)
        assert (decision.allowed, decision.valid_until) == (True, NOW + 100)


async def test_an_unknown_title_fails_closed(tmp_path: Path) -> None:
    async with in_process("rights", build, tmp_path) as client:
        await client.call(SET_WINDOW, OPEN)
        unknown = msgspec.structs.replace(ASKED, title_id="other")
        decision = await client.call(DECIDE, unknown)
        assert (decision.allowed, decision.denial) == (False, "not_entitled")


async def test_a_window_ends_while_the_service_runs(tmp_path: Path) -> None:
    clock = ManualClock()
    async with in_process("rights", build, tmp_path, clock=clock) as client:
        await client.call(SET_WINDOW, OPEN)
        clock.tick(100)
        assert (await client.call(DECIDE, ASKED)).denial == "window_ended"


async def test_another_instance_sees_a_change_within_a_second(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        in_process("rights", build, tmp_path) as one,
        in_process("rights", build, tmp_path, clock=clock) as other,
    ):
        following = asyncio.ensure_future(other.service.background[0]())
        await one.call(SET_WINDOW, OPEN)
        await clock.advance(1.0)
        assert (await other.call(DECIDE, ASKED)).allowed
        following.cancel()


async def test_a_window_without_sense_is_refused(tmp_path: Path) -> None:
    async with in_process("rights", build, tmp_path) as client:
        backwards = msgspec.structs.replace(OPEN, ends=NOW - 20)
        assert (await client.raw_call(SET_WINDOW, backwards)).status_code == 400


async def test_an_ingest_replaces_its_own_windows_and_leaves_an_operators(tmp_path: Path) -> None:
    tables = open_tables(f"sqlite://{tmp_path}/rights.db")
    await tables.prepare(*ROWS)
    fr, us = (msgspec.structs.replace(OPEN, territory=one) for one in ("FR", "US"))
    kept = msgspec.structs.replace(OPEN, title_id="kept", max_height=480)
    await tables.put(WindowRow.of(kept, "operator"))
    await write_windows(tables, [OPEN, fr, msgspec.structs.replace(kept, max_height=2160)])
    await write_windows(tables, [OPEN, us])
    rows = {(r.title_id, r.territory): r.max_height async for r in tables.scan(WindowRow)}
    assert rows == {("heat", "*"): 2160, ("heat", "US"): 2160, ("kept", "*"): 480}
    await tables.close()
