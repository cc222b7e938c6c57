from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from chassis.clock import ManualClock
from chassis.contracts.events import Envelope, LeaseChanged
from chassis.contracts.streams import (
    ACQUIRE,
    GIVE_BACK,
    RECONCILE,
    RENEW,
    SESSIONS,
    AccountSessions,
    GiveBack,
    Leases,
    Reconcile,
    SessionQuery,
)
from chassis.events import open_log
from chassis.identity import Passport
from microservices.sessions.app import build
from tests.support.leases import Heard, ask
from tests.support.services import InProcess, in_process

STRANGER = Passport(account_id="a2", device_id="d9", scopes=("member",))


@asynccontextmanager
async def sessions(home: Path, clock: ManualClock) -> AsyncIterator[InProcess]:
    async with in_process("sessions", build, home, clock=clock, emitter=Heard()) as client:
        yield client


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_a_stream_is_acquired_kept_alive_and_stopped(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with sessions(tmp_path, clock) as client:
        lease = await client.call(ACQUIRE, ask())
        assert (lease.lease_ttl_s, lease.heartbeat_s, lease.provisional) == (60, 20, False)
        path = f"/v1/play/sessions/{lease.session_id}"
        clock.tick(20)
        beat = await client.rest("POST", f"{path}/heartbeat", {"position_ms": 20_000})
        assert beat.status_code == 200
        assert beat.json()["expires_at"] == clock.now() + 60
        listed = await client.rest("GET", "/v1/play/sessions")
        assert [one["session_id"] for one in listed.json()["leases"]] == [lease.session_id]
        assert (await client.rest("DELETE", path)).status_code == 204
        assert (await client.rest("DELETE", path)).status_code == 204
        late = await client.rest("POST", f"{path}/heartbeat", {})
        assert (late.status_code, late.json()["code"]) == (410, "lease_released")


async def test_a_late_heartbeat_is_410_lease_expired(tmp_path: Path, clock: ManualClock) -> None:
    async with sessions(tmp_path, clock) as client:
        lease = await client.call(ACQUIRE, ask())
        clock.tick(60)
        beat = await client.rest("POST", f"/v1/play/sessions/{lease.session_id}/heartbeat", {})
        assert (beat.status_code, beat.json()["code"]) == (410, "lease_expired")


async def test_the_stream_too_many_is_a_409_that_lists_the_others(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with sessions(tmp_path, clock) as client:
        first = await client.call(ACQUIRE, ask("tv", max_streams=1))
        answer = await client.raw_call(ACQUIRE, ask("phone", max_streams=1))
        assert answer.status_code == 409
        problem = answer.json()
        assert problem["code"] == "too_many_streams"
        assert [one["session_id"] for one in problem["sessions"]] == [first.session_id]
        second = await client.call(ACQUIRE, ask("phone", max_streams=1, evict=first.session_id))
        leases = await client.call(SESSIONS, AccountSessions(account_id="a1"))
        assert [one.session_id for one in leases.leases] == [second.session_id]


async def test_another_accounts_session_does_not_exist(tmp_path: Path, clock: ManualClock) -> None:
    async with sessions(tmp_path, clock) as client:
        lease = await client.call(ACQUIRE, ask())
        path = f"/v1/play/sessions/{lease.session_id}"
        beat = await client.rest("POST", f"{path}/heartbeat", {}, passport=STRANGER)
        stop = await client.rest("DELETE", path, passport=STRANGER)
        assert (beat.status_code, stop.status_code) == (404, 404)
        listed = await client.rest("GET", "/v1/play/sessions", passport=STRANGER)
        assert listed.json() == {"leases": []}
        evicting = ask("tv", account_id="a2", evict=lease.session_id)
        await client.call(ACQUIRE, evicting)
        assert (await client.call(SESSIONS, AccountSessions(account_id="a1"))).leases == (lease,)


async def test_without_a_passport_nothing_is_shown(tmp_path: Path, clock: ManualClock) -> None:
    async with sessions(tmp_path, clock) as client:
        answer = await client.rest("GET", "/v1/play/sessions", passport=None)
        assert answer.status_code == 401


@pytest.mark.parametrize("body", [{"position_ms": -1}, {"position_ms": "x"}, []])
async def test_a_senseless_heartbeat_is_400(
    tmp_path: Path, clock: ManualClock, body: object
) -> None:
    async with sessions(tmp_path, clock) as client:
        answer = await client.rest("POST", "/v1/play/sessions/s-1/heartbeat", body)
        assert answer.status_code == 400


async def test_a_play_gives_its_lease_back_by_its_own_name(
    tmp_path: Path, clock: ManualClock
) -> None:
    given = GiveBack(account_id="a1", play_id="play-tv", attempt="one")
    async with sessions(tmp_path, clock) as client:
        await client.call(GIVE_BACK, given)
        await client.call(ACQUIRE, ask(attempt="one"))
        await client.call(GIVE_BACK, given)
        assert await client.call(SESSIONS, AccountSessions(account_id="a1")) == Leases()
        answer = await client.raw_call(RENEW, SessionQuery(account_id="a1", session_id="s-nothing"))
        assert (answer.status_code, answer.json()["code"]) == (404, "session_unknown")


async def test_leases_granted_elsewhere_are_taken_in(tmp_path: Path, clock: ManualClock) -> None:
    async with sessions(tmp_path, clock) as client:
        lease = await client.call(ACQUIRE, ask())
    away = tmp_path / "elsewhere"
    away.mkdir()
    async with sessions(away, clock) as client:
        await client.call(RECONCILE, Reconcile(leases=(lease,)))
        known = await client.call(SESSIONS, AccountSessions(account_id="a1"))
        assert [one.session_id for one in known.leases] == [lease.session_id]


async def test_leases_outlive_the_process(tmp_path: Path, clock: ManualClock) -> None:
    async with sessions(tmp_path, clock) as client:
        lease = await client.call(ACQUIRE, ask())
    async with sessions(tmp_path, clock) as client:
        renewed = await client.call(
            RENEW, SessionQuery(account_id="a1", session_id=lease.session_id)
        )
        assert renewed.play_id == lease.play_id


async def test_a_change_reaches_the_event_log(tmp_path: Path, clock: ManualClock) -> None:
    async with in_process("sessions", build, tmp_path, clock=clock) as client:
        running = [asyncio.ensure_future(one()) for one in client.service.background]
        lease = await client.call(ACQUIRE, ask())
        log = open_log(client.chassis.settings.log_url)
        consumer = log.consumer("reader", ["session.lease"])
        reading = asyncio.ensure_future(consumer.consume(10, 10))
        while not reading.done():
            clock.tick(0.001)
            await asyncio.sleep(0)
        records = reading.result()
        event = msgspec.json.decode(records[0].value, type=Envelope)
        change = msgspec.json.decode(event.data, type=LeaseChanged)
        assert (event.subject, change.what) == (lease.session_id, "acquired")
        await consumer.close()
        await log.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
