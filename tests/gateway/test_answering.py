"""Whole answers, twice over one connection: the second time every head is recognised."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import pytest

from chassis.clock import ManualClock
from chassis.http.connection import Connection
from gateway.edge.limits import Limits
from gateway.exchange import Exchange
from gateway.filters import Filter, Phase
from tests.support.gateways import GET, Raw, one_rule, running, status_of
from tests.support.scripted import OK, Reads, Repeats, Scripted, Sends, answers, eventually
from tests.support.upstream import FakeTransport

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("request_", "answered"),
    [
        (GET, PLAIN),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", PLAIN[:-2]),
        (
            b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
            PLAIN.replace(b"\r\n\r\n", b"\r\nconnection: keep-alive\r\n\r\n"),
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", PLAIN),
    ],
)
async def test_an_answer_is_the_same_every_time(
    request_: bytes, answered: bytes, tmp_path: Path
) -> None:
    body = b"hi" if b"POST" in request_ else b""
    script = [Reads(b"\r\n\r\n" + body), Sends(PLAIN[:-2] if b"HEAD" in request_ else PLAIN)]
    async with (
        Scripted([Repeats(script)]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        for _ in range(3):
            client.send(request_)
            assert await client.exactly(len(answered)) == answered


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified", b"503 Oh"])
async def test_statuses_are_counted_alike_whether_recognised_or_not(
    status: bytes, tmp_path: Path
) -> None:
    length = b"Content-Length: 0\r\n" if status.startswith(b"503") else b""
    answer = b"HTTP/1.1 " + status + b"\r\n" + length + b"\r\n"
    async with (
        Scripted(answers(answer)) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        for _ in range(3):
            client.send(GET)
            assert await client.exactly(len(answer)) == answer
        told = worker.telemetry.metrics.render().decode()
        standing = next(iter(worker.gateway.origins["up"].balancer.standings().values()))
    code = status[:3].decode()
    outcome = "origin_error" if code == "503" else "success"
    series = [line for line in told.splitlines() if line.startswith("gateway_requests_total{")]
    assert len(series) == 1 and series[0].endswith(" 3.0")
    assert f'code="{code}"' in series[0] and f'outcome="{outcome}"' in series[0]
    assert f'attempt="initial",cluster="up",status="{code}"}} 3.0' in told
    assert standing.failures == (3 if code == "503" else 0)
    assert standing.in_flight == 0


async def test_the_last_answer_of_a_connection_says_so(tmp_path: Path) -> None:
    async with (
        Scripted(answers(PLAIN)) as upstream,
        running(tmp_path, one_rule(upstream.port), limits=Limits(requests=3)) as worker,
        Raw(worker.port) as client,
    ):
        for _ in range(2):
            client.send(GET)
            assert (await client.answer())[0] == PLAIN[:-2]
        client.send(GET)
        last = await client.rest()
    assert b"connection: close" in last and last.endswith(b"ok")


async def test_a_request_that_is_recognised_is_still_timed(tmp_path: Path) -> None:
    clock = ManualClock()
    script = [Reads(), Sends(OK), Reads()]
    async with (
        Scripted(script) as upstream,
        running(tmp_path, one_rule(upstream.port, timeout_s="2"), clock=clock) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        await client.answer()
        client.send(GET)
        await eventually(lambda: worker.gateway.in_flight.now == 1)
        assert len(worker.listener.waits.idle) == 0
        for _ in range(30):
            clock.tick(0.1)
        assert status_of((await client.answer())[0]) == 504
        assert len(worker.listener.waits.idle) == 1


async def test_an_outbound_filter_that_waits_leaves_the_connection_fit_for_use(
    tmp_path: Path,
) -> None:
    class Waits(Filter):
        phase = Phase.OUTBOUND

        def apply(self, exchange: Exchange) -> Awaitable[None]:
            return asyncio.sleep(0)

    async with (
        Scripted(answers(PLAIN)) as upstream,
        running(tmp_path, one_rule(upstream.port), filters=[Waits()]) as worker,
        Raw(worker.port) as client,
    ):
        for _ in range(3):
            client.send(GET)
            assert (await client.answer())[1] == b"ok"
        assert len(upstream.connections) == 1


async def test_an_upstream_connection_is_given_back_before_the_client_is_written_to(
    tmp_path: Path,
) -> None:
    """Else a client that takes no more would pause a connection that somebody else uses next."""
    async with (
        Scripted(answers(PLAIN)) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        await client.answer()
        down = next(iter(worker.listener.connections))
        pool = next(iter(worker.gateway.origins["up"].pools.values()))
        link = Connection()
        transport = FakeTransport()
        link.connection_made(transport)
        pool.give(pool._own(link))
        kept, down.transport = down.transport, Choking(down)
        down.data_received(GET)
        link.data_received(PLAIN)
        assert transport.reading and link.reusable
        down.transport = kept
        down.resume_writing()


class Choking(FakeTransport):
    """Takes what is written and then no more."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        super().write(data)
        self.protocol.pause_writing()


async def test_a_client_that_takes_no_more_is_asked_for_nothing_more(tmp_path: Path) -> None:
    async with (
        Scripted(answers(PLAIN)) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        await client.answer()
        down = next(iter(worker.listener.connections))
        down.pause_writing()
        down.data_received(GET)
        await eventually(lambda: worker.gateway.in_flight.now == 0)
        down.resume_writing()
        assert worker.gateway.in_flight.now == 1
        await client.answer()


async def test_a_connection_that_is_closing_takes_no_request(tmp_path: Path) -> None:
    async with (
        Scripted(answers(PLAIN)) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        await client.answer()
        down = next(iter(worker.listener.connections))
        down.close_if_idle()
        down.data_received(GET)
        await eventually(lambda: worker.gateway.in_flight.now == 0)
        assert await client.rest() == b""
