from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.clock import ManualClock
from chassis.contracts.streams import Lease
from chassis.errors import Conflict, StagedoorError
from microservices.sessions.store import AccountLeases
from tests.support.leases import Heard, Instance, ask


@asynccontextmanager
async def instances(
    file: Path, count: int, clock: ManualClock, heard: Heard
) -> AsyncIterator[list[Instance]]:
    made = [Instance(file, clock, heard) for _ in range(count)]
    await made[0].tables.prepare(AccountLeases)
    try:
        yield made
    finally:
        for one in made:
            await one.tables.close()


async def test_two_instances_never_both_grant_the_last_stream(tmp_path: Path) -> None:
    clock, heard = ManualClock(), Heard()
    async with instances(tmp_path / "s.db", 2, clock, heard) as pair:
        asked = [
            pair[number % 2].acquire(ask(f"d{number}", max_streams=3), f"s{number}")
            for number in range(20)
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        granted = [answer for answer in answers if isinstance(answer, Lease)]
        refused = [answer for answer in answers if isinstance(answer, Conflict)]
        assert (len(granted), len(refused)) == (3, 17)
        live = (await pair[0].store.read("a1")).live(clock.now())
        assert {one.session_id for one in live} == {one.session_id for one in granted}


async def test_one_key_asked_for_many_times_at_once_is_one_lease(tmp_path: Path) -> None:
    async with instances(tmp_path / "s.db", 2, ManualClock(), Heard()) as pair:
        leases = await asyncio.gather(
            *(pair[number % 2].acquire(ask(), f"s{number}") for number in range(10))
        )
        assert len({lease.session_id for lease in leases}) == 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.integers(0, 4), st.booleans()),
        st.tuples(st.just("release"), st.integers(0, 30), st.booleans()),
        st.tuples(st.just("wait"), st.sampled_from([1, 30, 61]), st.booleans()),
    ),
    max_size=25,
)


@given(steps=STEPS)
@settings(max_examples=20, deadline=None)
def test_no_interleaving_of_two_instances_exceeds_the_plan(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, bool]]
) -> None:
    asyncio.run(_interleave(tmp_path_factory.mktemp("s") / "s.db", steps))


async def _interleave(file: Path, steps: list[tuple[str, int, bool]]) -> None:
    clock = ManualClock()
    async with instances(file, 2, clock, Heard()) as pair:
        running: list[asyncio.Future[Any]] = []
        for number, (what, value, which) in enumerate(steps):
            instance = pair[which]
            if what == "acquire":
                request = ask(f"d{value}", max_streams=2, idempotency_key="")
                running.append(asyncio.ensure_future(instance.acquire(request, f"s{number}")))
            elif what == "release":
                running.append(asyncio.ensure_future(instance.release(f"s{value}")))
            else:
                await asyncio.gather(*running, return_exceptions=True)
                clock.tick(value)
            await asyncio.sleep(0)
            assert len((await instance.store.read("a1")).live(clock.now())) <= 2
        answers = await asyncio.gather(*running, return_exceptions=True)
        faults = [one for one in answers if isinstance(one, BaseException)]
        assert all(isinstance(fault, StagedoorError) for fault in faults)
        assert len((await pair[0].store.read("a1")).live(clock.now())) <= 2


async def test_a_cancelled_caller_leaves_the_account_usable(tmp_path: Path) -> None:
    async with instances(tmp_path / "s.db", 1, ManualClock(), Heard()) as (one,):
        left = asyncio.ensure_future(one.acquire(ask(), "s1"))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait([left])
        lease = await one.acquire(ask(), "s2")
        assert lease.session_id in {"s1", "s2"}
        assert len((await one.store.read("a1")).live(0)) == 1


async def test_every_change_is_told_once_and_in_order(tmp_path: Path) -> None:
    clock, heard = ManualClock(), Heard()
    async with instances(tmp_path / "s.db", 1, clock, heard) as (one,):
        telling = asyncio.ensure_future(one.teller.run())
        await one.acquire(ask("tv"), "s1")
        await one.acquire(ask("tv", idempotency_key="2"), "s2")
        await clock.advance(61)
        await one.store.sweep()
        await clock.advance(0.05)
        telling.cancel()
        assert [event.id for event in heard.events] == [
            "s1:acquired",
            "s1:released",
            "s2:acquired",
            "s2:expired",
        ]
        assert heard.events[3].type == "session.expired.v1"
        assert heard.events[3].partitionkey == "a1"
        assert heard.events[3].time == "2023-11-14T22:14:20.000Z"


async def test_a_full_spool_loses_nothing(tmp_path: Path) -> None:
    clock, heard = ManualClock(), Heard()
    heard.full = True
    async with instances(tmp_path / "s.db", 1, clock, heard) as (one,):
        telling = asyncio.ensure_future(one.teller.run())
        await one.acquire(ask(), "s1")
        await clock.advance(5)
        assert heard.events == []
        heard.full = False
        await clock.advance(2)
        telling.cancel()
        assert heard.types == ["session.acquired.v1"]


async def test_what_a_dead_process_left_untold_is_told_by_the_next(tmp_path: Path) -> None:
    clock, heard = ManualClock(), Heard()
    async with instances(tmp_path / "s.db", 1, clock, heard) as (dead,):
        await dead.acquire(ask(), "s1")
    async with instances(tmp_path / "s.db", 1, clock, heard) as (heir,):
        clock.tick(121)
        await heir.store.sweep()
        await heir.teller.flush()
        assert sorted(heard.types) == ["session.acquired.v1", "session.expired.v1"]
        await heir.store.sweep()
        assert (await heir.store.read("a1")).untold == ()


async def test_a_quiet_account_takes_no_room(tmp_path: Path) -> None:
    clock = ManualClock()
    async with instances(tmp_path / "s.db", 1, clock, Heard()) as (one,):
        await one.acquire(ask(), "s1")
        await one.release("s1")
        await one.teller.flush()
        clock.tick(3601)
        await one.store.sweep()
        assert await one.tables.get(AccountLeases, "a1") is None
        assert repr(one.teller) == "Teller(waiting=0, told=0)"


KILLED = """
import asyncio, os, sys
from pathlib import Path
from chassis.clock import ManualClock
from tests.support.leases import Heard, Instance, ask
from microservices.sessions.store import AccountLeases

async def main():
    one = Instance(Path(sys.argv[1]), ManualClock(), Heard())
    await one.tables.prepare(AccountLeases)
    await one.acquire(ask(), "s1")
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


async def test_a_granted_lease_survives_kill_9(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    ended = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", KILLED, str(file)])
    assert ended.returncode == -9
    clock = ManualClock()
    async with instances(file, 1, clock, Heard()) as (one,):
        assert [lease.session_id for lease in (await one.store.read("a1")).live(clock.now())] == [
            "s1"
        ]
