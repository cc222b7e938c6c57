"""Server-sent events, long answers and slow readers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chassis.clock import ManualClock
from tests.gateway.streams.test_websocket import metrics, stands_still
from tests.support.gateways import GET, Raw, one_rule, running
from tests.support.scripted import (
    OK,
    Floods,
    Holds,
    Reads,
    Repeats,
    Scripted,
    Sends,
    Step,
    eventually,
)
from tests.support.zygotes import ROOT

HEARS_S = 1.0
"""The promise is a tenth of a second; busy machines get a factor of ten."""
MIB = 1 << 20
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize("head", [CHUNKED, UNTIL_CLOSE])
async def test_each_event_is_there_before_the_next_is_sent(head: bytes, tmp_path: Path) -> None:
    gates = [asyncio.Event() for _ in range(4)]
    events = [b"id: %d\ndata: %d\n\n" % (number, number) for number in range(4)]
    script: list[Step] = [Reads(), Sends(head)]
    for gate, event in zip(gates, events, strict=True):
        script += [Holds(gate), Sends(chunk(event) if head is CHUNKED else event)]
    async with (
        Scripted(script) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET.replace(b"\r\n\r\n", b"\r\nLast-Event-ID: 41\r\n\r\n"))
        await client.head()
        assert b"last-event-id: 41\r\n" in upstream.received.lower()
        for gate, event in zip(gates, events, strict=True):
            gate.set()
            assert await client.exactly(len(chunk(event))) == chunk(event)
        assert metrics(worker)['gateway_streams_open{kind="events"}'] == 1


@pytest.mark.parametrize("leaves", ["before", "while"])
async def test_a_client_that_leaves_ends_the_work_upstream(leaves: str, tmp_path: Path) -> None:
    """Before the answer has begun, and in the middle of it."""
    script: list[Step] = [Reads()] + ([] if leaves == "before" else [Sends(CHUNKED)])
    async with (
        Scripted(script) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
    ):
        async with Raw(worker.port) as client:
            client.send(GET)
            await eventually(lambda: bool(upstream.received))
            if leaves == "while":
                await client.head()
        began = time.monotonic()
        await eventually(lambda: upstream.connections[0].ended)
        assert time.monotonic() - began < HEARS_S
        await eventually(lambda: worker.gateway.in_flight.now == 0)


async def test_quiet_events_outlive_a_stalled_answer_but_not_for_ever(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        Scripted([Reads(), Sends(CHUNKED + chunk(b": hello\n\n"))]) as upstream,
        running(tmp_path, one_rule(upstream.port), clock=clock) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        await client.head()
        for _ in range(28):
            clock.tick(10)
        assert worker.gateway.in_flight.now == 1
        clock.tick(30)
        assert await client.rest() == chunk(b": hello\n\n")
        assert metrics(worker)['gateway_streams_total{by="idle",kind="events"}'] == 1


async def test_a_reader_that_stops_holds_the_events_back_upstream(tmp_path: Path) -> None:
    event = chunk(b"data: " + b"x" * 4090 + b"\n\n")
    async with (
        Scripted([Reads(), Sends(CHUNKED), Floods(48 * MIB, event)]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        await client.head()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        (stream,) = worker.gateway.streams._open.values()
        moved = await stands_still(lambda: sum(stream.stream.carried))
        assert moved < 24 * MIB
        held = stream.stream._downstream.transport.get_write_buffer_size()
        assert held < 512 << 10
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await client.exactly(8 * MIB)
        assert sum(stream.stream.carried) > moved


async def test_bodies_go_both_ways_at_once_with_trailers(tmp_path: Path) -> None:
    """Each piece of the answer is made of the piece of the request that has just come."""
    pieces = [b"%d" % number * 10 for number in range(5)]
    script: list[Step] = [
        Reads(),
        Sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"),
    ]
    for piece in pieces:
        script += [Reads(chunk(piece)), Sends(chunk(piece.upper() + b"!"))]
    script += [Reads(b"0\r\nx-count: 5\r\n\r\n"), Sends(b"0\r\nX-Sum: 50\r\n\r\n")]
    async with (
        Scripted(script) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Count\r\n\r\n"
        )
        assert b"trailer: x-sum" in (await client.head()).lower()
        for piece in pieces:
            client.send(chunk(piece))
            assert await client.exactly(len(chunk(piece)) + 1) == chunk(piece + b"!")
        client.send(b"0\r\nX-Count: 5\r\n\r\n")
        assert (await client.rest()).lower() == b"0\r\nx-sum: 50\r\n\r\n"
        await eventually(lambda: worker.gateway.in_flight.now == 0)


async def test_an_answer_that_stands_still_goes_on_while_the_request_moves(tmp_path: Path) -> None:
    clock = ManualClock()
    begun = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with (
        Scripted([Reads(), Sends(begun), Repeats([Reads(b"never")])]) as upstream,
        running(tmp_path, one_rule(upstream.port), clock=clock) as worker,
        Raw(worker.port) as client,
    ):
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.head()
        for number in range(20):
            client.send(chunk(b"x" * 20_000))
            await eventually(lambda n=number: len(upstream.received) > 20_000 * (n + 1))  # type: ignore[misc]
            clock.tick(9)
        assert worker.gateway.in_flight.now == 1


# -- memory, of a gateway in a process of its own


class Alone:
    """A gateway process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port

    def rss(self) -> int:
        pages = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="utf-8").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def alone(folder: Path, upstream: int) -> AsyncIterator[Alone]:
    (folder / "rules.yaml").write_text(one_rule(upstream))
    log = folder / "home" / "log"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy.cli", "gateway", "--rules", str(folder / "rules.yaml")),
        *("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--home", str(folder / "home")),
        cwd=ROOT,
    )
    try:
        await eventually(lambda: "serving" in "".join(map(_read, log.glob("*.jsonl"))), 60)
        (line,) = (one for one in _read(next(log.glob("*.jsonl"))).splitlines() if "serving" in one)
        yield Alone(process, int(line.partition('"ports":[')[2].partition("]")[0]))
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            await process.wait()


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


