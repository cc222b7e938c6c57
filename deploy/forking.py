"""The supervisor's side of the zygote: orders children and hears when they end."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from chassis.errors import StagedoorError

OnExit = Callable[[int, int], None]


class Zygote:
    """`spawn` answers with the child's pid; `on_exit(pid, status)` hears each end."""

    def __init__(self, channel: socket.socket, on_exit: OnExit) -> None:
        self._channel = channel
        self._on_exit = on_exit
        self._ids = itertools.count()
        self._spawning: dict[int, asyncio.Future[int]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        reader, self._writer = await asyncio.open_connection(sock=self._channel)
        self._reading = asyncio.ensure_future(self._read(reader))

    async def spawn(self, name: str, module: str, environ: Mapping[str, str], output: Path) -> int:
        """Forks a child that runs `module` as the service `name`; its pid."""
        if self._writer is None or self._writer.is_closing():
            raise StagedoorError("the zygote is not running")
        order = next(self._ids)
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._spawning[order] = answer
        message = {
            "id": order,
            "name": name,
            "module": module,
            "environ": dict(environ),
            "output": str(output),
        }
        self._writer.write(json.dumps(message).encode() + b"\n")
        return await answer

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = json.loads(line)
            if "spawned" in message:
                self._spawning.pop(message["spawned"]).set_result(int(message["pid"]))
            else:
                self._on_exit(message["exited"], message["status"])
        for waiting in self._spawning.values():
            if not waiting.done():
                waiting.set_exception(StagedoorError("the zygote ended"))

    async def close(self) -> None:
        """Lets the zygote go; children that still run are told by the kernel to stop."""
        if self._writer is not None:
            self._writer.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
