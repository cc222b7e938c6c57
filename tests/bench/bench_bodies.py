"""Large bodies and a slow reader: what the gateway's memory does, and who hears that a client left.

    python -m tests.bench.bench_bodies [--mib 2048] [--seconds 60] [--rate 1.0] [--leaves 50]

One worker, as written, in a process of its own; the client and the instance are in this one, and as
fast as they can be. `up` and `down` carry one body of so many MiB. A `slow reader` takes `rate` MiB
a second of an answer without end, for so many seconds: `held` is the share of that time for which
the instance was not allowed to write, `ahead_mb` how much it had written, at most, that the client
had not read, most of which is in the kernel's buffers. Memory is the worker's: resident before and
after, and the most in between, which the kernel notes.

Then clients leave in the middle, one after the other: milliseconds until the instance, in the same
loop, knows. They close while they wait for an answer, upload, download, or do not read an answer
(`unread`). Those whose upload the instance does not take (`stuck`) reset: what closes in order
behind bytes that nobody takes is not told of by TCP. After one that is not seen to leave within two
seconds there is no other of its kind.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import uvloop

from gateway.edge.leaving import has_left
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.gateways import fields_of, one_rule
from tests.support.scripted import OK, eventually

MIB = 1 << 20
PIECE = bytes(MIB)
ENDLESS = 1 << 40
WINDOW = 64 << 10
TURNS_A_SECOND = 20
SEEN_S = 2.0
MOVED_BAR, LEFT_BAR = 10.0, 100.0
RESETS = struct.pack("ii", 1, 0)

Row = dict[str, Any]


# -- the instance


class Link(asyncio.Protocol):
    """One connection of the instance. It takes bodies, but not /stuck; sends /down; lets /wait
    wait; and answers everything else."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._head = b""
        self._body = 0
        self._size = 0
        self._since = 0.0
        self._held_s = 0.0
        self.sent = 0
        self.received = 0
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(WINDOW)

    def data_received(self, data: bytes) -> None:
        if self._body:
            self._take(data)
            return
        self._head += data
        head, end, body = self._head.partition(b"\r\n\r\n")
        if end:
            self._head = b""
            self._begin(head + end, body)

    def _begin(self, head: bytes, body: bytes) -> None:
        self._instance.asked.append(self)
        self.received = self.sent = 0
        self._body = int(fields_of(head).get(b"content-length", b"0"))
        path = head.split(b" ")[1]
        if path == b"/stuck":
            self._transport.pause_reading()
        elif path.startswith(b"/down/"):
            self._size = int(path[6:])
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self._size)
            self._send()
        elif path != b"/wait":
            self._take(body)

    def _take(self, body: bytes) -> None:
        self.received += len(body)
        self._body -= len(body)
        if not self._body:
            self._transport.write(OK)

    def _send(self) -> None:
        while self.sent < self._size and not (self._since or self._transport.is_closing()):
            piece = PIECE[: min(WINDOW, self._size - self.sent)]
            self.sent += len(piece)
            self._transport.write(piece)

    def pause_writing(self) -> None:
        self._since = time.monotonic()

    def resume_writing(self) -> None:
        self._held_s = self.held_s()
        self._since = 0.0
        self._send()

    def held_s(self) -> float:
        """For how long it was not allowed to write, up to now."""
        return self._held_s + (time.monotonic() - self._since if self._since else 0.0)

    def connection_lost(self, failure: Exception | None) -> None:
        self._lost = True

    def is_told(self) -> bool:
        """Whether it knows that the other side has left; while it does not read, it asks."""
        return self._lost or has_left(self._transport.get_extra_info("socket"))

    def abort(self) -> None:
        self._transport.abort()


class Instance:
    """`asked` are the connections that requests came to, the latest last."""

    def __init__(self) -> None:
        self.asked: list[Link] = []

    def link(self) -> Link:
        return Link(self)


@asynccontextmanager
async def through(folder: Path) -> AsyncIterator[tuple[Instance, GatewayProcess]]:
    instance = Instance()
    server = await asyncio.get_running_loop().create_server(instance.link, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, gateway_process(folder, one_rule(port)) as gateway:
        yield instance, gateway


# -- the client


class Client:
    """One connection, which reads no more than it is told to."""

    def __init__(self, instance: Instance, port: int) -> None:
        self._instance = instance
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._into = bytearray(MIB)

    async def __aenter__(self) -> Client:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
        await self._loop.sock_connect(self.socket, ("127.0.0.1", self._port))
        return self

    async def __aexit__(self, *failure: object) -> None:
        self.socket.close()

    async def ask(self, method: str, path: str, body: int = 0) -> Link:
        """Sends a head; returns the instance's connection that it has come to."""
        before = len(self._instance.asked)
        head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {body}\r\n\r\n"
        await self.send(head.encode())
        await eventually(lambda: len(self._instance.asked) > before)
        return self._instance.asked[-1]

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.socket, data)

    async def fill(self) -> None:
        """Sends until nobody takes any more for a while."""
        while True:
            try:
                async with asyncio.timeout(0.2):
                    await self.send(PIECE)
            except TimeoutError:
                return

    async def take(self, size: int) -> None:
        while size:
            got = await self._loop.sock_recv_into(self.socket, memoryview(self._into)[:size])
            assert got, "the gateway ended the connection"
            size -= got

    async def head(self) -> None:
        """Of an answer, byte by byte, so that nothing behind it is taken."""
        told = b""
        while not told.endswith(b"\r\n\r\n"):
            told += await self._loop.sock_recv(self.socket, 1)
        assert told.startswith(b"HTTP/1.1 200"), told

    def leave(self, *, reset: bool) -> float:
        """When it did."""
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
        left = time.monotonic()
        self.socket.close()
        return left


