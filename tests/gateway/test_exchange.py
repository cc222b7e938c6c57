"""Failures of the other side, and clients that leave: with real sockets."""

import asyncio
import socket
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gateway.edge.leaving import has_left
from gateway.worker import Worker
from tests.support.gateways import GET, Raw, one_rule, running, status_of
from tests.support.ports import free_port
from tests.support.scripted import (
    OK,
    Closes,
    Floods,
    Holds,
    Reads,
    Repeats,
    Resets,
    Scripted,
    Sends,
    Step,
    StopsReading,
    answers,
    eventually,
)


def counted(worker: Worker, *wanted: str) -> float:
    """The sum of gateway_requests_total over the series that have all of `wanted`."""
    lines = worker.telemetry.metrics.render().decode().splitlines()
    found = [
        line
        for line in lines
        if line.startswith("gateway_requests_total{") and all(want in line for want in wanted)
    ]
    return sum(float(line.rpartition(" ")[2]) for line in found)


async def ask(worker: Worker, request: bytes = GET) -> tuple[int, bytes]:
    async with Raw(worker.port) as client:
        client.send(request)
        head, body = await client.answer()
        return status_of(head), body


async def test_no_rule_is_404(tmp_path: Path) -> None:
    rules = one_rule(1).replace("path_prefix: /", "path_prefix: /only")
    async with running(tmp_path, rules) as worker:
        status, body = await ask(worker)
        assert (status, b'"code":"no_route"' in body) == (404, True)
        assert counted(worker, 'route="unmatched"', 'outcome="no_route"', 'code="404"') == 1


async def test_a_cluster_without_instances_is_503(tmp_path: Path) -> None:
    async with running(tmp_path, one_rule(free_port())) as worker:
        worker.gateway.origins["up"]._list = lambda: ()
        status, body = await ask(worker)
        assert (status, b'"code":"no_instances"' in body) == (503, True)


async def test_a_refused_connection_is_502_when_there_is_no_other_instance(tmp_path: Path) -> None:
    async with running(tmp_path, one_rule(free_port())) as worker:
        status, body = await ask(worker)
        assert (status, b'"code":"origin_connect"' in body) == (502, True)
        assert counted(worker, 'outcome="origin_connect"') == 1


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_what_was_provably_not_processed_is_tried_on_another_instance(
    method: bytes, tmp_path: Path
) -> None:
    request = method + b" / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    async with (
        Scripted([Repeats([Reads(b"hello"), Sends(OK)])]) as upstream,
        running(tmp_path, one_rule(free_port(), upstream.port)) as worker,
    ):
        for _ in range(8):
            assert await ask(worker, request) == (200, b"ok")
        assert upstream.received.count(b"hello") == 8


