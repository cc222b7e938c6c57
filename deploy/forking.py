"""The supervisor's side of the zygote: orders children and hears when they end."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from chassis.errors import StagedoorError

OnExit = Callable[[int, int], None]
_START_S = 30.0


class Zygote:
    """`spawn` answers with the child's pid; `on_exit(pid, status)` hears each end."""

    def __init__(self, on_exit: OnExit) -> None:
        self._on_exit = on_exit
        self._ids = itertools.count()
        self._spawning: dict[int, asyncio.Future[int]] = {}
        self._ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self, output: Path) -> None:
        """Starts the process; returns when it has imported everything."""
        ours, theirs = socket.socketpair()
        environ = {**os.environ, "MALLOC_ARENA_MAX": "1", "PYTHONUNBUFFERED": "1"}
        with theirs, output.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "deploy.zygote",
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environ,
            )
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._reading = asyncio.ensure_future(self._read(reader))
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), _START_S)
        except TimeoutError:
            raise StagedoorError(f"the zygote did not start; see {output}") from None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    async def spawn(self, name: str, module: str, environ: Mapping[str, str], output: Path) -> int:
        """Forks a child that runs `module` as the service `name`; its pid."""
        if self._writer is None or not self._ready.done():
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
            if "ready" in message:
                self._ready.set_result(message["ready"])
            elif "spawned" in message:
                self._spawning.pop(message["spawned"]).set_result(int(message["pid"]))
            else:
                self._on_exit(message["exited"], message["status"])
        lost = StagedoorError("the zygote ended; see its log under log/")
        for waiting in (self._ready, *self._spawning.values()):
            if not waiting.done():
                waiting.set_exception(lost)

    async def close(self) -> None:
        """Ends the zygote; children that still run are told by the kernel to stop."""
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            await self._process.wait()
        if self._reading is not None:
            await self._reading
