"""The least that a probe needs of a connection: send, read exactly, give up in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from deploy.servers.server import Instance, NotReady

PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Wire:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def exactly(self, size: int) -> bytes:
        return await self.reader.readexactly(size)

    async def line(self) -> bytes:
        return (await self.reader.readline()).rstrip(b"\r\n")


@asynccontextmanager
async def connected(instance: Instance) -> AsyncIterator[Wire]:
    """A connection for one probe. `NotReady` when it is closed, or silent for too long."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection(instance.address, instance.port)
            try:
                yield Wire(reader, writer)
            finally:
                writer.close()
    except TimeoutError:
        raise NotReady(f"no answer within {PATIENCE_S:.0f} s") from None
    except asyncio.IncompleteReadError:
        raise NotReady("it closed the connection") from None
