"""Each limit of a listener ends what is over it, and is counted where operators look."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chassis.clock import ManualClock
from gateway.edge.limits import Limits
from gateway.worker import Worker
from tests.gateway.test_exchange import counted
from tests.support.gateways import GET, Raw, one_rule, running, status_of
from tests.support.scripted import OK, Floods, Reads, Repeats, Scripted, Sends, answers, eventually

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
LIMITS = Limits(target=100, head=2_000, fields=20, body=1_000_000, stall_s=5)
REFUSED = {
    "target": (414, b"GET /" + b"a" * 100 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "head": (431, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2_000 + b"\r\n\r\n"),
    "body": (413, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000001\r\n\r\n"),
}


async def met(worker: Worker) -> dict[str, int]:
    """The limits that were met, as /metrics tells them."""
    async with Raw(worker.admin_port) as client:
        client.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        page = (await client.answer())[1].decode()
    found = re.findall(
        r'^gateway_limits_total\{limit="(\w+)",listener="[^"]+"\} (\d+)', page, re.MULTILINE
    )
    assert len(found) == 11
    return {name: int(float(n)) for name, n in found if float(n)}


async def pass_time(clock: ManualClock, seconds: float) -> None:
    """In steps, so that timers that follow each other fall due in turn."""
    for _ in range(round(seconds * 10)):
        clock.tick(0.1)


@pytest.mark.parametrize("limit", REFUSED)
async def test_what_is_too_large_is_refused_and_counted(limit: str, tmp_path: Path) -> None:
    status, request = REFUSED[limit]
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), limits=LIMITS) as worker,
    ):
        for end in (len(request), len(request) - 4):
            async with Raw(worker.port) as client:
                client.send(request[:end])
                if limit == "body" and end < len(request):
                    client.send(b"\r\n\r\n")
                assert status_of(await client.rest()) == status
        assert await met(worker) == {limit: 2}
    assert upstream.received == b""


async def test_too_many_fields_count_as_a_large_head(tmp_path: Path) -> None:
    async with running(tmp_path, one_rule(1), limits=LIMITS) as worker:
        async with Raw(worker.port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20 + b"\r\n")
            assert status_of(await client.rest()) == 431
        assert await met(worker) == {"head": 1}


async def test_a_chunked_body_over_the_limit_is_counted_too(tmp_path: Path) -> None:
    async with (
        Scripted([Reads(b"never")]) as upstream,
        running(tmp_path, one_rule(upstream.port), limits=Limits(body=10)) as worker,
    ):
        async with Raw(worker.port) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            client.send(b"8\r\n12345678\r\n")
            await eventually(lambda: b"12345678" in upstream.received)
            client.send(b"8\r\n12345678\r\n")
            assert status_of(await client.rest()) == 413
        assert await met(worker) == {"body": 1}
    assert not upstream.received.endswith(b"0\r\n\r\n")


async def test_a_body_over_its_rules_limit_is_told_by_the_rules_own_counter(tmp_path: Path) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port, body_limit="10")) as worker,
    ):
        async with Raw(worker.port) as client:
            client.send(POST)
            assert status_of(await client.rest()) == 413
        counters = worker.telemetry.metrics.render()
        assert re.search(rb'gateway_requests_total\{code="413",[^}]*route="all"\} 1', counters)


async def test_slow_heads_and_bodies_are_counted_apart(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        Scripted([Reads(b"never")]) as upstream,
        running(tmp_path, one_rule(upstream.port), clock=clock) as worker,
        Raw(worker.port) as head,
        Raw(worker.port) as body,
    ):
        head.send(GET[:-2])
        body.send(POST)
        waits = worker.listener.waits
        await eventually(lambda: len(waits.heads) == len(waits.bodies) == 1)
        await pass_time(clock, 6)
        assert status_of(await head.rest()) == 408
        assert await met(worker) == {"head_time": 1}
        await pass_time(clock, 5)
        assert status_of(await body.rest()) == 408
        assert await met(worker) == {"head_time": 1, "body_rate": 1}


async def test_idle_connections_are_counted_and_empty_lines_keep_none_alive(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        running(tmp_path, one_rule(1), clock=clock) as worker,
        Raw(worker.port) as silent,
        Raw(worker.port) as busy,
    ):
        await eventually(lambda: len(worker.listener.waits.idle) == 2)
        for _ in range(6):
            await pass_time(clock, 10)
            busy.send(b"\r\n" * 10)
            assert await met(worker) == {}
        await pass_time(clock, 6)
        assert await silent.rest() == b""
        assert await busy.rest() == b""
        assert await met(worker) == {"idle": 2}


async def test_the_last_request_of_a_connection_is_told_and_counted(tmp_path: Path) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), limits=Limits(requests=3)) as worker,
    ):
        async with Raw(worker.port) as client:
            client.send(GET * 5)
            answer = await client.rest()
        assert answer.count(b"HTTP/1.1 200 OK") == 3
        assert answer.count(b"connection: close") == 1
        assert await met(worker) == {"requests": 1}


async def test_a_connection_ends_at_its_age_which_is_drawn_for_each(tmp_path: Path) -> None:
    clock = ManualClock()
    limits = Limits(age_s=100, idle_s=1_000)
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), clock=clock, limits=limits) as worker,
        Raw(worker.port) as client,
    ):
        for _ in range(2):
            client.send(GET)
            assert b"connection: close" not in (await client.answer())[0]
            await pass_time(clock, 49)
        await pass_time(clock, 23)
        client.send(GET)
        assert b"connection: close" in await client.rest()
        assert await met(worker) == {"age": 1}


async def test_connections_beyond_the_limit_are_closed_and_counted(tmp_path: Path) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), limits=Limits(connections=1)) as worker,
        Raw(worker.port) as first,
    ):
        first.send(GET)
        await first.answer()
        async with Raw(worker.port) as second:
            with pytest.raises((ConnectionError, EOFError)):
                second.send(GET)
                await second.head()
        assert worker.listener.counts.full == 1
        first.send(GET)
        assert status_of((await first.answer())[0]) == 200
        assert await met(worker) == {"connections": 1}
        first.send(GET)
        assert status_of((await first.answer())[0]) == 200


@pytest.mark.parametrize("keep", [b"keep-alive", b"close"])
async def test_a_client_that_takes_no_answer_is_cut_and_counted(
    keep: bytes, tmp_path: Path
) -> None:
    """Also one whose answer is complete on our side, of which some waits to be sent."""
    clock = ManualClock()
    body = b"x" * 60_000
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + body
    async with (
        Scripted([Repeats([Reads(), Sends(answer)])]) as upstream,
        running(tmp_path, one_rule(upstream.port), clock=clock, limits=LIMITS) as worker,
        Raw(worker.port) as client,
    ):
        client.writer.transport.pause_reading()
        last = GET.replace(b"Host", b"Connection: " + keep + b"\r\nHost")
        sent = 0
        while not _is_stuck(worker):
            client.send(GET)
            sent += 1
            await eventually(lambda n=sent: counted(worker) == n)
        client.send(last)
        await eventually(lambda: upstream.received.count(b"GET ") == sent + 1)
        for _ in range(30):
            await pass_time(clock, 3)
            await asyncio.sleep(0)
        await eventually(lambda: not worker.listener.connections)
        assert (await met(worker))["unread"] == 1


def _is_stuck(worker: Worker) -> bool:
    return any(one.transport.get_write_buffer_size() for one in worker.listener.connections)


def _is_held(upstream: Scripted) -> bool:
    """The instance has more to send, and may not."""
    transport = upstream.connections[0].transport
    return transport is not None and transport.get_write_buffer_size() > 0


async def test_a_slow_reader_is_waited_for_as_long_as_it_reads(tmp_path: Path) -> None:
    clock = ManualClock()
    total = 8 << 20
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total
    last = GET.replace(b"Host", b"Connection: close\r\nHost")
    async with (
        Scripted([Reads(), Sends(head), Floods(total)]) as upstream,
        running(tmp_path, one_rule(upstream.port), clock=clock, limits=LIMITS) as worker,
        Raw(worker.port) as client,
    ):
        client.writer.transport.pause_reading()
        client.send(last)
        await eventually(lambda: _is_stuck(worker))
        got = 0
        client.writer.transport.resume_reading()
        while got < total:
            piece = await client.reader.read(1 << 20)
            assert piece
            got += len(piece)
            await pass_time(clock, 0.2)
        assert got >= total
        assert await met(worker) == {}


@pytest.mark.slow
async def test_a_download_may_take_an_hour_in_which_the_instance_is_held_back(
    tmp_path: Path,
) -> None:
    """256 KiB every four seconds, and what is on its way at the end at once."""
    clock = ManualClock()
    piece, pieces, on_its_way = 256 << 10, 900, 192
    total = piece * (pieces + on_its_way)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total
    async with (
        Scripted([Reads(), Sends(head), Floods(total)]) as upstream,
        running(tmp_path, one_rule(upstream.port), clock=clock) as worker,
    ):
        async with asked(worker, 64 << 10) as client:
            for _ in range(pieces):
                await take(client, piece)
                await eventually(lambda: _is_stuck(worker) and _is_held(upstream))
                await pass_time(clock, 4)
            await take(client, len(head) + piece * on_its_way)
        assert round(clock.monotonic()) >= 3_600
        assert await met(worker) == {}


async def test_a_reader_too_slow_for_the_kernels_buffers_is_waited_for_too(tmp_path: Path) -> None:
    """16 KiB every four seconds: the loop may not write again for minutes."""
    clock = ManualClock()
    total = 64 << 20
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total
    async with (
        Scripted([Reads(), Sends(head), Floods(total)]) as upstream,
        running(tmp_path, one_rule(upstream.port), clock=clock) as worker,
    ):
        async with asked(worker, 16 << 10) as client:
            await eventually(lambda: _is_stuck(worker))
            for _ in range(100):
                await take(client, 16 << 10)
                await pass_time(clock, 4)
            assert len(worker.listener.connections) == 1
        await eventually(lambda: not worker.listener.connections)
        assert await met(worker) == {}


@asynccontextmanager
async def asked(worker: Worker, kept: int) -> AsyncIterator[socket.socket]:
    """A client that has asked and reads nothing by itself; its kernel keeps so much for it."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, kept)
        await loop.sock_connect(client, ("127.0.0.1", worker.port))
        await loop.sock_sendall(client, GET)
        yield client


async def take(client: socket.socket, size: int) -> None:
    while size:
        data = await asyncio.get_running_loop().sock_recv(client, size)
        assert data, "the gateway ended the connection"
        size -= len(data)


async def test_a_body_that_we_held_back_is_not_too_slow(tmp_path: Path) -> None:
    """The instance takes nothing for a while: that is not the client's fault."""
    clock = ManualClock()
    async with (
        Scripted([Reads(), Sends(b""), Reads(b"y"), Sends(OK)]) as upstream,
        running(tmp_path, one_rule(upstream.port), clock=clock) as worker,
        Raw(worker.port) as client,
    ):
        client.send(POST)
        await eventually(lambda: len(worker.listener.waits.bodies) == 1)
        (connection,) = worker.listener.connections
        await pass_time(clock, 2)
        connection.hold()
        await pass_time(clock, 7.5)
        connection.release()
        await pass_time(clock, 8)
        client.send(b"x" * 99_999 + b"y")
        assert status_of((await client.answer())[0]) == 200
        assert await met(worker) == {}
