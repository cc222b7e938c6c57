"""One gateway under mixed traffic for a long time, its rules changed every minute.

    python -m tests.bench.bench_soak [--seconds 1800] [--reload 60]

Half an hour unless told otherwise, by `--seconds` or by SOAK_SECONDS (`make bench BENCH=soak
SOAK_SECONDS=7200`). Small answers over kept and over new connections, bodies of 1 MB both ways,
event streams, WebSockets, clients that leave in the middle, and requests that are refused. Every
reload changes a rule that none of them goes by. Memory and descriptors of the gateway are read once
a second; the slope is that of the last two thirds, by least squares. Whatever goes wrong that was
not meant to is counted, and told on standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from tests.support.ports import free_port
from tests.support.steady import steady

MIB = 1 << 20
SMALL = b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n"
REFUSED = b"GET /small HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"
RULES = """\
clusters:
  http: {{instances: ["127.0.0.1:{http}"], connect_timeout_s: 5}}
  chat: {{instances: ["127.0.0.1:{chat}"], connect_timeout_s: 5}}
rules:
  - {{name: chat, match: {{path_prefix: /chat}}, forward: chat}}
  - {{name: version, match: {{path: /version}}, reply: {{status: 200, body: "{version}"}}}}
  - {{name: rest, forward: http}}
"""
_GATEWAY = """\
import sys
from pathlib import Path
from gateway.app import run
from gateway.settings import Settings
run(Settings(rules=Path(sys.argv[1]), listen=sys.argv[2], home=Path(sys.argv[3]), log_successes=0))
"""


# -- what it asks


async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Small answers, long ones, events; takes any body."""
    with contextlib.suppress(OSError, EOFError, RuntimeError):  # uvloop's word for a closed one
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            if length:
                await reader.readexactly(int(length))
            if b"/events" in head:
                await events(writer)
            else:
                size = MIB if b"/long" in head else 64
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
                await writer.drain()
    writer.close()


