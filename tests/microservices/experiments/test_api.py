from __future__ import annotations

import asyncio
from pathlib import Path

from chassis.clock import ManualClock
from chassis.contracts.profiles import (
    ALLOCATE,
    CREATE_TEST,
    END_TEST,
    LIST_TESTS,
    AllocateQuery,
    Cell,
    EndTest,
    NewTest,
)
from chassis.contracts.wire import Nothing
from microservices.experiments.app import build
from tests.support.services import in_process
from tests.support.waiting import until

ROWS = NewTest(name="rows", cells=(Cell(name="control"), Cell(name="bold")))
ASKED = AllocateQuery(account_id="a1")


async def test_a_test_allocates_from_its_start_to_its_end(tmp_path: Path) -> None:
    async with in_process("experiments", build, tmp_path) as client:
        assert (await client.call(ALLOCATE, ASKED)).cells == {}
        created = await client.call(CREATE_TEST, ROWS)
        assert len(created.salt) == 32
        assert await client.call(CREATE_TEST, ROWS) == created
        assert (await client.call(ALLOCATE, ASKED)).cells["rows"] in {"control", "bold"}
        await client.call(END_TEST, EndTest(name="rows", winner="bold"))
        assert (await client.call(ALLOCATE, ASKED)).cells == {"rows": "bold"}
        listed = await client.call(LIST_TESTS, Nothing())
        assert [test.winner for test in listed.tests] == ["bold"]


async def test_cells_are_the_same_after_a_restart(tmp_path: Path) -> None:
    asked = [AllocateQuery(account_id=f"a{number}") for number in range(50)]
    async with in_process("experiments", build, tmp_path) as client:
        await client.call(CREATE_TEST, ROWS)
        before = [await client.call(ALLOCATE, one) for one in asked]
    async with in_process("experiments", build, tmp_path) as client:
        assert [await client.call(ALLOCATE, one) for one in asked] == before


async def test_another_instance_learns_of_a_test(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        in_process("experiments", build, tmp_path, clock=clock) as first,
        in_process("experiments", build, tmp_path, clock=clock) as second,
    ):
        following = asyncio.ensure_future(second.service.background[0]())
        await first.call(CREATE_TEST, ROWS)
        wanted = await first.call(ALLOCATE, ASKED)
        await clock.advance(2.1)
        assert await second.call(ALLOCATE, ASKED) == wanted
        following.cancel()
        await until(following.done)


async def test_senseless_and_conflicting_tests_are_refused(tmp_path: Path) -> None:
    async with in_process("experiments", build, tmp_path) as client:
        await client.call(CREATE_TEST, ROWS)
        other = NewTest(name="rows", cells=(Cell(name="a"), Cell(name="b")))
        conflict = await client.raw_call(CREATE_TEST, other)
        assert (conflict.status_code, conflict.json()["code"]) == (409, "test_exists")
        lonely = await client.raw_call(CREATE_TEST, NewTest(name="x", cells=(Cell(name="a"),)))
        assert (lonely.status_code, lonely.json()["code"]) == (400, "test_invalid")
        unknown = await client.raw_call(END_TEST, EndTest(name="nothing"))
        assert (unknown.status_code, unknown.json()["code"]) == (404, "test_unknown")
