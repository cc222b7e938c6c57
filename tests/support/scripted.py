"""A scripted raw peer: plays bytes, pauses, resets and closes, and records what it received.

```python
async with Scripted([Reads(b"\\r\\n\\r\\n"), Sends(OK), Resets()]) as peer:
    ...                                     # peer.host, peer.port
assert peer.connections[0].received == b"GET / HTTP/1.1\\r\\n..."
```

Each accepted connection plays the next script; the last script serves all later ones. A script
is a list of steps; when it ends the connection stays open and keeps recording.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from tests.support.listening import Listening


class Step(Protocol):
    """One thing a scripted connection does."""

    async def play(self, link: Link) -> None: ...


class Link(asyncio.Protocol):
    """One accepted connection and what came over it."""

    def __init__(self, peer: Scripted, steps: Sequence[Step]) -> None:
        self.peer = peer
        self.steps = steps
        self.received = bytearray()
        self.consumed = 0
        self.ended = False
        self.lost = asyncio.Event()
        self.transport: asyncio.Transport | None = None
        self.task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.peer.connections.append(self)
        self.task = asyncio.get_running_loop().create_task(self._play())

    async def _play(self) -> None:
        for step in self.steps:
            await step.play(self)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._changed.set()

    def eof_received(self) -> bool:
        self.ended = True
        self._changed.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self._changed.set()
        self._writable.set()
        self.lost.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until `condition` holds or the other side ended."""
        while not condition() and not self.ended:
            self._changed.clear()
            await self._changed.wait()

    async def write(self, data: bytes) -> None:
        assert self.transport is not None
        if self.transport.is_closing():
            return
        self.transport.write(data)
        await self._writable.wait()


@dataclass(frozen=True)
class Reads:
    """Waits until `mark` comes, after what earlier steps have read."""

    mark: bytes = b"\r\n\r\n"

    async def play(self, link: Link) -> None:
        await link.until(lambda: self.mark in link.received[link.consumed :])
        found = link.received.find(self.mark, link.consumed)
        link.consumed = len(link.received) if found < 0 else found + len(self.mark)


@dataclass(frozen=True)
class Sends:
    """Writes `data`; with `by`, in pieces of that many bytes, each in a segment of its own."""

    data: bytes
    by: int = 0

    async def play(self, link: Link) -> None:
        size = self.by or len(self.data) or 1
        for start in range(0, len(self.data), size):
            await link.write(self.data[start : start + size])
            await asyncio.sleep(0)


@dataclass(frozen=True)
class Floods:
    """Writes `piece` until `total` bytes are written, as fast as the other side reads."""

    total: int
    piece: bytes = b"x" * 65536

    async def play(self, link: Link) -> None:
        left = self.total
        while left > 0 and not link.ended:
            await link.write(self.piece[:left])
            left -= len(self.piece)


@dataclass(frozen=True)
class Holds:
    """Waits until the test sets `go`: a pause that no clock decides."""

    go: asyncio.Event

    async def play(self, link: Link) -> None:
        await self.go.wait()


@dataclass(frozen=True)
class StopsReading:
    """Reads no more, so that the other side's writes fill up."""

    async def play(self, link: Link) -> None:
        assert link.transport is not None
        link.transport.pause_reading()


@dataclass(frozen=True)
class ReadsAgain:
    """Undoes StopsReading."""

    async def play(self, link: Link) -> None:
        assert link.transport is not None
        link.transport.resume_reading()


@dataclass(frozen=True)
class Closes:
    """Ends the connection in order (FIN)."""

    async def play(self, link: Link) -> None:
        assert link.transport is not None
        link.transport.close()


@dataclass(frozen=True)
class Resets:
    """Ends the connection by force (RST)."""

    async def play(self, link: Link) -> None:
        assert link.transport is not None
        raw: socket.socket = link.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        link.transport.abort()


@dataclass(frozen=True)
class Repeats:
    """Plays `steps` over and over until the other side ends."""

    steps: Sequence[Step]

    async def play(self, link: Link) -> None:
        while not link.ended:
            for step in self.steps:
                await step.play(link)
            await asyncio.sleep(0)


class Scripted(Listening):
    """The peer itself."""

    def __init__(self, *scripts: Sequence[Step], tls: ssl.SSLContext | None = None) -> None:
        self.scripts: list[Sequence[Step]] = list(scripts) or [[]]
        self.tls = tls
        self.connections: list[Link] = []
        self._accepted = 0

    def _accept(self) -> Link:
        steps = self.scripts[min(self._accepted, len(self.scripts) - 1)]
        self._accepted += 1
        return Link(self, steps)

    @property
    def received(self) -> bytes:
        """Everything received, over all connections in the order of their acceptance."""
        return b"".join(bytes(link.received) for link in self.connections)

    async def _listen(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(self._accept, self.host, 0, ssl=self.tls)

    async def _hang_up(self, failure: BaseException | None) -> None:
        for link in self.connections:
            assert link.task is not None and link.transport is not None
            link.task.cancel()
            link.transport.abort()
        tasks = [link.task for link in self.connections if link.task is not None]
        done = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(link.lost.wait() for link in self.connections))
        faults = [f for f in done if isinstance(f, Exception)]
        if faults and failure is None:
            raise faults[0]


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answers(response: bytes = OK) -> list[Step]:
    """A script that answers every bodyless request on the connection with `response`."""
    return [Repeats([Reads(), Sends(response)])]


async def eventually(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    """Waits for `condition`, looking at it again and again; fails after `within_s`."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  # conditions of code under test, which sets no event
            await asyncio.sleep(0.001)
