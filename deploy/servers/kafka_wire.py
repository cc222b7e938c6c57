"""The four questions the launcher asks a Kafka broker, in its wire protocol."""

from __future__ import annotations

import struct

from deploy.servers.server import Instance, NotReady
from deploy.servers.wire import Wire, connected

METADATA, FIND_COORDINATOR, HANDSHAKE, INIT_PRODUCER, AUTHENTICATE = 3, 10, 17, 22, 36
_NULL = struct.pack(">h", -1)


async def check(instance: Instance, brokers: int, password: str = "") -> None:
    """The broker knows all brokers, a group's coordinator, and lets an idempotent producer in."""
    async with connected(instance) as wire:
        if password:
            await _authenticate(wire, password)
        await _all_brokers(wire, brokers)
        await _no_error(wire, FIND_COORDINATOR, 2, text("stagedoor") + b"\0", "a coordinator")
        request = _NULL + struct.pack(">i", 60_000)
        await _no_error(wire, INIT_PRODUCER, 1, request, "an idempotent producer")


async def _all_brokers(wire: Wire, brokers: int) -> None:
    answer = await _ask(wire, METADATA, 5, struct.pack(">i?", 0, False))
    (known,) = struct.unpack_from(">i", answer, 4)
    if known < brokers:
        raise NotReady(f"it knows {known} of {brokers} brokers")


async def _no_error(wire: Wire, key: int, version: int, body: bytes, what: str) -> None:
    answer = await _ask(wire, key, version, body)
    (error,) = struct.unpack_from(">h", answer, 4)
    if error:
        raise NotReady(f"no {what} yet (error {error})")


async def _authenticate(wire: Wire, password: str) -> None:
    await _ask(wire, HANDSHAKE, 1, text("PLAIN"))
    token = f"\0stagedoor\0{password}".encode()
    answer = await _ask(wire, AUTHENTICATE, 0, struct.pack(">i", len(token)) + token)
    if struct.unpack_from(">h", answer)[0]:
        raise NotReady("it does not take our password")


async def _ask(wire: Wire, key: int, version: int, body: bytes) -> bytes:
    """The answer's body, after its correlation id."""
    head = struct.pack(">hhi", key, version, 1) + text("stagedoor")
    await wire.send(struct.pack(">i", len(head) + len(body)) + head + body)
    (size,) = struct.unpack(">i", await wire.exactly(4))
    return (await wire.exactly(size))[4:]


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">h", len(data)) + data