async def test_what_may_have_been_processed_is_not_tried_again(tmp_path: Path) -> None:
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    script: list[Step] = [Reads(b"hello"), Resets()]
    async with (
        Scripted(script) as one,
        Scripted(script) as two,
        running(tmp_path, one_rule(one.port, two.port)) as worker,
    ):
        status, body = await ask(worker, request)
        assert (status, b'"code":"origin_reset"' in body) == (502, True)
        assert (one.received + two.received).count(b"hello") == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
    ],
)
async def test_a_garbled_answer_is_502(answer: bytes, tmp_path: Path) -> None:
    async with (
        Scripted(answers(answer)) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
    ):
        status, body = await ask(worker)
        assert (status, b'"code":"origin_garbled"' in body) == (502, True)


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_an_answer_cut_short_never_looks_complete(
    start: bytes, version: bytes, tmp_path: Path
) -> None:
    async with (
        Scripted([Reads(), Sends(start), Closes()]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET.replace(b"1.1", version))
        try:
            got = await client.rest()
        except ConnectionError:
            return
        assert b"chunked" in got or b"Content-Length: 9" in got
        assert not got.endswith(b"0\r\n\r\n")


async def test_an_answer_before_the_body_is_done_poisons_only_its_own_connections(
    tmp_path: Path,
) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nxx")
        answer = await client.rest()
        assert status_of(answer) == 200
        assert b"connection: close" in answer
        assert await ask(worker) == (200, b"ok")
        assert len(upstream.connections) == 2


async def test_a_client_that_leaves_takes_its_upstream_request_with_it(tmp_path: Path) -> None:
    async with (
        Scripted([Reads()]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
    ):
        async with Raw(worker.port) as client:
            client.send(GET)
            await eventually(lambda: bool(upstream.received))
        async with asyncio.timeout(0.1):
            await upstream.connections[0].lost.wait()
        await eventually(lambda: worker.gateway.in_flight.now == 0)
        assert counted(worker, 'code="499"', 'outcome="client_gone"') == 1
        standing = worker.gateway.origins["up"].balancer.standings()
        assert [one.in_flight for one in standing.values()] == [0]


async def settled(read: Callable[[], int]) -> None:
    """Until it has not changed for a tenth of a second."""
    before = -1
    while before != (before := read()):  # noqa: ASYNC110  # the kernel sets no event
        await asyncio.sleep(0.1)


async def test_an_instance_that_takes_no_more_of_a_body_hears_at_once_that_it_ends(
    tmp_path: Path,
) -> None:
    """Not behind the megabytes that wait for it in the kernel."""
    async with (
        Scripted([Reads(), StopsReading(), Holds(asyncio.Event())]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
    ):
        async with Raw(worker.port) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n")
            client.send(bytes(64 << 20))
            await eventually(lambda: bool(upstream.received))
            await settled(client.writer.transport.get_write_buffer_size)
            side = upstream.connections[0].transport.get_extra_info("socket")
            assert not has_left(side)
            raw = client.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await eventually(lambda: has_left(side), within_s=1)
        await eventually(lambda: worker.gateway.in_flight.now == 0)


async def test_a_client_that_ends_its_half_is_gone_though_it_takes_nothing(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"
    async with (
        Scripted([Reads(), Sends(head), Floods(99_999_999)]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.writer.transport.pause_reading()
        client.send(GET)
        await eventually(
            lambda: any(
                one.transport.get_write_buffer_size() for one in worker.listener.connections
            )
        )
        client.writer.write_eof()
        await eventually(lambda: upstream.connections[0].ended, within_s=1)
        await eventually(lambda: worker.gateway.in_flight.now == 0)
        assert counted(worker, 'code="499"', 'outcome="client_gone"') == 1


async def test_what_was_answered_before_a_client_ended_its_half_reaches_it(tmp_path: Path) -> None:
    body = b"x" * 60_000
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + body
    async with (
        Scripted([Reads(), Sends(answer), Reads(b"never")]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET + GET)
        await eventually(lambda: upstream.received.count(b"GET ") == 2)
        client.writer.write_eof()
        got, more = (await client.rest()).split(b"\r\n\r\n", 1)
        assert status_of(got) == 200 and more == body
        await eventually(lambda: worker.gateway.in_flight.now == 0)


def _has_read(upstream: Scripted, uploads: int) -> bool:
    return upstream.received.count(b"\r\nab\r\n") == uploads


BEGUN = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"


@pytest.mark.parametrize(
    ("rest", "status"), [(b"zz\r\n", 400), (b"14\r\n" + b"x" * 20 + b"\r\n", 413)]
)
async def test_what_a_client_does_wrong_is_not_held_against_the_instance(
    rest: bytes, status: int, tmp_path: Path
) -> None:
    async with (
        Scripted([Reads()]) as upstream,
        running(tmp_path, one_rule(upstream.port, body_limit="10")) as worker,
    ):
        for begun in (1, 2):
            async with Raw(worker.port) as client:
                client.send(BEGUN)
                await eventually(partial(_has_read, upstream, begun))
                client.send(rest)
                assert status_of(await client.rest()) == status
        (standing,) = worker.gateway.origins["up"].balancer.standings().values()
        assert (standing.failures, standing.in_flight) == (0, 0)


async def test_a_client_that_leaves_while_we_connect_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.socket() as full:  # accepts nothing: its backlog is full
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        async with running(tmp_path, one_rule(port)) as worker:
            async with Raw(worker.port) as client:
                client.send(GET)
                await eventually(lambda: worker.gateway.in_flight.now == 1)
            await eventually(lambda: worker.gateway.in_flight.now == 0)
            pool = next(iter(worker.gateway.origins["up"].pools.values()))
            await eventually(lambda: pool.open == 0)
        for filler in fillers:
            filler.close()


async def test_more_than_the_limit_in_flight_is_shed(tmp_path: Path) -> None:
    async with (
        Scripted([Reads()]) as upstream,
        running(tmp_path, one_rule(upstream.port), in_flight=1) as worker,
        Raw(worker.port) as first,
    ):
        first.send(GET)
        await eventually(lambda: bool(upstream.received))
        status, body = await ask(worker)
        assert (status, b'"code":"shed"' in body) == (503, True)
        assert worker.gateway.in_flight.now == 1


async def test_replies_redirects_and_edits_of_the_rules(tmp_path: Path) -> None:
    rules = """
clusters:
  up: {instances: ["127.0.0.1:PORT"]}
rules:
  - name: reply
    match: {path: /reply}
    reply: {status: 418, body: tea, headers: {x-pot: blue}}
  - name: redirect
    match: {path: /old}
    redirect: {location: /new, status: 301}
  - name: edits
    match: {path_prefix: /edit}
    forward: up
    rewrite: {prefix: /v2, host: inner.example}
    request_headers: {set: {x-a: "1"}, remove: [cookie]}
    response_headers: {set: {x-b: "2"}, remove: [server]}
"""
    answer = b"HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 2\r\n\r\nok"
    async with (
        Scripted(answers(answer)) as upstream,
        running(tmp_path, rules.replace("PORT", str(upstream.port))) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET.replace(b"/ ", b"/reply "))
        head, body = await client.answer()
        assert (status_of(head), body, b"x-pot: blue" in head) == (418, b"tea", True)
        client.send(GET.replace(b"/ ", b"/old "))
        head, _ = await client.answer()
        assert (status_of(head), b"location: /new" in head) == (301, True)
        client.send(GET.replace(b"/ ", b"/edit/x?y ").replace(b"Host", b"Cookie: c\r\nHost"))
        head, _ = await client.answer()
        assert b"x-b: 2" in head
        assert b"Server" not in head
    assert upstream.received.startswith(b"GET /v2/x?y HTTP/1.1\r\n")
    assert b"host: inner.example\r\n" in upstream.received
    assert b"x-a: 1\r\n" in upstream.received
    assert b"cookie" not in upstream.received


async def test_a_request_keeps_the_snapshot_it_started_with(tmp_path: Path) -> None:
    go = asyncio.Event()

    class Waits(Step):
        async def play(self, link: object) -> None:
            await go.wait()

    rules = one_rule(0)
    async with Scripted([Reads(), Waits(), Sends(OK)]) as upstream:
        rules = one_rule(upstream.port)
        async with running(tmp_path, rules) as worker, Raw(worker.port) as client:
            client.send(GET)
            await eventually(lambda: bool(upstream.received))
            nothing = "rules:\n  - name: gone\n    reply: {status: 410}\n"
            await worker.live.propose(nothing.encode(), author="test", why="test")
            assert (await ask(worker))[0] == 410
            go.set()
            assert (await client.answer())[1] == b"ok"
