"""The embedded registry's sessions, on a clock that the test moves."""

from __future__ import annotations

import httpx
import pytest

from chassis.clock import ManualClock
from chassis.discovery.embedded import RegistryServer
from chassis.errors import StoreUnavailable


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def http(clock: ManualClock, tmp_path):
    server = RegistryServer(clock, tmp_path / "state")
    async with client(server) as http:
        yield http
    server.close()


def client(server: RegistryServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(server.asgi), base_url="http://registry/v1"
    )


async def created(http: httpx.AsyncClient, **body: str) -> str:
    answer = await http.put("/session/create", json={"TTL": "10s", "LockDelay": "5s", **body})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["ID"])


async def acquired(http: httpx.AsyncClient, key: str, session: str) -> bool:
    return bool((await http.put(f"/kv/{key}?acquire={session}", content=b"mine")).json())


async def holder(http: httpx.AsyncClient, key: str) -> str | None:
    return (await http.get(f"/kv/{key}")).json()[0].get("Session")


async def test_a_session_that_is_not_renewed_ends_after_its_ttl_and_frees_its_keys(http, clock):
    session = await created(http)
    assert await acquired(http, "leader", session)
    await clock.advance(9)
    assert (await http.put(f"/session/renew/{session}")).json()[0]["ID"] == session
    await clock.advance(9)
    assert await holder(http, "leader") == session
    await clock.advance(1.1)
    assert await holder(http, "leader") is None
    assert (await http.put(f"/session/renew/{session}")).status_code == 404
    assert (await http.get(f"/session/info/{session}")).json() == []


async def test_its_keys_are_nobodys_for_the_lock_delay(http, clock):
    first, second = await created(http), await created(http, TTL="600s")
    await acquired(http, "leader", first)
    await http.put(f"/session/destroy/{first}")
    assert not await acquired(http, "leader", second)
    await clock.advance(4.9)
    assert not await acquired(http, "leader", second)
    await clock.advance(0.2)
    assert await acquired(http, "leader", second)


async def test_a_session_without_a_ttl_lives_until_it_is_destroyed(http, clock):
    session = await created(http, TTL="")
    await clock.advance(1_000_000)
    assert await acquired(http, "leader", session)


async def test_sessions_and_what_they_hold_survive_a_restart_with_a_whole_ttl(clock, tmp_path):
    first = RegistryServer(clock, tmp_path)
    async with client(first) as http:
        session = await created(http)
        await acquired(http, "leader", session)
        await clock.advance(9)
    first.close()
    second = RegistryServer(clock, tmp_path)
    async with client(second) as http:
        await clock.advance(9)
        assert await holder(http, "leader") == session
        assert [one["ID"] for one in (await http.get("/session/list")).json()] == [session]
        await clock.advance(1.1)
        assert await holder(http, "leader") is None
    second.close()


async def test_a_session_that_ended_is_not_back_after_a_restart(clock, tmp_path):
    first = RegistryServer(clock, tmp_path)
    async with client(first) as http:
        session = await created(http, Behavior="delete")
        await acquired(http, "leader", session)
        await http.put(f"/session/destroy/{session}")
    first.close()
    second = RegistryServer(clock, tmp_path)
    async with client(second) as http:
        assert (await http.get("/session/list")).json() == []
        assert (await http.get("/kv/leader")).status_code == 404
    second.close()


async def test_how_often_a_key_was_taken_is_counted_and_a_write_keeps_its_holder(http):
    session = await created(http)
    await acquired(http, "leader", session)
    await acquired(http, "leader", session)
    await http.put("/kv/leader", content=b"anybody")
    (entry,) = (await http.get("/kv/leader")).json()
    assert (entry["LockIndex"], entry["Session"]) == (1, session)
    await http.put(f"/kv/leader?release={session}", content=b"")
    await acquired(http, "leader", session)
    assert (await http.get("/kv/leader")).json()[0]["LockIndex"] == 2


async def test_a_session_that_cannot_be_ended_on_disk_is_ended_when_the_disk_is_back(
    http, clock, tmp_path
):
    session = await created(http)
    await acquired(http, "leader", session)
    state = tmp_path / "state"
    away = state.rename(tmp_path / "elsewhere")
    await clock.advance(15)
    assert await holder(http, "leader") == session
    away.rename(state)
    await clock.advance(1.1)
    assert await holder(http, "leader") is None


@pytest.mark.parametrize(
    "body",
    [
        {"TTL": "9s"},
        {"TTL": "86401s"},
        {"TTL": "soon"},
        {"LockDelay": "61s"},
        {"Behavior": "forget"},
        {"Checks": ["service:x"]},
        {"Name": 7},
    ],
)
async def test_a_session_that_makes_no_sense_is_refused(http, body):
    answer = await http.put("/session/create", json=body)
    assert answer.status_code == 400
    assert answer.text
    assert (await http.get("/session/list")).json() == []


async def test_an_unknown_session_can_hold_nothing(http):
    answer = await http.put("/kv/leader?acquire=nobody", content=b"x")
    assert answer.status_code == 500
    assert "invalid session" in answer.text


def test_a_damaged_session_is_named(tmp_path, clock):
    (tmp_path / "0.session").write_bytes(b"not a session")
    with pytest.raises(StoreUnavailable, match=r"0\.session is damaged .* move it away"):
        RegistryServer(clock, tmp_path)