async def events(writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    for _ in range(20):
        writer.write(b"9\r\ndata: 1\n\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)
    writer.write(b"0\r\n\r\n")


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


# -- who asks


class Clients:
    """Everybody but the steady ones. `done` counts what came to its end, by kind."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.done: Counter[str] = Counter()
        self.errors: list[str] = []
        self.stopping = False

    async def repeat(self, kind: str, once: Callable[[], Awaitable[None]]) -> None:
        while not self.stopping:
            try:
                async with asyncio.timeout(30):
                    await once()
                self.done[kind] += 1
            except Exception as fault:  # whatever it is, it is told
                self.errors.append(f"{kind}: {fault!r}")
            await asyncio.sleep(random.random() * 0.2)

    async def ask(self, request: bytes) -> bytes:
        """Everything up to the end of the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            return await reader.read()
        finally:
            writer.close()

    async def long(self) -> None:
        got = await self.ask(b"GET /long HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert len(got) > MIB and got.startswith(b"HTTP/1.1 200")

    async def upload(self) -> None:
        head = b"POST /small HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        assert (await self.ask(head % MIB + b"x" * MIB)).startswith(b"HTTP/1.1 200")

    async def events(self) -> None:
        got = await self.ask(b"GET /events HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert got.count(b"data: 1") == 20 and got.endswith(b"0\r\n\r\n")

    async def refused(self) -> None:
        assert (await self.ask(REFUSED)).startswith(b"HTTP/1.1 400")

    async def leaves(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(random.choice([b"GET /long", b"GET /events"]) + SMALL[10:])
        await reader.read(1000)
        writer.transport.abort()

    async def talks(self) -> None:
        url = f"ws://127.0.0.1:{self.port}/chat"
        async with connect(url, proxy=None, max_size=None, compression=None) as chat:
            for _ in range(50):
                message = b"x" * random.randrange(20_000)
                await chat.send(message)
                assert await chat.recv() == message
                await asyncio.sleep(0.02)


# -- what is watched


class Watched:
    """Memory and descriptors of a process, once a second."""

    def __init__(self, pid: int) -> None:
        self.folder = Path(f"/proc/{pid}")
        self.samples: list[tuple[float, int, int]] = []

    async def watch(self) -> None:
        began = time.monotonic()
        while True:
            pages = int((self.folder / "statm").read_text(encoding="utf-8").split()[1])
            memory = pages * os.sysconf("SC_PAGE_SIZE")
            files = len(list((self.folder / "fd").iterdir()))
            self.samples.append((time.monotonic() - began, memory, files))
            await asyncio.sleep(1)

    def settled(self) -> list[tuple[float, int, int]]:
        return self.samples[len(self.samples) // 3 :]


def slope(points: list[tuple[float, float]]) -> float:
    """By least squares."""
    count = len(points)
    if count < 2:
        return 0.0
    x0, y0 = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - x0) ** 2 for x, _ in points)
    return sum((x - x0) * (y - y0) for x, y in points) / spread


async def reload(file: Path, ports: dict[str, int], every_s: float, counted: Counter[str]) -> None:
    while True:
        await asyncio.sleep(every_s)
        counted["reloads"] += 1
        file.write_text(RULES.format(version=counted["reloads"], **ports))


async def soak(seconds: float, reload_s: float, folder: Path) -> dict[str, Any]:
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(await asyncio.start_server(upstream, "127.0.0.1", 0))
        chat = await stack.enter_async_context(serve(echo, "127.0.0.1", 0, max_size=None))
        ports = {
            "http": http.sockets[0].getsockname()[1],
            "chat": next(iter(chat.sockets)).getsockname()[1],
        }
        rules, port = folder / "rules.yaml", free_port()
        rules.write_text(RULES.format(version=0, **ports))
        gateway = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _GATEWAY, str(rules), f"127.0.0.1:{port}", str(folder / "home"))
        )
        try:
            await answering(port)
            counted: Counter[str] = Counter()
            reloading = reload(rules, ports, reload_s, counted)
            return await under_traffic(gateway.pid, port, seconds, reloading, counted)
        finally:
            gateway.send_signal(signal.SIGTERM)
            await gateway.wait()


async def answering(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)


async def under_traffic(
    pid: int, port: int, seconds: float, reloading: Any, counted: Counter[str]
) -> dict[str, Any]:
    watched, clients = Watched(pid), Clients(port)
    beside = [asyncio.ensure_future(work) for work in (watched.watch(), reloading)]
    kinds = (clients.long, clients.upload, clients.events, clients.refused, clients.leaves)
    asking = [
        asyncio.ensure_future(clients.repeat(once.__name__, once))
        for once in (*kinds, clients.talks)
        for _ in range(3)
    ]
    async with steady("127.0.0.1", port, SMALL) as kept:
        for minute in range(max(1, round(seconds / 60))):
            await asyncio.sleep(min(60.0, seconds))
            now = watched.samples[-1]
            print(
                f"{minute + 1} min: {now[1] / MIB:.1f} MB, {now[2]} files, {kept}, {clients.done}",
                file=sys.stderr,
                flush=True,
            )
    clients.stopping = True
    await asyncio.gather(*asking)
    for task in beside:
        task.cancel()
    await asyncio.gather(*beside, return_exceptions=True)
    return told(watched, clients, kept.statuses, kept.errors, counted)


def told(
    watched: Watched,
    clients: Clients,
    statuses: Counter[int],
    errors: list[str],
    counted: Counter[str],
) -> dict[str, Any]:
    for error in (*errors, *clients.errors)[:20]:
        print(error, file=sys.stderr)
    settled = watched.settled()
    memory = [(at / 60, size / 1024) for at, size, _ in settled]
    files = [(at / 60, float(count)) for at, _, count in settled]
    return {
        "seconds": round(watched.samples[-1][0]),
        "reloads": counted["reloads"],
        "answers": sum(statuses.values()) + sum(clients.done.values()),
        "errors": len(errors) + len(clients.errors) + sum(statuses.values()) - statuses[200],
        "memory_start_mb": round(settled[0][1] / MIB, 1),
        "memory_end_mb": round(settled[-1][1] / MIB, 1),
        "memory_slope_kb_a_minute": round(slope(memory), 1),
        "files_start": settled[0][2],
        "files_end": settled[-1][2],
        "files_slope_a_minute": round(slope(files), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = float(os.environ.get("SOAK_SECONDS", "1800"))
    parser.add_argument("--seconds", type=float, default=default)
    parser.add_argument("--reload", type=float, default=60.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stagedoor-bench-") as folder:
        row = uvloop.run(soak(asked.seconds, asked.reload, Path(folder)))
    print(json.dumps({"bench": "soak", "rows": [row]}))


if __name__ == "__main__":
    main()
