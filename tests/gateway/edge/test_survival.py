"""What many, slow and silent clients do to the others: nothing. And all of it is counted."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.edge.limits import Limits
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.gateways import GET, Raw, fields_of, one_rule, running, status_of
from tests.support.scripted import OK, Reads, Repeats, Scripted, Sends, answers, eventually

pytestmark = pytest.mark.slow  # crowds of clients, each waited out
SHORT = Limits(head_s=1.5, body_window_s=1.5, stall_s=1.5, linger_s=0.2)
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
CROWD = 60
LARGE = int(os.environ.get("STAGEDOOR_TEST_LARGE_MIB", "256")) << 20


@asynccontextmanager
async def crowd(port: int, size: int, receive: int = 0) -> AsyncIterator[list[socket.socket]]:
    """So many open connections, which nobody reads."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        found: list[socket.socket] = []
        for _ in range(size):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            if receive:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
            await loop.sock_connect(one, ("127.0.0.1", port))
            found.append(one)
        yield found


async def serves(port: int, *, times: int = 1) -> None:
    async with Raw(port) as client:
        for _ in range(times):
            client.send(GET)
            assert status_of((await client.answer())[0]) == 200


async def until(gateway: GatewayProcess, holds: Callable[[dict[str, int]], bool]) -> None:
    """Waits for what /metrics tells of connections and descriptors."""
    async with asyncio.timeout(10):
        while True:
            told = {
                "open": await gateway.metric("gateway_connections", state="open"),
                "descriptors": await gateway.metric("gateway_limits_total", limit="descriptors"),
            }
            if holds(told):
                return
            await asyncio.sleep(0.02)


class Drain:
    """An instance that reads any body, and sends a large one to whoever asks for /slow."""

    def __init__(self, head: bytes, total: int) -> None:
        self._head = head
        self._total = total
        self.port = 0

    async def __aenter__(self) -> "Drain":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                left = int(fields_of(head).get(b"content-length", b"0"))
                while left:
                    left -= len(await reader.read(min(left, 1 << 20)))
                if not head.startswith(b"GET /slow"):
                    writer.write(OK)
                    continue
                writer.write(self._head)
                for _ in range(self._total >> 20):
                    writer.write(bytes(1 << 20))
                    await writer.drain()
        writer.close()


def send_all(crowded: list[socket.socket], data: bytes) -> None:
    for one in crowded:
        with contextlib.suppress(OSError):
            one.send(data)


@pytest.mark.parametrize(
    ("begun", "drip", "limit"), [(GET[:-2], b"X", "head_time"), (POST, b"x", "body_rate")]
)
async def test_clients_that_drip_heads_or_bodies_are_answered_408_and_others_served(
    begun: bytes, drip: bytes, limit: str, tmp_path: Path
) -> None:
    async with (
        Scripted([Reads(b"never")]) as upstream,
        running(tmp_path, one_rule(upstream.port), limits=SHORT) as worker,
        crowd(worker.port, CROWD) as slow,
    ):
        send_all(slow, begun)
        waits, met = worker.listener.waits, worker.listener.waits.met
        await eventually(lambda: len(waits.heads) + len(upstream.connections) == CROWD)
        upstream.scripts[:] = [answers()]
        async with asyncio.timeout(20):
            while getattr(met, limit) < CROWD:
                send_all(slow, drip)
                await serves(worker.port)
        await eventually(lambda: not worker.listener.connections, within_s=10)
        assert getattr(met, limit) == CROWD


