"""The gateway's own part of a request: no sockets, no kernel, one process.

    python -m tests.bench.bench_edge [--requests 12800] [--rounds 7] [--instructions]

64 client connections and 64 upstream ones stand on transports that only keep the last bytes
written, so what is left is parsing, deciding and writing heads. Beside it, in turn, a bare proxy,
which is the least that this interpreter can do (`tests.support.bare`). `plain` sends one header
field, `browser` eight; `fresh` eight of which one differs every time, as does one of the answer's,
so that no head is ever recognised. Time is the best of the rounds. `--instructions` has valgrind
count instructions too, which a busy machine cannot disturb.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chassis.http.connection import Connection
from gateway import app
from gateway.edge.connection import EdgeConnection
from gateway.edge.limits import Limits
from gateway.settings import Settings
from tests.support.bare import Down, Up

CONNECTIONS = 64
COUNTED = 640
LIMITS = Limits(requests=10**9)
LINE = b"GET /v1/titles/tt0083658 HTTP/1.1\r\n"
HOST = b"Host: a.example\r\n"
BROWSER = (
    HOST + b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: application/json\r\nAccept-Language: en-GB,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\nReferer: https://a.example/\r\n"
    b"Connection: keep-alive\r\nCookie: theme=dark; seen=%d\r\n"
)
BODY = b'{"id":"tt0083658","title":"Blade Runner","year":1982,"minutes":117}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n"
    b"Content-Type: application/json\r\nETag: %%d\r\nContent-Length: %d\r\n\r\n%b"
) % (len(BODY), BODY)

Play = Callable[[int], None]
"""Plays that many requests."""


class Wire:
    """A transport that keeps the last bytes written and costs next to nothing."""

    def __init__(self, port: int) -> None:
        self.written: deque[bytes] = deque(maxlen=1)
        self.write = self.written.append
        self.is_closing = bool
        self.get_write_buffer_size = int
        self._port = port

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", self._port) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def abort(self) -> None: ...

    def close(self) -> None: ...


@dataclass
class Traffic:
    """Requests and their answers, time after time."""

    requests: Iterator[bytes]
    answers: Iterator[bytes]


def traffic(block: bytes, *, fresh: bool = False) -> Traffic:
    kinds = range(1_000, 5_000) if fresh else (1_000,)
    requests = [LINE + (block % kind if b"%" in block else block) + b"\r\n" for kind in kinds]
    return Traffic(itertools.cycle(requests), itertools.cycle([ANSWER % kind for kind in kinds]))


def bare(traffic: Traffic) -> Play:
    idle: list[Up] = []
    ups = [Up(idle) for _ in range(CONNECTIONS)]
    downs = [Down(idle) for _ in range(CONNECTIONS)]
    idle += ups
    for end in (*ups, *downs):
        end.connection_made(Wire(1))  # type: ignore[arg-type]

    def play(count: int) -> None:
        for _ in range(count // CONNECTIONS):
            for down in downs:
                down.data_received(next(traffic.requests))
            for up in ups:
                up.data_received(next(traffic.answers))

    return play


async def gateway(traffic: Traffic, folder: Path, stack: AsyncExitStack) -> Play:
    """One rule, no authentication, a static instance whose pool is full of connections."""
    folder.mkdir()  # nothing else runs
    rules = folder / "rules.yaml"
    rules.write_text(
        "clusters: {up: {instances: ['127.0.0.1:1']}}\nrules: [{name: a, forward: up}]"
    )
    worker = await app.build(Settings(rules=rules, home=folder, log_successes=0, limits=LIMITS))
    stack.push_async_callback(worker.close)
    await worker.live.start()
    worker.gateway.adopt(worker.live.snapshot)
    turn_end = worker.gateway.turn_end
    origin = worker.gateway.origins["up"]
    pool = origin.pool(origin.pick(0.0))
    pool._probe_s = math.inf  # there is no socket to ask
    downs = [EdgeConnection(worker.listener) for _ in range(CONNECTIONS)]
    for number, down in enumerate(downs):
        connection = Connection(pool._heads, turn_end)
        connection.connection_made(Wire(1))  # type: ignore[arg-type]
        pool.give(pool._own(connection))
        connection.uses_limit = sys.maxsize
        down.connection_made(Wire(1024 + number))  # type: ignore[arg-type]

    def play(count: int) -> None:
        """A request on each connection, then each one's answer, so that 64 are in flight."""
        for _ in range(count // CONNECTIONS):
            for down in downs:
                down.data_received(next(traffic.requests))
            turn_end._flush()
            for down in downs:
                link = down.exchange._connection  # type: ignore[union-attr]
                link.data_received(next(traffic.answers))
            turn_end._flush()

    play(CONNECTIONS)
    assert all(down.transport.written[-1].endswith(BODY) for down in downs)  # type: ignore[attr-defined]
    return play


async def plays(folder: Path, stack: AsyncExitStack) -> dict[str, Play]:
    return {
        "bare plain": bare(traffic(HOST)),
        "gateway plain": await gateway(traffic(HOST), folder / "plain", stack),
        "bare browser": bare(traffic(BROWSER)),
        "gateway browser": await gateway(traffic(BROWSER), folder / "browser", stack),
        "gateway fresh": await gateway(traffic(BROWSER, fresh=True), folder / "fresh", stack),
    }


async def timed(requests: int, rounds: int) -> dict[str, float]:
    """Microseconds a request, the best of the rounds."""
    best: dict[str, float] = {}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        known = await plays(folder, stack)
        for name in list(known) * rounds:
            started = time.process_time()
            known[name](requests)
            spent = (time.process_time() - started) / requests * 1e6
            best[name] = min(spent, best.get(name, spent))
    return best


async def under_valgrind(name: str) -> None:
    """Plays inside of the one C function that valgrind was told to count in; run by `counted`."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        play = (await plays(folder, stack))[name]
        play(COUNTED)
        deque[Any]().extend(map(play, [COUNTED]))


def counted(name: str) -> float:
    """Instructions a request, the interpreter's hash seed fixed."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", "--toggle-collect=deque_extend"]
        command += [f"--callgrind-out-file={folder}/out", sys.executable]
        command += ["-m", "tests.bench.bench_edge", "--count", name]
        environ = {**os.environ, "PYTHONHASHSEED": "0"}
        told = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    found = re.search(r"Collected : (\d+)", told.stderr)
    assert found is not None, told.stderr
    return int(found[1]) / COUNTED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=12_800)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--count", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.count:
        asyncio.run(under_valgrind(asked.count))
        return
    rows: list[dict[str, object]] = []
    for name, spent in asyncio.run(timed(asked.requests, asked.rounds)).items():
        row: dict[str, object] = {"path": name, "us": spent}
        if asked.instructions:
            row["instructions"] = counted(name)
        rows.append(row)
        told = f"{row.get('instructions', 0):>10.0f}" if asked.instructions else ""
        print(f"{name:<16}{spent:>8.2f} us{told}", file=sys.stderr)
    print(json.dumps({"bench": "edge", "rows": rows}))


if __name__ == "__main__":
    main()
