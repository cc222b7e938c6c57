"""Serving whole requests: in order, bounded, and never on a guess about where one ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.clock import ManualClock
from chassis.errors import StagedoorError
from chassis.http.framing import Headers
from chassis.http.inbound import BODY_LIMIT, HEADER_LIMIT, KEEP_ALIVE_S, REQUEST_S, located
from chassis.http.messages import Reply, told, written
from chassis.http.request import Asked
from chassis.http.serving import Listener, bind
from tests.support.waiting import until

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


class App:
    """Answers with what it was asked, once `go` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.asked: list[str] = []
        self.refused: list[StagedoorError] = []
        self.reply = Reply()
        self.cut = 0

    async def answer(
        self, method: str, path: str, query: bytes, headers: Headers, body: bytes
    ) -> Reply:
        self.asked.append(f"{method} {path} {body.decode('latin-1')}".strip())
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cut += 1
            raise
        if path == "/broken":
            raise RuntimeError("a defect")
        told = self.reply
        return Reply(told.body or path.encode(), told.status, told.content_type, told.headers)

    def call_of(self, path: bytes) -> None:
        return None

    def answer_call(self, called: object, asked: Asked, body: bytes) -> Any:
        raise NotImplementedError

    def refuse(self, failure: StagedoorError) -> Reply:
        self.refused.append(failure)
        return told(failure)


class Side:
    def __init__(self) -> None:
        self.app = App()
        self.clock = ManualClock()
        self.listener = Listener(self.app, bind("127.0.0.1", 0), self.clock)

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.listener.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def ask(self, *pieces: bytes) -> bytes:
        """Everything that comes back until the service closes, which `pieces` must lead to."""
        async with self.caller() as (reader, writer):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            return await asyncio.wait_for(reader.read(), 5)

    async def heard(self, number: int) -> None:
        await until(lambda: len(self.app.asked) >= number)


@pytest.fixture
async def side() -> AsyncIterator[Side]:
    side = Side()
    await side.listener.start()
    yield side
    await side.listener.drain(0)


def post(path: str, body: bytes, *fields: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1".encode(), b"Host: a", *fields]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


LAST = b"GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"


def answers(data: bytes) -> list[bytes]:
    """The bodies of answers that each tell their length."""
    found = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append(rest[:length])
        data = rest[length:]
    return found


async def test_requests_are_answered_in_order_on_one_connection(side: Side) -> None:
    data = await side.ask(post("/a", b"1") + post("/b", b"2") + GET + LAST)
    assert answers(data) == [b"/a", b"/b", b"/", b"/last"]
    assert side.app.asked == ["POST /a 1", "POST /b 2", "GET /", "GET /last"]


async def test_a_chunked_body_arrives_whole_and_trailers_are_left_out(side: Side) -> None:
    chunked = b"POST /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    await side.ask(chunked + b"3\r\nabc\r\n2\r\nde\r\n0\r\nhost: b\r\n\r\n", LAST)
    assert side.app.asked[0] == "POST /c abcde"


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.lists(st.integers(1, 200), max_size=6))
async def test_it_does_not_matter_where_the_stream_is_cut(side: Side, cuts: list[int]) -> None:
    side.app.asked.clear()
    stream = post("/a", b"first") + b"\r\n" + post("/b", b"") + LAST
    edges = [0, *sorted(cuts), len(stream)]
    data = await side.ask(*(stream[at:to] for at, to in pairwise(edges)))
    assert answers(data) == [b"/a", b"/b", b"/last"]
    assert side.app.asked == ["POST /a first", "POST /b", "GET /last"]