async def test_clients_that_never_read_are_cut_and_others_served(tmp_path: Path) -> None:
    """Each asks for more than the system's buffers take, and for the next thing behind it."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6000000\r\n\r\n" + b"x" * 6_000_000
    async with (
        Scripted([Reads(), Sends(answer)], answers()) as upstream,
        running(tmp_path, one_rule(upstream.port, timeout_s="1"), limits=SHORT) as worker,
    ):
        upstream.scripts[:] = [[Repeats([Reads(), Sends(answer)])]]
        async with crowd(worker.port, 8, receive=4_096) as silent:
            send_all(silent, GET + GET)
            await eventually(lambda: len(upstream.connections) == 8, within_s=20)
            upstream.scripts[:] = [answers()]
            async with asyncio.timeout(20):
                while worker.listener.connections:
                    await serves(worker.port)
                    await asyncio.sleep(0.01)
        await eventually(lambda: worker.gateway.in_flight.now == 0)
        assert (
            sum(
                pool.open
                for origin in worker.gateway.origins.values()
                for pool in origin.pools.values()
            )
            <= 2
        )


async def test_without_descriptors_others_are_served_and_the_rest_is_counted(
    tmp_path: Path,
) -> None:
    async with (
        Scripted(answers()) as upstream,
        gateway_process(tmp_path, one_rule(upstream.port), descriptors=80) as gateway,
        Raw(gateway.port) as old,
    ):
        old.send(GET)
        assert status_of((await old.answer())[0]) == 200
        async with crowd(gateway.port, 300):
            await until(gateway, lambda told: told["descriptors"] == 300 - 48 + 1)
            old.send(GET)
            assert status_of((await old.answer())[0]) == 200
        await until(gateway, lambda told: told["open"] <= 1)
        await serves(gateway.port, times=3)


async def test_who_finds_the_accept_queue_full_is_served_later_and_counted(tmp_path: Path) -> None:
    overflows = "gateway_accept_queue_overflows_total"
    async with (
        Scripted(answers()) as upstream,
        gateway_process(tmp_path, one_rule(upstream.port), options="?backlog=8") as gateway,
        Raw(gateway.port) as old,
    ):
        before = await gateway.metric(overflows)
        assert await gateway.metric("gateway_accept_queue", state="most") == 8
        os.kill(gateway.pid, signal.SIGSTOP)
        crowd = [asyncio.create_task(serves(gateway.port)) for _ in range(30)]
        await asyncio.sleep(0.3)
        os.kill(gateway.pid, signal.SIGCONT)
        old.send(GET)
        assert status_of((await old.answer())[0]) == 200
        async with asyncio.timeout(20):
            await asyncio.gather(*crowd)
        assert await gateway.metric(overflows) >= before + 30 - 9
        assert await gateway.metric("gateway_accept_queue", state="waiting") == 0


async def test_a_large_upload_and_a_slow_download_leave_the_memory_as_it_was(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """`STAGEDOOR_TEST_LARGE_MIB=2048` says how large."""
    total = LARGE
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total
    async with (
        Drain(head, total) as instance,
        gateway_process(tmp_path, one_rule(instance.port)) as gateway,
        Raw(gateway.port) as client,
    ):
        client.writer.transport.set_write_buffer_limits(1 << 20)
        await serves(gateway.port)
        before = most = gateway.resident()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % total)
        for _ in range(total >> 20):
            client.send(bytes(1 << 20))
            await client.writer.drain()
            most = max(most, gateway.resident())
        async with asyncio.timeout(30):
            assert status_of(await client.reader.readuntil(b"\r\n\r\n")) == 200
        up = most - before
        client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.head()
        for left in range(total, 0, -(1 << 20)):
            await client.reader.readexactly(min(left, 1 << 20))
            most = max(most, gateway.resident())
        told = f"{up >> 10} KiB more for an upload, {(most - before) >> 10} KiB with a download"
        record_property("measured", f"{total >> 20} MiB each way: {told}")
        assert most - before < 10 << 20


async def test_a_gateway_alone_has_no_successor_that_a_hangup_could_make_way_for(
    tmp_path: Path,
) -> None:
    async with (
        Scripted(answers()) as upstream,
        gateway_process(tmp_path, one_rule(upstream.port)) as gateway,
        Raw(gateway.port) as before,
    ):
        os.kill(gateway.pid, signal.SIGHUP)
        before.send(GET)
        head, _ = await before.answer()
        assert b"connection: close" not in head
        async with Raw(gateway.port) as after:
            after.send(GET)
            assert status_of((await after.answer())[0]) == 200
