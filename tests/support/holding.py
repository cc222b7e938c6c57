"""A crowd of clients in a process of its own, as each process has its own limit of open files.

```python
async with crowd(port, "127.0.0.2", "127.0.0.3") as clients:
    refused = await clients.hold(10_000)    # until so many connections are open and answered
    assert await clients.ask(100) == 100    # some of them ask again, and all are answered
```
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import resource
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUEST = b"GET /here HTTP/1.1\r\nHost: a.example\r\n\r\n"
ANSWER_S = 10.0
AT_ONCE = 100
"""Fewer than any accept queue holds."""
RESETS = struct.pack("ii", 1, 0)


class Crowd:
    """The clients of a process, as the test sees them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    async def hold(self, count: int) -> int:
        """Opens connections until `count` are held; returns how many were refused on the way."""
        return await self._tell("hold", count)

    async def ask(self, count: int) -> int:
        """Has `count` of them, evenly drawn, ask again; returns how many were answered."""
        return await self._tell("ask", count)

    async def _tell(self, what: str, count: int) -> int:
        return await asyncio.to_thread(self._exchange, f"{what} {count}")

    def _exchange(self, line: str) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        told = self._process.stdout.readline()
        assert told, "the crowd ended by itself"
        return int(told)


@asynccontextmanager
async def crowd(port: int, *sources: str) -> AsyncIterator[Crowd]:
    """Its connections come from these addresses in turn: each has ports for 28,000 of them."""
    process = _start(port, sources)
    try:
        yield Crowd(process)
    finally:
        process.kill()
        process.communicate()


def _start(port: int, sources: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.holding", str(port), *sources],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# -- in the process


class Clients:
    """Connections that have been answered, and stay open."""

    def __init__(self, port: int, sources: Sequence[str]) -> None:
        self._port = port
        self._sources: Iterator[str] = itertools.cycle(sources)
        self._held: list[socket.socket] = []

    def hold(self, count: int) -> int:
        refused = 0
        while (missing := count - len(self._held)) > 0:
            opened = [self._open() for _ in range(min(missing, AT_ONCE))]
            served = [one for one in opened if is_answered(one)]
            self._held += served
            refused += len(opened) - len(served)
        return refused

    def ask(self, count: int) -> int:
        asked = self._held[:: len(self._held) // count][:count]
        for one in asked:
            one.send(REQUEST)
        return sum(map(is_answered, asked))

    def _open(self) -> socket.socket:
        """Asks at once. It ends with a reset, so that its port is free again at once."""
        one = socket.socket()
        one.settimeout(ANSWER_S)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
        one.bind((next(self._sources), 0))
        one.connect(("127.0.0.1", self._port))
        with contextlib.suppress(ConnectionError):
            one.send(REQUEST)
        return one


def is_answered(one: socket.socket) -> bool:
    """Closes it unless it is."""
    with contextlib.suppress(ConnectionError):
        if one.recv(4096).startswith(b"HTTP/1.1 200"):
            return True
    one.close()
    return False


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    port, *sources = sys.argv[1:]
    clients = Clients(int(port), sources)
    does = {"hold": clients.hold, "ask": clients.ask}
    for line in sys.stdin:
        what, count = line.split()
        print(does[what](int(count)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
