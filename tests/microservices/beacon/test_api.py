"""`POST /v1/events`: durable before it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chassis.clock import ManualClock
from chassis.contracts.events import Envelope
from chassis.events import Spool
from chassis.identity import Passport
from microservices.beacon.app import build
from tests.support.events import ScriptedLog
from tests.support.services import InProcess, in_process
from tests.support.waiting import until
from tests.support.watching import BEGAN_MS, moment


@pytest.fixture
def log() -> ScriptedLog:
    return ScriptedLog()


@pytest.fixture
async def beacon(tmp_path: Path, log: ScriptedLog) -> AsyncIterator[InProcess]:
    clock = ManualClock(now=BEGAN_MS / 1000)
    async with in_process("beacon", build, tmp_path, clock=clock, log=log) as service:
        yield service


async def tell(beacon: InProcess, *events: Any) -> Any:
    return await beacon.rest("POST", "/v1/events", {"events": list(events)})


async def delivered(beacon: InProcess, log: ScriptedLog, count: int) -> list[Envelope]:
    running = asyncio.ensure_future(beacon.service.background[0]())
    await until(lambda: len(log.messages) >= count)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return [msgspec.json.decode(message.value, type=Envelope) for message in log.messages]


async def test_accepted_events_are_on_disk_before_the_answer_and_then_reach_the_log(
    beacon: InProcess, log: ScriptedLog, tmp_path: Path
) -> None:
    answer = await tell(beacon, moment(1, "start"), moment(2))
    assert answer.status_code == 202
    assert answer.json() == {"accepted": 2, "coalesced": 0, "rejected": []}
    assert log.messages == []
    told = await delivered(beacon, log, 2)
    assert [(one.id, one.type) for one in told] == [
        ("s1:1", "play.start.v1"),
        ("s1:2", "play.heartbeat.v1"),
    ]
    assert {message.key for message in log.messages} == {b"p1"}
    assert all(one.traceparent for one in told)


async def test_events_survive_the_process_that_accepted_them(tmp_path: Path) -> None:
    clock = ManualClock(now=BEGAN_MS / 1000)
    async with in_process("beacon", build, tmp_path, clock=clock, log=ScriptedLog()) as beacon:
        assert (await tell(beacon, moment(1))).status_code == 202
    spool = Spool(tmp_path / "spool" / "beacon-test", ScriptedLog(), clock)
    assert spool.waiting == 1
    await spool.close()


async def test_one_bad_event_spoils_no_other(beacon: InProcess) -> None:
    answer = await tell(beacon, moment(1), {"seq": "x"}, moment(3, profile="p2"))
    assert answer.status_code == 202
    body = answer.json()
    assert body["accepted"] == 1
    assert [one["index"] for one in body["rejected"]] == [1, 2]
    assert "token" in body["rejected"][1]["reason"]


async def test_nothing_but_bad_events_is_a_refusal_that_says_why(beacon: InProcess) -> None:
    answer = await tell(beacon, moment(1, profile="p2"))
    assert answer.status_code == 422
    assert answer.json()["code"] == "no_event_accepted"
    assert answer.json()["rejected"][0]["index"] == 0


@pytest.mark.parametrize("count", [0, 501])
async def test_a_batch_holds_one_to_five_hundred(beacon: InProcess, count: int) -> None:
    answer = await tell(beacon, *[moment(1)] * count)
    assert (answer.status_code, answer.json()["code"]) == (400, "batch_size")


async def test_five_hundred_events_are_taken_at_once(beacon: InProcess) -> None:
    answer = await tell(beacon, *[moment(seq + 1, at_ms=BEGAN_MS) for seq in range(500)])
    assert answer.json()["accepted"] == 500


async def test_without_a_passport_or_a_profile_nothing_is_taken(beacon: InProcess) -> None:
    body = {"events": [moment(1)]}
    assert (await beacon.rest("POST", "/v1/events", body, passport=None)).status_code == 401
    answer = await beacon.rest("POST", "/v1/events", body, passport=Passport(account_id="a1"))
    assert (answer.status_code, answer.json()["code"]) == (403, "profile_missing")


async def test_while_the_log_is_away_heartbeats_coalesce_and_pauses_are_kept(
    beacon: InProcess, log: ScriptedLog
) -> None:
    log.down = True
    await tell(beacon, moment(1))
    running = asyncio.ensure_future(beacon.service.background[0]())
    await until(lambda: log.refused)
    answer = await tell(beacon, moment(2), moment(3, "pause"), moment(4))
    assert answer.json() == {"accepted": 3, "coalesced": 1, "rejected": []}
    log.down = False
    await beacon.chassis.clock.advance(10.0)  # type: ignore[attr-defined]
    await until(lambda: len(log.messages) == 3)
    running.cancel()
    ids = [msgspec.json.decode(one.value, type=Envelope).id for one in log.messages]
    assert ids == ["s1:1", "s1:3", "s1:4"]


async def test_a_full_spool_is_an_explicit_refusal(tmp_path: Path, log: ScriptedLog) -> None:
    clock = ManualClock(now=BEGAN_MS / 1000)
    async with in_process(
        "beacon", build, tmp_path, clock=clock, log=log, capacity_bytes=2_000
    ) as beacon:
        codes = [(await tell(beacon, moment(seq))).status_code for seq in range(1, 8)]
        last = await tell(beacon, moment(9))
    assert codes[0] == 202
    assert codes[-1] == 503
    assert last.json()["code"] == "spool_full"
    assert "retry-after" in last.headers


async def test_what_was_offered_and_acknowledged_is_counted(beacon: InProcess) -> None:
    await tell(beacon, moment(1), moment(2), {"seq": 0})
    text = beacon.chassis.telemetry.metrics.render().decode()
    assert "events_acked_total 2.0" in text
    assert "events_spooled 2.0" in text
    assert 'beacon_events_total{result="rejected"} 1.0' in text
