"""WebSockets through the gateway, with a real client and server library on its two sides."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

from chassis.clock import ManualClock
from gateway.worker import Worker
from tests.gateway.filters.test_authenticate import AUTH, prepare, token
from tests.support.gateways import GET, Raw, fields_of, one_rule, running, status_of
from tests.support.scripted import (
    OK,
    Floods,
    Reads,
    Repeats,
    Resets,
    Scripted,
    Sends,
    answers,
    eventually,
)

Handler = Callable[[ServerConnection], Awaitable[None]]
HEARS_S = 0.1
"""The promise is a tenth of a second; busy machines get a factor of ten."""
MIB = 1 << 20
ASKS = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCHES = b"HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def served(folder: Path, handler: Handler = echo, **more: Any) -> AsyncIterator[Worker]:
    """A gateway in front of a WebSocket server."""
    rules = more.pop("rules", one_rule)
    async with serve(handler, "127.0.0.1", 0, max_size=None, ping_interval=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with running(folder, rules(port), **more) as worker:
            yield worker


def asked(worker: Worker, **more: Any) -> connect:
    url = f"ws://127.0.0.1:{worker.port}/chat"
    return connect(url, max_size=None, ping_interval=None, proxy=None, **more)


def metrics(worker: Worker) -> dict[str, float]:
    text = worker.telemetry.metrics.render().decode()
    told = [line.rpartition(" ") for line in text.splitlines() if line.startswith("gateway_str")]
    return {name: float(value) for name, _, value in told}


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 65_535, 65_536, 16 * MIB])
async def test_messages_of_every_size_come_back_whole(size: int, tmp_path: Path) -> None:
    async with served(tmp_path) as worker, asked(worker, compression=None) as client:
        for message in (random.randbytes(size), "é" * (size // 2)):
            await client.send(message)
            assert await client.recv() == message


async def test_compressed_messages_pass_as_they_are(tmp_path: Path) -> None:
    async with served(tmp_path) as worker, asked(worker) as client:
        assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
        await client.send("again and " * 100_000)
        assert await client.recv() == "again and " * 100_000


async def test_fragments_come_as_they_were_sent_with_pings_between(tmp_path: Path) -> None:
    """Read frame by frame on the other side, so that nobody may have put them together."""
    got: list[str | bytes] = []

    async def listens(connection: ServerConnection) -> None:
        got.extend([piece async for piece in connection.recv_streaming()])
        await connection.send(["a", "b", "", "c"])
        await connection.wait_closed()

    async with served(tmp_path, listens) as worker, asked(worker, compression=None) as client:

        async def pieces() -> AsyncIterator[bytes]:
            for size in (1, 126, 70_000, 0):
                yield b"x" * size
                assert await (await client.ping(b"between")) >= 0

        await client.send(pieces())
        assert [piece async for piece in client.recv_streaming()] == ["a", "b", "", "c", ""]
    assert [len(piece) for piece in got] == [1, 126, 70_000, 0, 0]


@pytest.mark.parametrize("size", [0, 1, 125])
async def test_pings_and_pongs_go_both_ways(size: int, tmp_path: Path) -> None:
    latencies: list[float] = []

    async def pings(connection: ServerConnection) -> None:
        latencies.extend([await (await connection.ping(random.randbytes(size))) for _ in range(3)])
        await connection.pong(b"nobody asked")
        await connection.wait_closed()

    async with served(tmp_path, pings) as worker, asked(worker) as client:
        for _ in range(3):
            assert await (await client.ping(random.randbytes(size))) >= 0
        await eventually(lambda: len(latencies) == 3)


CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 4999]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("by", ["client", "server"])
async def test_close_codes_and_reasons_arrive(by: str, code: int, tmp_path: Path) -> None:
    heard: asyncio.Future[tuple[int | None, str | None]] = asyncio.Future()

    async def handler(connection: ServerConnection) -> None:
        if by == "server":
            await connection.close(code, "why: " + "é" * 55)
        await connection.wait_closed()
        heard.set_result((connection.close_code, connection.close_reason))

    async with served(tmp_path, handler) as worker, asked(worker) as client:
        if by == "client":
            await client.close(code, "why: " + "é" * 55)
        await client.wait_closed()
        told = (client.close_code, client.close_reason)
        assert told == await heard == (code, "why: " + "é" * 55)
        await eventually(lambda: worker.gateway.in_flight.now == 0)


async def test_both_sides_talk_at_once(tmp_path: Path) -> None:
    """Neither waits for the other: 8 MB each way, in order."""
    count, message = 128, b"x" * (64 << 10)

    async def talks(connection: ServerConnection | ClientConnection) -> list[bytes]:
        async def say() -> None:
            for number in range(count):
                await connection.send(number.to_bytes(4) + message)

        talking = asyncio.create_task(say())
        heard = [(await connection.recv())[:4] for _ in range(count)]
        await talking
        return heard  # type: ignore[return-value]

    there: list[list[bytes]] = []

    async def handler(connection: ServerConnection) -> None:
        there.append(await talks(connection))
        await connection.wait_closed()

    async with served(tmp_path, handler) as worker, asked(worker, compression=None) as client:
        async with asyncio.timeout(10):
            here = await talks(client)
        await eventually(lambda: bool(there))
        assert here == there[0] == [number.to_bytes(4) for number in range(count)]


@pytest.mark.parametrize("dies", ["client", "server"])
async def test_when_one_side_dies_the_other_hears_of_it(dies: str, tmp_path: Path) -> None:
    theirs: list[ServerConnection] = []
    over = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        theirs.append(connection)
        await connection.wait_closed()
        over.set()

    async with served(tmp_path, handler) as worker, asked(worker) as client:
        await client.ping()
        await eventually(lambda: bool(theirs))
        dead = client if dies == "client" else theirs[0]
        began = time.monotonic()
        dead.transport.abort()
        async with asyncio.timeout(HEARS_S * 10):
            await (over.wait() if dies == "client" else client.wait_closed())
        assert time.monotonic() - began < HEARS_S * 10
        other = theirs[0] if dies == "client" else client
        assert other.close_code == 1006
        await eventually(lambda: worker.gateway.in_flight.now == 0)
        assert worker.listener.connections == set()


async def test_a_reset_is_passed_on_as_an_end(tmp_path: Path) -> None:
    async with (
        Scripted([Reads(), Sends(SWITCHES), Reads(b"go"), Resets()]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(ASKS)
        await client.head()
        client.send(b"go")
        assert await client.rest() == b""
        await eventually(lambda: worker.gateway.in_flight.now == 0)


@pytest.mark.parametrize("reader", ["client", "server"])
async def test_a_side_that_does_not_read_slows_the_other(reader: str, tmp_path: Path) -> None:
    """What the gateway holds is bounded, and once it is read everything arrives."""
    total = 48 * MIB
    async with (
        Scripted([Reads(), Sends(SWITCHES), Reads(b"go"), Floods(total)]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(ASKS)
        await client.head()
        (link,) = upstream.connections
        assert link.transport is not None
        if reader == "client":
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.send(b"go")
        else:
            link.transport.pause_reading()
            client.send(b"x" * total)
        (stream,) = worker.gateway.streams._open.values()
        moved = await stands_still(lambda: sum(stream.stream.carried))
        assert moved < total / 2
        tunnel = stream.stream._joined
        held = sum(side.transport.get_write_buffer_size() for side in (tunnel.up, tunnel.down))
        assert 0 < held < 512 << 10
        if reader == "client":
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            async with asyncio.timeout(10):
                await client.reader.readexactly(total)
        else:
            link.transport.resume_reading()
            await eventually(lambda: len(link.received) > total, 10)


async def stands_still(look: Callable[[], int]) -> int:
    """The value, once it has not changed for a while."""
    seen, since = -1, time.monotonic()
    async with asyncio.timeout(10):
        while time.monotonic() - since < 0.3:
            if look() != seen:
                seen, since = look(), time.monotonic()
            await asyncio.sleep(0.01)
    return seen


async def test_a_quiet_one_is_ended_with_a_reason_and_a_ping_keeps_it(tmp_path: Path) -> None:
    clock = ManualClock()
    async with served(tmp_path, clock=clock) as worker, asked(worker) as client:
        for _ in range(3):
            clock.tick(290)
            assert await (await client.ping()) >= 0
        clock.tick(290)
        assert len(worker.gateway.streams) == 1
        clock.tick(20)
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1001, "nothing came for too long")
        await eventually(lambda: len(worker.gateway.streams) == 0)
        told = metrics(worker)
        assert told['gateway_streams_total{by="idle",kind="websocket"}'] == 1
        duration = worker.gateway.observer.duration("all")
        assert sum(duration.counts) == 1 and duration.total < 1, "told when it was answered"


@pytest.mark.parametrize("status", [b"403 Forbidden", b"426 Upgrade Required", b"404 Not Found"])
async def test_a_refused_upgrade_passes_and_the_connection_stays(
    status: bytes, tmp_path: Path
) -> None:
    refusal = b"HTTP/1.1 %b\r\nSec-WebSocket-Version: 13\r\nContent-Length: 2\r\n\r\nno" % status
    async with (
        Scripted([Reads(), Sends(refusal), Repeats([Reads(), Sends(OK)])]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(ASKS)
        head, body = await client.answer()
        assert (status_of(head), body) == (int(status[:3]), b"no")
        assert fields_of(head)[b"sec-websocket-version"] == b"13"
        client.send(GET)
        assert (await client.answer())[1] == b"ok"
        assert len(upstream.connections) == 1


@pytest.mark.parametrize(
    "lines",
    [
        b"Upgrade: websocket\r\n",
        b"Connection: upgrade\r\n",
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n",
    ],
)
async def test_without_both_fields_or_with_a_body_it_is_an_ordinary_request(
    lines: bytes, tmp_path: Path
) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        body = b"hi" if b"Content-Length" in lines else b""
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n" + body)
        assert (await client.answer())[1] == b"ok"
        assert b"upgrade" not in upstream.received.lower()
        assert len(worker.gateway.streams) == 0


async def test_a_server_that_switches_though_nobody_asked_is_a_bad_gateway(tmp_path: Path) -> None:
    async with (
        Scripted([Reads(), Sends(SWITCHES)]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        assert status_of((await client.answer())[0]) == 502


async def test_a_token_is_needed_before_anything_switches(tmp_path: Path) -> None:
    keyring, _ = prepare(tmp_path)

    def rules(port: int) -> str:
        return one_rule(port, auth="member") + AUTH

    async with served(tmp_path, rules=rules, keyring=keyring) as worker:
        async with Raw(worker.port) as client:
            client.send(ASKS)
            assert status_of((await client.answer())[0]) == 401
        bearer = {"Authorization": f"Bearer {token().decode()}"}
        async with asked(worker, additional_headers=bearer) as known:
            await known.send("hello")
            assert await known.recv() == "hello"


async def test_upgrades_are_limited_like_any_request(tmp_path: Path) -> None:
    def rules(port: int) -> str:
        return one_rule(port, rate_limit="few") + "limits: {few: {per_s: 0.001, burst: 1}}\n"

    async with served(tmp_path, rules=rules) as worker, asked(worker) as first:
        async with Raw(worker.port) as client:
            client.send(ASKS)
            assert status_of((await client.answer())[0]) == 429
        await first.send("still here")
        assert await first.recv() == "still here"


async def test_it_is_counted_while_it_is_open_and_when_it_has_ended(tmp_path: Path) -> None:
    kind = 'kind="websocket"'
    async with served(tmp_path) as worker:
        async with asked(worker, compression=None) as client:
            await client.send(b"x" * 1000)
            await client.recv()
            told = metrics(worker)
            assert told[f"gateway_streams_open{{{kind}}}"] == 1
            assert told[f'gateway_stream_bytes_total{{direction="in",{kind}}}'] == 1008
            assert told[f'gateway_stream_bytes_total{{direction="out",{kind}}}'] == 1004
        await eventually(lambda: len(worker.gateway.streams) == 0)
        told = metrics(worker)
        assert told[f"gateway_streams_open{{{kind}}}"] == 0
        assert told[f'gateway_streams_total{{by="instance",{kind}}}'] == 1
        assert told[f'gateway_stream_bytes_total{{direction="in",{kind}}}'] == 1016
        assert told[f'gateway_stream_bytes_total{{direction="out",{kind}}}'] == 1008


async def test_a_client_that_is_cut_off_hears_no_code(tmp_path: Path) -> None:
    """The end of the gateway itself, past every deadline."""
    async with served(tmp_path) as worker, asked(worker) as client:
        await client.send("hello")
        await client.recv()
        await worker.close()
        with pytest.raises((ConnectionClosedError, ConnectionClosed)):
            await client.recv()
        assert client.close_code == 1006