# -- memory


async def up(client: Client, mib: int) -> Row:
    link = await client.ask("POST", "/up", mib * MIB)
    for _ in range(mib):
        await client.send(PIECE)
    await client.head()
    assert link.received == mib * MIB
    return {"mib": mib}


async def down(client: Client, mib: int) -> Row:
    await client.ask("GET", f"/down/{mib * MIB}")
    await client.head()
    await client.take(mib * MIB)
    return {"mib": mib}


async def slowly(client: Client, seconds: float, rate: float) -> Row:
    link = await client.ask("GET", f"/down/{ENDLESS}")
    await client.head()
    began, held = time.monotonic(), link.held_s()
    taken = ahead = 0
    while (spent := time.monotonic() - began) < seconds:
        await client.take(int(rate * MIB / TURNS_A_SECOND))
        taken += int(rate * MIB / TURNS_A_SECOND)
        ahead = max(ahead, link.sent - taken)
        await asyncio.sleep(began + taken / (rate * MIB) - time.monotonic())
    share = (link.held_s() - held) / spent
    return {"mib": taken / MIB, "held": round(share, 4), "ahead_mb": ahead / MIB}


async def watched(path: str, gateway: GatewayProcess, carried: Awaitable[Row]) -> Row:
    before = gateway.resident()
    gateway.forget_peak()
    began = time.monotonic()
    carried_row = await carried
    spent = time.monotonic() - began
    most, after = gateway.peak(), gateway.resident()
    return {
        "path": path,
        "seconds": spent,
        "rss_before_mb": before / MIB,
        "rss_peak_mb": most / MIB,
        "rss_after_mb": after / MIB,
        "moved_mb": (most - before) / MIB,
        **carried_row,
    }


async def bodies(instance: Instance, gateway: GatewayProcess, asked: Asked) -> list[Row]:
    carried: dict[str, Callable[[Client], Awaitable[Row]]] = {
        "up": lambda client: up(client, asked.mib),
        "down": lambda client: down(client, asked.mib),
        "slow reader": lambda client: slowly(client, asked.seconds, asked.rate),
    }
    rows: list[Row] = []
    for path, carry in carried.items():
        async with Client(instance, gateway.port) as client:
            rows.append(await watched(path, gateway, carry(client)))
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


# -- leaving


async def waits(client: Client) -> Link:
    return await client.ask("GET", "/wait")


async def uploads(client: Client) -> Link:
    link = await client.ask("POST", "/up", ENDLESS)
    await client.send(PIECE)
    await eventually(lambda: link.received == MIB)
    return link


async def downloads(client: Client) -> Link:
    link = await client.ask("GET", f"/down/{ENDLESS}")
    await client.take(16 * MIB)
    return link


async def unread(client: Client) -> Link:
    """Everything on the way is full."""
    link = await client.ask("GET", f"/down/{ENDLESS}")
    sent = -1
    while sent != link.sent:
        sent = link.sent
        await asyncio.sleep(0.05)
    return link


async def stuck(client: Client) -> Link:
    link = await client.ask("POST", "/stuck", ENDLESS)
    await client.fill()
    return link


LEAVING = {
    "waits": waits,
    "uploads": uploads,
    "downloads": downloads,
    "unread": unread,
    "stuck": stuck,
}


async def left(name: str, instance: Instance, port: int) -> float | None:
    """Milliseconds until the instance knows; None when it does not within `SEEN_S`."""
    async with Client(instance, port) as client:
        link = await LEAVING[name](client)
        at = client.leave(reset=name == "stuck")
        with contextlib.suppress(TimeoutError):
            await eventually(link.is_told, SEEN_S)
            return (time.monotonic() - at) * 1000
    link.abort()
    return None


async def leaves(instance: Instance, port: int, times: int) -> list[Row]:
    rows: list[Row] = []
    for name in LEAVING:
        told = [await left(name, instance, port)]
        while len(told) < times and told[-1] is not None:
            told.append(await left(name, instance, port))
        seen = [took for took in told if took is not None]
        row: Row = {"leaves": name, "times": len(told), "seen": len(seen)}
        if seen:
            row |= {"p50_ms": statistics.median(seen), "most_ms": max(seen)}
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    return rows


# -- all of it


@dataclass(frozen=True, slots=True)
class Asked:
    """`rate` is MiB a second."""

    mib: int
    seconds: float
    rate: float
    leaves: int


async def measure(asked: Asked) -> Row:
    with tempfile.TemporaryDirectory(prefix="stagedoor-bench-") as folder:
        async with through(Path(folder)) as (instance, gateway):
            async with Client(instance, gateway.port) as client:
                await client.ask("GET", "/")
                await client.head()
            rows = await bodies(instance, gateway, asked)
            leaving = await leaves(instance, gateway.port, asked.leaves)
    return {"rows": rows, "leaving": leaving}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--leaves", type=int, default=50)
    found = uvloop.run(measure(Asked(**vars(parser.parse_args()))))
    kept = {
        "moved": all(row["moved_mb"] < MOVED_BAR for row in found["rows"]),
        "left": {row["leaves"]: _kept(row) for row in found["leaving"]},
    }
    bars = {"moved_mb": MOVED_BAR, "left_ms": LEFT_BAR}
    told = {"bench": "bodies", **found, "bars": bars, "kept": kept}
    print(json.dumps(told))


def _kept(row: Row) -> bool:
    return bool(row["seen"] == row["times"] and row["most_ms"] < LEFT_BAR)


if __name__ == "__main__":
    main()
