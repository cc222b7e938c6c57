"""A client that sends at a steady rate, whatever the answers do: latency as a crowd would see it.

    python -m tests.support.paced PORT RATE SECONDS     # prints seconds of the percentiles as JSON

Each request has its time; one that finds no connection free waits, and that is counted.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from typing import cast

import uvloop

CONNECTIONS = 64
REQUEST = b"GET /v1/titles/tt0083658 HTTP/1.1\r\nHost: a.example\r\n\r\n"
END = b"}"
"""The last byte of the small JSON answer, which has no other of its kind."""


class Client(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._crowd.free.append(self)

    def send(self, due: float) -> None:
        self._due = due
        self._transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        if data.endswith(END):
            self._crowd.lasted.append(time.perf_counter() - self._due)
            self._crowd.free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._crowd.free:
            self._crowd.free.remove(self)


class Crowd:
    """Who is free, who waits since when, and how long each has waited for its answer."""

    def __init__(self) -> None:
        self.free: deque[Client] = deque()
        self.lasted: list[float] = []

    async def send(self, rate: float, seconds: float) -> int:
        """Returns how many were due."""
        start, sent, count = time.perf_counter(), 0, int(rate * seconds)
        while sent < count:
            due = int((time.perf_counter() - start) * rate)
            while sent < min(due, count) and self.free:
                self.free.popleft().send(start + sent / rate)
                sent += 1
            await asyncio.sleep(0.0005)
        return count


async def play(port: int, rate: float, seconds: float) -> dict[str, float]:
    crowd = Crowd()
    loop = asyncio.get_running_loop()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: Client(crowd), "127.0.0.1", port)
    await crowd.send(rate, seconds / 4)  # warm
    await asyncio.sleep(0.1)
    crowd.lasted.clear()
    count = await crowd.send(rate, seconds)
    await asyncio.sleep(0.2)
    lasted = sorted(crowd.lasted)
    if len(lasted) < count:
        raise SystemExit(f"{count - len(lasted)} of {count} requests got no answer")
    return {"p50": lasted[len(lasted) // 2], "p99": lasted[len(lasted) * 99 // 100]}


if __name__ == "__main__":
    port, rate, seconds = sys.argv[1:]
    found = uvloop.run(play(int(port), float(rate), float(seconds)))
    sys.stdout.write(json.dumps(found))
