"""The embedded registry: what only it can be asked, on a clock that the test moves."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from chassis.clock import ManualClock
from chassis.discovery.durations import seconds
from chassis.discovery.embedded import RegistryServer
from chassis.errors import BadRequest, StoreUnavailable

SERVICE = {
    "Name": "test",
    "ID": "test-1",
    "Address": "127.0.0.1",
    "Port": 9001,
    "Meta": {"Admin": "x:1"},
    "Check": {"TTL": "10s", "Status": "passing", "DeregisterCriticalServiceAfter": "2m"},
}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def server(clock: ManualClock):
    server = RegistryServer(clock)
    yield server
    server.close()


def client(server: RegistryServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(server.asgi), base_url="http://registry/v1"
    )


@pytest.fixture
async def http(server: RegistryServer):
    async with client(server) as http:
        yield http


async def passing(http: httpx.AsyncClient) -> list[str]:
    answer = await http.get("/health/service/test?passing")
    return [entry["Service"]["ID"] for entry in answer.json()]


def index(answer: httpx.Response) -> int:
    return int(answer.headers["X-Consul-Index"])


async def test_a_check_that_is_not_renewed_turns_critical_and_its_service_is_reaped(http, clock):
    await http.put("/agent/service/register", json=SERVICE)
    await clock.advance(9)
    await http.put("/agent/check/pass/service:test-1?note=fine")
    await clock.advance(9)
    assert await passing(http) == ["test-1"]
    await clock.advance(1.1)
    assert await passing(http) == []
    (entry,) = (await http.get("/health/service/test")).json()
    assert entry["Checks"][0]["Status"] == "critical"
    assert entry["Checks"][0]["Output"] == "TTL expired"
    await clock.advance(121)
    assert (await http.get("/health/service/test")).json() == []
    assert (await http.get("/catalog/services")).json() == {}


async def test_registering_again_takes_the_old_checks_timer_away(http, clock):
    await http.put("/agent/service/register", json=SERVICE)
    await clock.advance(5)
    await http.put("/agent/service/register", json=SERVICE)
    before = index(await http.get("/health/service/test"))
    for _ in range(40):
        await clock.advance(5)
        await http.put("/agent/check/pass/service:test-1")
    assert await passing(http) == ["test-1"]
    assert index(await http.get("/health/service/test")) == before


async def test_a_check_without_a_status_starts_critical(http):
    await http.put("/agent/service/register", json=SERVICE | {"Check": {"TTL": "10s"}})
    assert await passing(http) == []


@pytest.mark.parametrize(("verb", "status"), [("warn", "warning"), ("fail", "critical")])
async def test_a_client_can_say_that_it_is_not_well(http, verb, status):
    await http.put("/agent/service/register", json=SERVICE)
    await http.put(f"/agent/check/{verb}/service:test-1")
    assert await passing(http) == []
    assert (await http.get("/agent/checks")).json()["service:test-1"]["Status"] == status


async def test_a_heartbeat_that_changes_nothing_moves_no_index(http):
    await http.put("/agent/service/register", json=SERVICE)
    before = index(await http.get("/health/service/test"))
    await http.put("/agent/check/pass/service:test-1")
    assert index(await http.get("/health/service/test")) == before


async def test_a_change_of_one_service_does_not_wake_who_waits_for_another(http, clock):
    before = index(await http.get("/health/service/other"))
    waiting = asyncio.create_task(http.get(f"/health/service/other?index={before}&wait=10s"))
    await clock.advance(1)
    await http.put("/agent/service/register", json=SERVICE)
    await clock.advance(1)
    assert not waiting.done()
    await clock.advance(10)
    assert index(await waiting) == before


async def test_waiting_ends_after_the_asked_time_and_up_to_a_sixteenth_more(http, clock):
    before = index(await http.get("/catalog/services"))
    waiting = asyncio.create_task(http.get(f"/catalog/services?index={before}&wait=16s"))
    await clock.advance(15.9)
    assert not waiting.done()
    await clock.advance(1.2)
    assert (await waiting).status_code == 200


async def test_an_index_of_another_life_is_answered_at_once(http):
    ahead = index(await http.get("/catalog/services")) + 1_000_000
    async with asyncio.timeout(1):
        answer = await http.get(f"/catalog/services?index={ahead}&wait=60s")
    assert index(answer) < ahead


async def test_a_later_life_starts_above_the_indexes_of_the_one_before(server, http, clock):
    await http.put("/agent/service/register", json=SERVICE)
    before = index(await http.get("/health/service/test"))
    clock.tick(1)
    async with client(RegistryServer(clock)) as later:
        assert index(await later.get("/health/service/test")) > before


async def test_closing_lets_blocked_queries_go(server, http):
    before = index(await http.get("/catalog/services"))
    waiting = asyncio.create_task(http.get(f"/catalog/services?index={before}"))
    await asyncio.sleep(0.01)
    server.close()
    async with asyncio.timeout(1):
        assert (await waiting).status_code == 200


async def test_a_client_that_leaves_is_not_waited_for_and_nothing_is_kept(server):
    gone = asyncio.Event()
    sent = []
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive():
        for message in messages:
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    asked = str(server._changes.start).encode()
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/catalog/services",
        "query_string": b"index=" + asked,
        "headers": [],
    }
    call = asyncio.create_task(server.asgi(scope, receive, send))
    for _ in range(5):
        await asyncio.sleep(0)
    assert server._changes._waiting
    gone.set()
    async with asyncio.timeout(1):
        await call
    assert not server._changes._waiting


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/agent/service/deregister/nobody", 404),
        ("/agent/check/pass/nobody", 404),
        ("/agent/check/dance/nobody", 404),
        ("/kv/key?cas=x", 400),
        ("/kv/key?acquire=session", 500),
        ("/kv/", 400),
    ],
)
async def test_what_cannot_be_done_is_said(http, path, status):
    answer = await http.put(path, content=b"x")
    assert answer.status_code == status
    assert answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"ID": "no name"}',
        b'{"Name": "test", "Port": "many"}',
        b'{"Name": "test", "Check": {"HTTP": "http://x", "Interval": "10s"}}',
        b'{"Name": "test", "Check": {"TTL": "soon"}}',
        b'{"Name": "test", "Check": {"TTL": "1s", "Status": "splendid"}}',
    ],
)
async def test_a_definition_that_makes_no_sense_is_refused_and_changes_nothing(http, body):
    answer = await http.put("/agent/service/register", content=body)
    assert answer.status_code == 400
    assert answer.text
    assert (await http.get("/agent/services")).json() == {}


async def test_field_names_may_have_any_case_and_meta_keeps_its_own(http):
    await http.put("/agent/service/register", json=SERVICE | {"tAgS": ["a"]})
    service = (await http.get("/agent/services")).json()["test-1"]
    assert service["Tags"] == ["a"]
    assert service["Meta"] == {"Admin": "x:1"}


async def test_keys_can_be_listed_up_to_a_separator_and_read_raw(http):
    for key in ("a/b/1", "a/b/2", "a/c", "z"):
        await http.put(f"/kv/{key}?flags=7", content=key.encode())
    assert (await http.get("/kv/a/?keys&separator=/")).json() == ["a/b/", "a/c"]
    assert (await http.get("/kv/?keys")).json() == ["a/b/1", "a/b/2", "a/c", "z"]
    assert (await http.get("/kv/a/c?raw")).content == b"a/c"
    assert (await http.get("/kv/z")).json()[0]["Flags"] == 7
    await http.delete("/kv/a?recurse")
    assert (await http.get("/kv/?keys")).json() == ["z"]


@pytest.mark.parametrize(
    ("text", "expected"), [("10s", 10), ("1m30s", 90), ("1500ms", 1.5), ("0.5h", 1800)]
)
def test_durations_are_read_as_go_writes_them(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "10", "s", "10 s", "-1s", "1d", "1s!"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(BadRequest):
        seconds(text)


async def test_keys_survive_a_restart_with_their_indexes(tmp_path, clock):
    async with client(RegistryServer(clock, tmp_path)) as first:
        await first.put("/kv/gone", content=b"x")
        await first.put("/kv/rules", content=b"\x00rules")
        await first.delete("/kv/gone")
        before = (await first.get("/kv/rules")).json()
    async with client(RegistryServer(clock, tmp_path)) as second:
        answer = await second.get("/kv/rules")
        assert answer.json() == before
        assert (await second.get("/kv/gone")).status_code == 404
        assert (await second.put("/kv/rules?cas=1", content=b"")).json() is False
        cas = before[0]["ModifyIndex"]
        assert (await second.put(f"/kv/rules?cas={cas}", content=b"new")).json() is True
        assert (await second.get("/kv/rules")).json()[0]["ModifyIndex"] > cas


def test_a_draft_left_by_a_crash_is_forgotten(tmp_path, clock):
    (tmp_path / "0.key.part").write_bytes(b"half a k")
    RegistryServer(clock, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_key_is_named(tmp_path, clock):
    (tmp_path / "0.key").write_bytes(b"not a key")
    with pytest.raises(StoreUnavailable, match=r"0\.key is damaged .* move it away"):
        RegistryServer(clock, tmp_path)


def test_a_state_directory_that_cannot_be_read_is_named(tmp_path, clock):
    (tmp_path / "state").write_bytes(b"a file")
    with pytest.raises(StoreUnavailable, match="state"):
        RegistryServer(clock, tmp_path / "state")


async def test_a_key_that_cannot_be_written_keeps_its_old_value(tmp_path, clock):
    async with client(RegistryServer(clock, tmp_path)) as http:
        await http.put("/kv/rules", content=b"old")
        tmp_path.rename(tmp_path.with_name("elsewhere"))
        answer = await http.put("/kv/rules", content=b"new")
        assert answer.status_code == 500
        assert "cannot be written" in answer.text
        assert (await http.get("/kv/rules?raw")).content == b"old"
