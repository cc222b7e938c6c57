"""A CQL client of one connection and one statement at a time, for probes."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deploy.servers.server import Instance, NotReady
from deploy.servers.wire import Wire, connected

VERSION = 4
ERROR, STARTUP, READY, AUTHENTICATE, QUERY, RESULT = 0, 1, 2, 3, 7, 8
AUTH_RESPONSE, AUTH_SUCCESS = 15, 16
ROWS, GLOBAL_TABLE = 2, 1


class Session:
    """Knows result columns of simple types only."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def start(self, user: str, password: str) -> None:
        options = struct.pack(">h", 1) + _text("CQL_VERSION") + _text("3.0.0")
        opcode, _ = await self._ask(STARTUP, options)
        if opcode == AUTHENTICATE:
            token = f"\0{user}\0{password}".encode()
            await self._ask(AUTH_RESPONSE, struct.pack(">i", len(token)) + token)

    async def query(self, statement: str, *, replicas: int = 1) -> list[list[bytes | None]]:
        """The rows, each column as it came; nothing for a statement without rows. So many
        replicas have to answer, 1 to 3."""
        text = statement.encode()
        end = struct.pack(">hB", replicas, 0)
        _, body = await self._ask(QUERY, struct.pack(">i", len(text)) + text + end)
        return rows(body)

    async def _ask(self, opcode: int, body: bytes) -> tuple[int, bytes]:
        await self._wire.send(struct.pack(">BBhBi", VERSION, 0, 0, opcode, len(body)) + body)
        head = await self._wire.exactly(9)
        _, _, _, answered, size = struct.unpack(">BBhBi", head)
        answer = await self._wire.exactly(size)
        if answered == ERROR:
            (length,) = struct.unpack_from(">h", answer, 4)
            raise NotReady(answer[6 : 6 + length].decode(errors="replace"))
        return answered, answer


@asynccontextmanager
async def session(
    instance: Instance, user: str = "cassandra", password: str = "cassandra"
) -> AsyncIterator[Session]:
    """A session with one instance; user and password are used only if it asks for them."""
    async with connected(instance) as wire:
        opened = Session(wire)
        await opened.start(user, password)
        yield opened


def rows(body: bytes) -> list[list[bytes | None]]:
    """The rows in a result's body."""
    if struct.unpack_from(">i", body)[0] != ROWS:
        return []
    flags, columns = struct.unpack_from(">ii", body, 4)
    at = 12
    if flags & GLOBAL_TABLE:
        at = _after_text(body, _after_text(body, at))
    for _ in range(columns):
        if not flags & GLOBAL_TABLE:
            at = _after_text(body, _after_text(body, at))
        at = _after_text(body, at) + 2
    (count,) = struct.unpack_from(">i", body, at)
    at += 4
    found = []
    for _ in range(count):
        row: list[bytes | None] = []
        for _ in range(columns):
            (size,) = struct.unpack_from(">i", body, at)
            at += 4
            row.append(body[at : at + size] if size >= 0 else None)
            at += max(size, 0)
        found.append(row)
    return found


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">h", len(data)) + data


def _after_text(body: bytes, at: int) -> int:
    return int(at + 2 + struct.unpack_from(">h", body, at)[0])
