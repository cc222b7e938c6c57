"""CPU a request of each face of the upstream client, beside stock httpx.

    python -m tests.bench.bench_http_client [requests]

One small JSON answer over kept connections from a raw server in a process of its own; what is
measured is the CPU time of this process only, uvloop, in microseconds a request. `connection` is
what the gateway pays: no task and no future. Machines differ: compare the rows of one run.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import platform
import sys
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection as Pipe

import httpx
import uvloop

from chassis.errors import OriginFailure
from chassis.http.client import Client
from chassis.http.connection import Connection
from chassis.http.framing import Headers
from chassis.http.pool import Address, Pool
from chassis.http.transport import Transport

BODY = b'{"id":"tt0111161","title":"The Shawshank Redemption","year":1994,"genres":["Drama"]}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nserver: raw\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
    b"content-type: application/json\r\nvary: accept\r\nx-request-id: 0123456789abcdef\r\n"
    b"content-length: %d\r\n\r\n" % len(BODY)
) + BODY
HEAD = (
    b"GET /v1/titles/tt0111161 HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: application/json\r\n"
    b"user-agent: bench\r\nx-request-id: 0123456789abcdef\r\n\r\n"
)
CONCURRENCY = 64


class RawServer(asyncio.Protocol):
    """Answers each read with one answer; enough for a client that never pipelines."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert hasattr(transport, "write")
        self.write: Callable[[bytes], None] = transport.write

    def data_received(self, data: bytes) -> None:
        self.write(ANSWER)


def serve(pipe: Pipe) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(RawServer, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await loop.run_in_executor(None, pipe.poll, None)
        server.close()

    uvloop.run(run())


class Loop:
    """One connection asking again as soon as it is answered, by callbacks alone."""

    def __init__(self, pool: Pool, requests: int) -> None:
        self.pool = pool
        self.left = requests
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.connection: Connection

    async def run(self) -> None:
        self.ask(await self.pool.connect())
        await self.done

    def ask(self, connection: Connection) -> None:
        self.connection = connection
        connection.start(self, HEAD, method=b"GET")

    def on_interim(self, status: int, headers: Headers) -> None: ...

    def on_head(self, status: int, reason: bytes, headers: Headers) -> None: ...

    def on_data(self, data: bytes) -> None: ...

    def on_writable(self) -> None: ...

    def on_failure(self, failure: OriginFailure) -> None:
        self.done.set_exception(failure)

    def on_end(self, trailers: Headers) -> None:
        self.pool.give(self.connection)
        self.left -= 1
        connection = self.pool.take() if self.left else None
        if connection is not None:
            self.ask(connection)
        else:
            self.done.set_result(None)


async def by_connection(port: int, requests: int) -> float:
    pool = Pool(Address("127.0.0.1", port))
    loops = [Loop(pool, requests // CONCURRENCY) for _ in range(CONCURRENCY)]
    used = await cpu(lambda: asyncio.gather(*(loop.run() for loop in loops)))
    await pool.close()
    return used / requests


async def by_client(port: int, requests: int) -> float:
    client = Client()
    url = f"http://127.0.0.1:{port}/v1/titles/tt0111161"
    headers = [(b"accept", b"application/json"), (b"user-agent", b"bench")]
    used = await workers(requests, lambda: client.request("GET", url, headers=headers))
    await client.close()
    return used


async def by_httpx(port: int, requests: int, transport: httpx.AsyncBaseTransport) -> float:
    url = f"http://127.0.0.1:{port}/v1/titles/tt0111161"
    async with httpx.AsyncClient(transport=transport, timeout=5) as client:
        return await workers(requests, lambda: client.get(url))


async def workers(requests: int, ask: Callable[[], Awaitable[object]]) -> float:
    async def work() -> None:
        for _ in range(requests // CONCURRENCY):
            await ask()

    return await cpu(lambda: asyncio.gather(*(work() for _ in range(CONCURRENCY)))) / requests


async def cpu(work: Callable[[], Awaitable[object]]) -> float:
    begun = time.process_time()
    await work()
    return time.process_time() - begun


async def measure(port: int, requests: int) -> dict[str, float]:
    few = max(CONCURRENCY, requests // 10 // CONCURRENCY * CONCURRENCY)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    stock = httpx.AsyncHTTPTransport(limits=limits)
    await by_connection(port, few)
    return {
        "connection": await by_connection(port, requests),
        "client": await by_client(port, requests),
        "httpx over our transport": await by_httpx(port, few, Transport()),
        "stock httpx": await by_httpx(port, few, stock),
    }


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 16_000
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    used = uvloop.run(measure(ours.recv(), requests // CONCURRENCY * CONCURRENCY))
    ours.send(None)
    server.join(5)
    report = {
        "bench": "http_client",
        "python": platform.python_version(),
        "concurrency": CONCURRENCY,
        "cpu_us_per_request": {name: round(value * 1e6, 1) for name, value in used.items()},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
