"""Clients that never stop asking and never ask twice: whatever goes wrong is counted.

Some keep their connections for as long as they may, others take a new one for each request. None
retries, so an answer lost by a restart is an error here.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

ANSWER_S = 10.0


class Steady:
    """What the clients of one address have seen. `statuses` counts answers, `errors` are told."""

    def __init__(self, host: str, port: int, requests: Sequence[bytes], pause_s: float) -> None:
        self._host = host
        self._port = port
        self._requests = requests
        self._pause_s = pause_s
        self._stopping = False
        self.statuses: Counter[int] = Counter()
        self.errors: list[str] = []
        self.connections = 0
        self.slowest_s = 0.0

    def __repr__(self) -> str:
        return (
            f"Steady({dict(self.statuses)}, {len(self.errors)} errors, "
            f"{self.connections} connections, slowest {self.slowest_s:.3f} s)"
        )

    def stop(self) -> None:
        self._stopping = True

    async def keep(self) -> None:
        """One client that keeps its connection until it is told to close it."""
        while not self._stopping:
            await self._session(only_one=False)

    async def renew(self) -> None:
        """One client that takes a new connection each time."""
        while not self._stopping:
            await self._session(only_one=True)
            await self._pause()

    async def _session(self, *, only_one: bool) -> None:
        step = "connecting"
        writer = None
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_connection(self._host, self._port)
            self.connections += 1
            served = 0
            while not self._stopping:
                step = f"request {served + 1} of a connection"
                if not await self._ask(reader, writer) or only_one:
                    return
                served += 1
                await self._pause()
        except (OSError, EOFError, TimeoutError, ValueError) as fault:
            self.errors.append(f"{step}: {fault!r}")
        finally:
            if writer is not None:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection may be used again."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        writer.write(random.choice(self._requests))
        async with asyncio.timeout(ANSWER_S):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
        self.statuses[int(head.split(b" ", 2)[1])] += 1
        self.slowest_s = max(self.slowest_s, loop.time() - began)
        return b"connection: close" not in head

    async def _pause(self) -> None:
        await asyncio.sleep(random.random() * self._pause_s)


@asynccontextmanager
async def steady(
    host: str,
    port: int,
    *requests: bytes,
    keeping: int = 16,
    renewing: int = 8,
    pause_s: float = 0.05,
) -> AsyncIterator[Steady]:
    """Clients that ask while this is entered, one of `requests` at a time."""
    clients = Steady(host, port, requests, pause_s)
    async with asyncio.TaskGroup() as group:
        for _ in range(keeping):
            group.create_task(clients.keep())
        for _ in range(renewing):
            group.create_task(clients.renew())
        try:
            yield clients
        finally:
            clients.stop()
