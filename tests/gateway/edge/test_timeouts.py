"""Slow clients and slow instances, on a clock that the test moves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chassis.clock import ManualClock
from gateway.edge.limits import Limits
from tests.support.gateways import GET, Raw, one_rule, running, status_of
from tests.support.scripted import OK, Holds, Reads, Scripted, Sends, answers, eventually


async def pass_time(clock: ManualClock, seconds: float) -> None:
    """In steps, so that timers that follow each other fall due in turn."""
    for _ in range(round(seconds * 10)):
        clock.tick(0.1)


@asynccontextmanager
async def answered(folder: Path) -> AsyncIterator[tuple[ManualClock, Raw]]:
    """A client that keeps its connection behind a first answer."""
    clock = ManualClock()
    async with (
        Scripted(answers()) as upstream,
        running(folder, one_rule(upstream.port), clock=clock) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        await client.answer()
        yield clock, client


async def test_a_head_that_takes_too_long_is_answered_408(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), clock=clock) as worker,
        Raw(worker.port) as client,
    ):
        client.send(b"GET / HTTP/1.1\r\nHost: ")
        await eventually(lambda: len(worker.listener.waits.heads) == 1)
        await pass_time(clock, 4.5)
        client.send(b"a")  # dripping does not help
        await pass_time(clock, 1.0)
        assert status_of(await client.rest()) == 408
    assert upstream.received == b""


async def test_a_method_that_never_ends_counts_as_a_slow_head(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        running(tmp_path, one_rule(1), clock=clock) as worker,
        Raw(worker.port) as client,
    ):
        client.send(b"GE")
        await eventually(lambda: len(worker.listener.waits.heads) == 1)
        await pass_time(clock, 6)
        assert status_of(await client.rest()) == 408


async def test_an_idle_connection_is_closed_in_silence(tmp_path: Path) -> None:
    async with answered(tmp_path) as (clock, client):
        await pass_time(clock, 64)
        client.send(GET)
        await client.answer()
        await pass_time(clock, 66)
        assert await client.rest() == b""


async def test_what_came_while_the_loop_stood_still_is_read_before_its_sender_is_called_idle(
    tmp_path: Path,
) -> None:
    async with answered(tmp_path) as (clock, client):
        client.send(GET)
        clock.stall(66)
        await client.answer()


async def test_a_body_below_the_least_rate_is_answered_408(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        Scripted([Reads(b"never")]) as upstream,
        running(tmp_path, one_rule(upstream.port), clock=clock) as worker,
        Raw(worker.port) as client,
    ):
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        await eventually(lambda: len(worker.listener.waits.bodies) == 1)
        await eventually(lambda: bool(upstream.received))  # connected: what comes is not held back
        client.send(b"x" * 11_000)
        await eventually(lambda: upstream.received.count(b"x") >= 11_000)
        await pass_time(clock, 10.5)
        client.send(b"x" * 100)
        await eventually(lambda: upstream.received.count(b"x") >= 11_100)
        await pass_time(clock, 10.5)
        assert status_of(await client.rest()) == 408


EXPECTS = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_a_client_that_waits_to_be_asked_for_its_body_is_not_slow(tmp_path: Path) -> None:
    clock, go = ManualClock(), asyncio.Event()
    script = [Reads(), Holds(go), Sends(CONTINUE), Reads(b"hello"), Sends(OK)]
    async with (
        Scripted(script) as upstream,
        running(tmp_path, one_rule(upstream.port), clock=clock) as worker,
        Raw(worker.port) as client,
    ):
        client.send(EXPECTS)
        await eventually(lambda: bool(upstream.received))
        await pass_time(clock, 13)
        go.set()
        assert status_of(await client.head()) == 100
        await pass_time(clock, 9)
        client.send(b"hello")
        assert status_of(await client.head()) == 200


async def test_once_asked_for_its_body_a_client_has_to_send_it(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        Scripted([Reads(), Sends(CONTINUE), Reads(b"never")]) as upstream,
        running(tmp_path, one_rule(upstream.port), clock=clock) as worker,
        Raw(worker.port) as client,
    ):
        client.send(EXPECTS)
        assert status_of(await client.head()) == 100
        await pass_time(clock, 10.5)
        assert status_of(await client.rest()) == 408


async def test_an_instance_that_never_asks_for_the_body_is_late(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        Scripted([Reads(b"never")]) as upstream,
        running(tmp_path, one_rule(upstream.port, timeout_s="12"), clock=clock) as worker,
        Raw(worker.port) as client,
    ):
        client.send(EXPECTS)
        await eventually(lambda: bool(upstream.received))
        await pass_time(clock, 13)
        assert status_of(await client.rest()) == 504


async def test_no_answer_within_the_rules_timeout_is_504(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        Scripted([Reads()]) as upstream,
        running(tmp_path, one_rule(upstream.port, timeout_s="2"), clock=clock) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        await eventually(lambda: bool(upstream.received))
        await pass_time(clock, 2.1)
        head, body = await client.answer()
        assert status_of(head) == 504
        assert b'"code":"origin_timeout"' in body
        await eventually(lambda: upstream.connections[0].ended)
        await eventually(lambda: worker.gateway.in_flight.now == 0)


async def test_an_answer_under_way_may_take_longer_than_the_timeout_but_not_stand_still(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"
    limits = Limits(stall_s=5)
    async with (
        Scripted([Reads(), Sends(start), Reads(b"never")]) as upstream,
        running(
            tmp_path, one_rule(upstream.port, timeout_s="2"), clock=clock, limits=limits
        ) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        await client.head()
        await pass_time(clock, 4)
        assert worker.gateway.in_flight.now == 1
        await pass_time(clock, 9)
        await eventually(lambda: worker.gateway.in_flight.now == 0)


async def test_a_refused_client_that_goes_on_sending_is_cut(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        Scripted([Reads(), Sends(OK)]) as upstream,
        running(tmp_path, one_rule(upstream.port), clock=clock) as worker,
        Raw(worker.port) as client,
    ):
        client.send(b"NONSENSE\r\n\r\n" + b"x" * 100_000)
        assert status_of(await client.rest()) == 400
        assert len(worker.listener.connections) == 1
        await pass_time(clock, 2.5)
        await eventually(lambda: not worker.listener.connections)
