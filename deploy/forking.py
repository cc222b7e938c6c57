"""The supervisor's side of the zygote: orders children and hears when they end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from chassis.errors import StagedoorError

UNKNOWN = -signal.SIGTERM
"""The status of a child whose zygote was gone before it: the kernel has told it to stop."""


class Child:
    """One forked process. `ended` gets its exit status, negative for a signal."""

    __slots__ = ("ended", "pid")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"Child({self.pid}, {'ended' if self.ended.done() else 'running'})"


class Zygote:
    """`spawn` answers with the child. Children are followed to their end, also when the zygote
    ends before them."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._ids = itertools.count()
        self._spawning: dict[int, asyncio.Future[Child]] = {}
        self._children: dict[int, Child] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Zygote({len(self._children)} children, lost={self.lost})"

    @property
    def lost(self) -> bool:
        """Whether it has ended, or nobody listens to it yet."""
        return self._reading is None or self._reading.done()

    async def start(self) -> None:
        """Begins to listen, unless it does already."""
        if self._reading is not None:
            return
        reader, self._writer = await asyncio.open_connection(sock=self._channel)
        self._reading = asyncio.ensure_future(self._read(reader))

    async def spawn(
        self,
        name: str,
        module: str,
        environ: Mapping[str, str],
        output: Path,
        hold: Sequence[str] = (),
    ) -> Child:
        """Forks a child that runs `module` as the service `name`. Its listening sockets at `hold`
        (host:port) are the same as those of other children with its STAGEDOOR_INSTANCE."""
        if self._writer is None or self.lost:
            raise StagedoorError("the zygote is not running")
        order = next(self._ids)
        answer: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._spawning[order] = answer
        message = {
            "id": order,
            "name": name,
            "module": module,
            "environ": dict(environ),
            "output": str(output),
            "hold": list(hold),
        }
        self._writer.write(json.dumps(message).encode() + b"\n")
        return await answer

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                self._hear(json.loads(line))
        self._lose()

    def _hear(self, message: Mapping[str, int]) -> None:
        if "exited" in message:
            self._children.pop(message["exited"]).ended.set_result(message["status"])
            return
        child = self._children[message["pid"]] = Child(message["pid"])
        answer = self._spawning.pop(message["spawned"])
        if not answer.done():
            answer.set_result(child)

    def _lose(self) -> None:
        for waiting in self._spawning.values():
            if not waiting.done():
                waiting.set_exception(StagedoorError("the zygote ended"))
        for child in self._children.values():
            _follow(child)
        self._spawning.clear()
        self._children.clear()

    async def close(self) -> None:
        """Lets the zygote go, which then ends what still runs."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()


def _follow(child: Child) -> None:
    """Hears of the end of a process that is not ours to wait for."""
    try:
        descriptor = os.pidfd_open(child.pid)
    except ProcessLookupError:
        child.ended.set_result(UNKNOWN)
        return
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        child.ended.set_result(UNKNOWN)

    loop.add_reader(descriptor, ended)
