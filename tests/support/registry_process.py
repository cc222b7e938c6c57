"""The embedded registry in a process of its own: `python -m tests.support.registry_process FOLDER
PORT`. `EmbeddedServer` starts it and kills it, as `real.own("consul", …)` does with a Consul."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import httpx
import uvloop

from tests.support.ports import free_port
from tests.support.registry import serving


class EmbeddedServer:
    """Every method blocks until it is done."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"consul://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.support.registry_process"]
        self._process = subprocess.Popen([*command, str(self._folder), str(self._port)])
        self._wait_until_it_answers()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    stop = kill

    def _wait_until_it_answers(self) -> None:
        give_up = time.monotonic() + 20
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{self._port}/v1/status/leader").raise_for_status()
                return
            except httpx.HTTPError:
                assert self._process.poll() is None and time.monotonic() < give_up
                time.sleep(0.02)


async def serve(folder: Path, port: int) -> None:
    async with serving(folder, port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
