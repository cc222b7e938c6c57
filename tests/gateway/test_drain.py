"""How a worker drains, step by step, and how it leaves its sockets to a successor."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from chassis.errors import ConfigurationFault
from gateway import app
from gateway.settings import Settings
from gateway.worker import Worker
from tests.gateway.streams.test_websocket import asked, metrics, served
from tests.gateway.test_worker import FakeRegistry
from tests.support.gateways import GET, Raw, fields_of, one_rule, running, status_of
from tests.support.scripted import OK, Holds, Reads, Scripted, Sends, answers, eventually

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"


def told(worker: Worker) -> list[str]:
    """The events of its log, in order."""
    worker.telemetry.log.close()
    file = worker.settings.root / "log" / f"{worker.telemetry.instance}.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line["event"] for line in lines if "event" in line]


def connected(port: int) -> socket.socket:
    """A connection that nobody has accepted as long as the loop does not run."""
    return socket.create_connection(("127.0.0.1", port), timeout=5)


async def asks(connection: socket.socket) -> tuple[bytes, bytes]:
    """The answer to a request on a plain socket."""
    reader, writer = await asyncio.open_connection(sock=connection)
    writer.write(GET)
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(fields_of(head)[b"content-length"]))
    writer.transport.abort()
    return head, body


async def test_it_drains_in_the_promised_order(tmp_path: Path) -> None:
    registry = FakeRegistry()
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), registry=registry) as worker,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{worker.admin_port}") as admin,
        Raw(worker.port) as known,
    ):
        await eventually(lambda: bool(registry.registered))
        worker.settings = Settings(rules=tmp_path, discovery_interval_s=0.5, quiet_s=0.5)
        assert (await admin.get("/ready")).status_code == 200
        shutting = asyncio.create_task(worker.shut())
        await eventually(lambda: registry.notes == ["deregistered"])
        assert (await admin.get("/ready")).status_code == 503
        for _ in range(2):  # as before, for those who have not noticed yet
            known.send(GET)
            assert b"connection" not in fields_of((await known.answer())[0])
        async with Raw(worker.port) as late:
            late.send(GET)
            assert b"connection" not in fields_of((await late.answer())[0])
        await eventually(lambda: worker.listener.draining)
        with pytest.raises(OSError):
            connected(worker.port)
        known.send(GET)
        assert fields_of((await known.answer())[0])[b"connection"] == b"close"
        assert (await admin.get("/metrics")).status_code == 200
        await shutting
    assert registry.notes == ["deregistered", "closed"]


async def test_an_idle_connection_is_not_closed_under_a_request_on_its_way(tmp_path: Path) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as busy,
        Raw(worker.port) as idle,
    ):
        worker.settings = Settings(rules=tmp_path, discovery_interval_s=0, quiet_s=0.5)
        await eventually(lambda: len(worker.listener.connections) == 2)
        shutting = asyncio.create_task(worker.shut())
        await eventually(lambda: worker.listener.draining)
        busy.send(GET)
        assert (await busy.answer())[1] == b"ok"
        assert await idle.rest() == b""
        await shutting


@pytest.mark.parametrize("proxied", [False, True])
async def test_who_waits_in_the_accept_queue_is_served(proxied: bool, tmp_path: Path) -> None:
    """To close a listening socket resets them, also when others listen on the same port."""
    listen = "tcp://127.0.0.1:0?proxy=10.0.0.0/8" if proxied else ""
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), listen=listen) as worker,
    ):
        waiting = [connected(worker.port) for _ in range(100)]
        worker.listeners.stop_accepting()
        worker.listeners.close_idle(5.0)
        for connection in waiting:
            head, body = await asks(connection)
            assert (status_of(head), body) == (200, b"ok")
            assert fields_of(head)[b"connection"] == b"close"


@asynccontextmanager
async def holding(folder: Path, rules: str, held: socket.socket) -> AsyncIterator[Worker]:
    """A worker that has inherited a socket."""
    folder.mkdir()  # noqa: ASYNC240  # nothing else runs
    (folder / "rules.yaml").write_text(rules)
    port = held.getsockname()[1]
    settings = Settings(
        rules=folder / "rules.yaml",
        home=folder,
        listen=f"127.0.0.1:{port}",
        sockets=f"127.0.0.1:{port}={held.dup().detach()}",
        discovery_interval_s=0.01,
        quiet_s=0.1,
    )
    worker = await app.build(settings)
    try:
        await app.start(worker)
        yield worker
    finally:
        await worker.close()


async def test_a_successor_gets_who_waits_and_who_comes(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        async with Scripted(answers()) as upstream:
            rules = one_rule(upstream.port)
            async with holding(tmp_path / "old", rules, held) as old:
                assert status_of((await asks(connected(port)))[0]) == 200
                async with holding(tmp_path / "new", rules, held) as new:
                    old.hand_over()
                    assert old.stopping.is_set()
                    waiting = [connected(port) for _ in range(20)]
                    old.listeners.stop_accepting(hand_over=True)
                    await old.shut()
                    waiting += [connected(port) for _ in range(20)]
                    for connection in waiting:
                        head, body = await asks(connection)
                        assert (status_of(head), body) == (200, b"ok")
                    assert not old.listener.connections
                    await new.shut()
                    with pytest.raises(OSError):
                        connected(port)


async def test_streams_end_after_the_deadline_with_a_reason(tmp_path: Path) -> None:
    async with served(tmp_path, drain_s=0.3) as worker, asked(worker) as client:
        shutting = asyncio.create_task(worker.shut())
        await eventually(lambda: worker.listener.draining)
        await client.send("still here")
        assert await client.recv() == "still here"
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1001, "the gateway is going away")
        await shutting
        assert metrics(worker)['gateway_streams_total{by="drain",kind="websocket"}'] == 1
    assert "drain_deadline" in told(worker)


async def test_an_event_stream_ends_at_the_drain_without_looking_whole(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with (
        Scripted([Reads(), Sends(EVENTS), Holds(go)]) as upstream,
        running(tmp_path, one_rule(upstream.port), drain_s=0.1) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        await client.head()
        await worker.shut()
        assert await client.rest() == b"9\r\ndata: 1\n\n\r\n"
        await eventually(lambda: upstream.connections[0].ended)
        go.set()


async def test_nobody_waits_for_what_has_ended_already(tmp_path: Path) -> None:
    async with (
        Scripted([Reads(), Sends(OK)]) as upstream,
        running(tmp_path, one_rule(upstream.port), drain_s=60.0) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        await client.answer()
        async with asyncio.timeout(10):
            await worker.shut()
    assert told(worker)[-1] == "draining"


@pytest.mark.parametrize("text", ["8080", "127.0.0.1:8080", "127.0.0.1:8080=x"])
def test_an_unusable_socket_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ConfigurationFault, match="host:port=DESCRIPTOR"):
        Settings(rules=Path("r"), sockets=text).held()