REFUSED = {
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "chunked in 1.0": b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n"
    b"content-length: 2\r\n\r\nxy",
    "length and chunked": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n"
    b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n"
    b"0\r\n\r\n",
    "another version": b"GET / HTTP/2.0\r\nhost: a\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nhost: a\n\n",
    "a folded field": b"GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n",
    "a blank in a name": b"GET / HTTP/1.1\r\nhost : a\r\n\r\n",
    "huge fields": b"GET / HTTP/1.1\r\nhost: a\r\nx: %b\r\n\r\n" % (b"y" * HEADER_LIMIT),
    "a head without end": b"GET / HTTP/1.1\r\nhost: a\r\nx: %b" % (b"y" * 2 * HEADER_LIMIT),
    "a switch with a body": b"POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n"
    b"upgrade: h2c\r\ncontent-length: 2\r\n\r\n{}",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
async def test_what_is_in_doubt_is_refused_and_ends_the_connection(
    side: Side, request_: bytes
) -> None:
    data = await side.ask(request_)
    assert data.startswith(b"HTTP/1.1 400 ") and b"connection: close\r\n" in data
    assert side.app.asked == [] and len(side.app.refused) == 1


async def test_what_is_in_doubt_behind_a_request_does_not_keep_that_from_its_answer(
    side: Side,
) -> None:
    data = await side.ask(GET + b"\x00garbage\r\n\r\n")
    assert data.startswith(b"HTTP/1.1 200 ") and b"HTTP/1.1 400 " in data
    assert side.app.asked == ["GET /"]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_beyond_the_limit_is_refused_while_it_comes(side: Side, chunked: bool) -> None:
    size = BODY_LIMIT + 1
    framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % size
    head = b"POST / HTTP/1.1\r\nhost: a\r\n%b\r\n\r\n" % framing
    body = b"%x\r\n" % size + b"x" * size if chunked else b"x" * size
    data = await side.ask(head + body)
    assert data.startswith(b"HTTP/1.1 413 ") and side.app.asked == []


async def test_a_caller_that_waits_to_be_told_is_told_to_go_on(side: Side) -> None:
    async with side.caller() as (reader, writer):
        whole = post("/a", b"later", b"Expect: 100-continue")
        writer.write(whole[:-5])
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert side.app.asked == []
        writer.write(whole[-5:])
        assert await reader.readuntil(b"/a")
    assert side.app.asked == ["POST /a later"]


async def test_a_switch_of_protocols_is_not_made(side: Side) -> None:
    switch = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    data = await side.ask(switch + b"frames of another protocol")
    assert data.startswith(b"HTTP/1.1 200 ") and data.count(b"HTTP/1.1") == 1


async def test_head_tells_the_length_of_what_it_does_not_send(side: Side) -> None:
    data = await side.ask(b"HEAD /abc HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert b"content-length: 4\r\n" in data and data.endswith(b"\r\n\r\n")


async def test_http_1_0_ends_with_its_answer(side: Side) -> None:
    data = await side.ask(b"GET /old HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
    assert answers(data) == [b"/old"]


async def test_a_defect_is_a_bare_500_and_ends_the_connection(side: Side) -> None:
    broken: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: broken.append(context["exception"])
    )
    data = await side.ask(b"GET /broken HTTP/1.1\r\nhost: a\r\n\r\n")
    assert data.startswith(b"HTTP/1.1 500 ") and b"defect" not in data


async def test_a_field_that_would_be_read_as_another_is_not_sent(side: Side) -> None:
    side.app.reply = Reply(headers=[(b"x", b"a\r\nset-cookie: b")])
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    data = await side.ask(GET)
    assert data.startswith(b"HTTP/1.1 500 ") and b"set-cookie" not in data


async def test_a_caller_that_does_not_read_is_not_read_from(side: Side) -> None:
    side.app.reply = Reply(b"x" * 500_000)
    async with side.caller() as (_, writer):
        writer.write(GET * 5_000)
        await side.heard(1)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(side.app.asked) < 50


async def test_the_rest_is_answered_when_the_caller_reads_on(side: Side) -> None:
    side.app.reply = Reply(b"x" * 500_000)
    data = await side.ask(GET * 20 + LAST)
    assert len(answers(data)) == 21


async def test_what_a_caller_left_behind_is_worked_off_and_not_answered(side: Side) -> None:
    side.app.go.clear()
    async with side.caller() as (_, writer):
        writer.write(GET)
        await side.heard(1)
    draining = asyncio.ensure_future(side.listener.drain(60))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not draining.done()
    side.app.go.set()
    await asyncio.wait_for(draining, 5)
    assert side.app.cut == 0


async def test_draining_lets_a_request_finish_and_then_ends_its_connection(side: Side) -> None:
    side.app.go.clear()
    async with side.caller() as (reader, writer), side.caller() as (idle, _):
        writer.write(GET)
        await side.heard(1)
        draining = asyncio.ensure_future(side.listener.drain(60))
        assert await asyncio.wait_for(idle.read(), 5) == b""
        assert not draining.done()
        side.app.go.set()
        data = await asyncio.wait_for(reader.read(), 5)
        assert b"connection: close\r\n" in data
        await asyncio.wait_for(draining, 5)


async def test_a_drain_closes_no_connection_under_a_request_on_its_way(side: Side) -> None:
    async with side.caller() as (used, writer), side.caller() as (idle, _):
        await until(lambda: len(side.listener.side.connections) == 2)  # type: ignore[union-attr]
        side.clock.tick(0.1)
        draining = asyncio.ensure_future(side.listener.drain(60, 0.2))
        await until(lambda: side.listener.side.draining)  # type: ignore[union-attr]
        writer.write(GET)
        assert b"connection: close\r\n" in await asyncio.wait_for(used.read(), 5)
        assert not draining.done()
        await side.clock.advance(0.1)
        assert await asyncio.wait_for(idle.read(), 5) == b""
        await asyncio.wait_for(draining, 5)


async def test_a_loop_that_stood_still_closes_nobody_before_it_has_read(side: Side) -> None:
    async with side.caller() as (used, writer):
        await until(lambda: len(side.listener.side.connections) == 1)  # type: ignore[union-attr]
        draining = asyncio.ensure_future(side.listener.drain(60, 0.4))
        await until(lambda: side.listener.side.draining)  # type: ignore[union-attr]
        writer.write(GET)
        side.clock.stall(0.5)
        assert b"connection: close\r\n" in await asyncio.wait_for(used.read(), 5)
        await asyncio.wait_for(draining, 5)


async def test_who_waits_in_the_accept_queue_at_a_drain_is_served(side: Side) -> None:
    waiting = [socket.create_connection(("127.0.0.1", side.listener.port)) for _ in range(20)]
    for connection in waiting:
        connection.sendall(GET)
    await side.listener.drain(5, 0.2)
    for connection in waiting:
        with connection:
            connection.settimeout(5)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


async def test_what_does_not_end_in_time_is_cut(side: Side) -> None:
    side.app.go.clear()
    async with side.caller() as (reader, writer):
        writer.write(GET)
        await side.heard(1)
        await side.listener.drain(0.01)
        assert (await reader.read()).startswith(b"HTTP/1.1 500 ")
        assert side.app.cut == 1


async def test_an_idle_connection_is_closed_after_a_while(side: Side) -> None:
    async with side.caller() as (reader, writer):
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n/")
        await side.clock.advance(KEEP_ALIVE_S - 1)
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n/")
        await side.clock.advance(KEEP_ALIVE_S + 6)
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_a_request_that_does_not_come_to_its_end_is_refused(side: Side) -> None:
    async with side.caller() as (reader, writer):
        writer.write(GET[:-2])
        await until(lambda: "waiting" in repr(next(iter(side.listener.side.connections))))
        for _ in range(int(REQUEST_S) + 6):
            writer.write(b"x: y\r\n")
            await writer.drain()
            await side.clock.advance(1)
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/v1/titles?q=a%20b", "/v1/titles", b"q=a%20b"),
        (b"/v1/t%C3%A9%2Fa", "/v1/té/a", b""),
        (b"http://a:80/v1?x", "/v1", b"x"),
        (b"http://a", "/", b""),
        (b"*", "*", b""),
    ],
)
def test_a_target_is_a_decoded_path_and_a_raw_query(target: bytes, path: str, query: bytes) -> None:
    assert located(target) == (path, query)


def test_an_answer_tells_its_length_once() -> None:
    assert written(Reply(b"{}")) == (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    )
    assert written(Reply(status=204), keep=False) == (
        b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"
    )
