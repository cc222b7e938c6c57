"""WebSockets through the tunnel, with a real client and server library; and raw upgrades."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from chassis.clock import ManualClock
from gateway.edge.tunnel import Tunnel
from tests.support.gateways import GET, Raw, one_rule, running, status_of
from tests.support.scripted import (
    Closes,
    Holds,
    Reads,
    Repeats,
    Scripted,
    Sends,
    answers,
    eventually,
)

ASKS = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
SWITCHES = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def test_messages_of_any_size_go_both_ways(tmp_path: Path) -> None:
    async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with (
            running(tmp_path, one_rule(port)) as worker,
            connect(f"ws://127.0.0.1:{worker.port}/", max_size=None) as client,
        ):
            for size in (0, 1, 125, 70_000, 4 << 20):
                await client.send(b"x" * size)
                assert await client.recv() == b"x" * size
            await client.send(["frag", "men", "ted"])
            assert await client.recv() == "fragmented"
            assert await (await client.ping()) >= 0
            assert worker.gateway.in_flight.now == 1
            await client.close(1000, "bye")
            assert client.close_code == 1000
            await eventually(lambda: worker.gateway.in_flight.now == 0)


async def test_bytes_behind_either_head_are_the_tunnels_first(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with (
        Scripted([Reads(), Holds(go), Sends(SWITCHES + b"hello"), Reads(b"late")]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
    ):
        async with Raw(worker.port) as client:
            client.send(ASKS + b"early")
            await eventually(lambda: bool(upstream.received))
            assert b"early" not in upstream.received
            go.set()
            assert status_of(await client.head()) == 101
            assert await client.reader.readexactly(5) == b"hello"
            client.send(b"late")
            await eventually(lambda: upstream.received.endswith(b"\r\n\r\nearlylate"))
        await eventually(lambda: not worker.listener.connections)
        await eventually(lambda: worker.gateway.in_flight.now == 0)


async def test_a_tunnel_whose_other_half_never_ends_is_closed_in_time(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        Scripted([Reads(), Sends(SWITCHES), Closes()]) as upstream,
        running(tmp_path, one_rule(upstream.port), clock=clock) as worker,
        Raw(worker.port) as client,
    ):
        client.send(ASKS)
        await client.rest()
        (known,) = worker.gateway.streams._open.values()
        await eventually(lambda: known.stream.moved[1] == 0)
        clock.tick(60)
        assert worker.gateway.in_flight.now == 1
        clock.tick(20)
        await eventually(lambda: worker.gateway.in_flight.now == 0)


async def test_a_refused_upgrade_is_an_ordinary_answer(tmp_path: Path) -> None:
    """What the client sends behind it is its next request, never bytes of a tunnel."""
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(ASKS + GET)
        assert (await client.answer())[1] == b"ok"
        assert (await client.answer())[1] == b"ok"


@pytest.mark.parametrize("who", ["client", "instance"])
async def test_half_a_tunnel_may_end_before_the_other(who: str, tmp_path: Path) -> None:
    async with (
        Scripted([Reads(), Sends(SWITCHES), Repeats([Reads(b"never")])]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(ASKS)
        await client.head()
        link = upstream.connections[0]
        assert link.transport is not None
        if who == "client":
            client.writer.write_eof()
            await eventually(lambda: link.ended)
        else:
            link.transport.write_eof()
            assert await client.rest() == b""
            client.send(b"still here")
            await eventually(lambda: link.received.endswith(b"still here"))
    await eventually(lambda: worker.gateway.in_flight.now == 0)


@contextlib.asynccontextmanager
async def joined(kept: int) -> AsyncIterator[tuple[Tunnel, socket.socket, socket.socket]]:
    """A tunnel that is not read yet, and its far ends; a kernel keeps so much for each of them."""
    loop = asyncio.get_running_loop()
    far, near = [], []
    for _ in range(2):
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, kept)
        transport, _protocol = await loop.create_connection(asyncio.Protocol, sock=ours)
        transport.pause_reading()
        theirs.setblocking(False)
        near.append(transport)
        far.append(theirs)
    tunnel = Tunnel(near[0], near[1], 64 << 10, lambda: None)
    try:
        yield tunnel, far[0], far[1]
    finally:
        tunnel.abort()
        for theirs in far:
            theirs.close()
        await asyncio.sleep(0)


@pytest.mark.parametrize("sender", ["client", "instance"])
async def test_who_sent_more_ahead_than_the_other_takes_is_read_once_it_is_taken(
    sender: str,
) -> None:
    ahead = bytes(380_000)
    async with joined(4096) as (tunnel, client, instance):
        forth = sender == "client"
        tunnel.start(ahead if forth else b"", b"" if forth else ahead)
        side, taker = (tunnel.down, instance) if forth else (tunnel.up, client)
        assert not side.transport.is_reading()
        assert side.other.transport.is_reading()
        left = len(ahead)
        while left:
            left -= len(await asyncio.get_running_loop().sock_recv(taker, left))
        await eventually(side.transport.is_reading)


async def test_who_had_more_to_take_before_it_was_a_tunnel_holds_the_other_back() -> None:
    async with joined(4096) as (tunnel, client, _):
        down = tunnel.down.transport
        down.write(bytes(380_000))
        again = Tunnel(down, tunnel.up.transport, 64 << 10, lambda: None)
        again.start(b"", b"")
        assert not again.up.transport.is_reading()
        left = 380_000
        while left:
            left -= len(await asyncio.get_running_loop().sock_recv(client, left))
        await eventually(again.up.transport.is_reading)