class Bulk:
    """An upstream of long bodies: takes one and keeps none of it, or answers with one."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(OSError):
            await self._answer(reader, writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        left = LONG
        if head.startswith(b"POST"):
            while left:
                left -= len(await reader.read(MIB)) or left
            writer.write(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LONG)
        while left:
            writer.write(b"x" * MIB)
            await writer.drain()
            left -= MIB

    async def ended(self) -> None:
        await asyncio.gather(*self._tasks)


LONG = 64 * MIB
READERS = 10


@pytest.mark.slow
async def test_long_bodies_and_slow_readers_hardly_move_its_memory(tmp_path: Path) -> None:
    """A long body up, one down, and readers who have stopped in the middle of one."""
    async with contextlib.AsyncExitStack() as stack:
        bulk = Bulk()
        server = await asyncio.start_server(bulk.serve, "127.0.0.1", 0)
        await stack.enter_async_context(server)
        stack.push_async_callback(bulk.ended)
        gateway = await stack.enter_async_context(
            alone(tmp_path, server.sockets[0].getsockname()[1])
        )
        before = gateway.rss()
        async with asyncio.timeout(60), Raw(gateway.port) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % LONG)
            for _ in range(LONG // MIB):
                client.send(b"x" * MIB)
                await client.writer.drain()
            assert (await client.answer())[1] == b"ok"
        async with asyncio.timeout(60), Raw(gateway.port) as client:
            client.send(GET)
            await client.head()
            left = LONG
            while left:
                left -= len(await client.reader.read(MIB)) or left
        assert gateway.rss() - before < 10 * MIB
        for _ in range(READERS):
            reader = await stack.enter_async_context(Raw(gateway.port))
            reader.writer.transport.pause_reading()  # type: ignore[attr-defined]
            reader.send(GET)
        await stands_still(gateway.rss)
        assert gateway.rss() - before < 10 * MIB + READERS * 512 * 1024
