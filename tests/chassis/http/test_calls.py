"""Calls in our own shape: recognised whole, and answered as if they had come the general way."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.contracts.wire import Call, Wire
from chassis.errors import NotFound
from chassis.http import calls
from chassis.http.api import Request
from chassis.http.serving import Listener, bind
from chassis.service import Chassis, Service
from tests.support.services import InProcess, in_process
from tests.support.waiting import until

TRACE = b"00-%b-%b-01" % (b"a" * 32, b"b" * 16)


class Echo(Wire, frozen=True):
    said: str


ECHO = Call("things", "echo", Echo, Echo)
WAIT = Call("things", "wait", Echo, Echo)
TELL = Call("things", "tell", Echo, Echo)


class Things:
    """A service whose calls are answered at once, after a wait, and with what they brought."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.began = 0

    async def build(self, chassis: Chassis) -> Service:
        api = chassis.api()
        api.call(ECHO, self.echo, at_once=True)
        api.call(WAIT, self.wait, at_once=True)
        api.call(TELL, self.tell)
        return Service(api)

    async def echo(self, request: Request, body: Echo) -> Echo:
        if body.said == "nobody":
            raise NotFound("nobody said that", code="nobody")
        if body.said == "broken":
            raise RuntimeError("a defect")
        return body

    async def wait(self, request: Request, body: Echo) -> Echo:
        self.began += 1
        await asyncio.sleep(0)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.began -= 1
            raise
        async with asyncio.timeout(1):  # it is in a task by now
            await asyncio.sleep(0)
        return body

    async def tell(self, request: Request, body: Echo) -> Echo:
        context = request.context
        left_s = context.deadline.remaining()
        trace = context.trace
        return Echo(said=f"{trace.trace_id[0]} {trace.parent_id} {left_s:g} {request.headers}")


class Side:
    def __init__(self, things: Things, service: InProcess) -> None:
        self.things = things
        self.service = service
        self.listener = Listener(service.service.app, bind("127.0.0.1", 0))

    async def ask(self, call: Call[Any, Any], said: str, **head: Any) -> tuple[bytes, bytes]:
        """Head and body of the answer to a call in our own shape."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.listener.port)
        writer.write(written(call.path, said, **head))
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", answer)[1])  # type: ignore[index]
        body = await reader.readexactly(length)
        writer.close()
        return answer, body


def written(
    path: str,
    said: str,
    *,
    timeout: bytes | None = b"300",
    passport: bytes = b"",
    trace: bytes = TRACE,
) -> bytes:
    start = calls.call_start(path, "127.0.0.1:80")
    return calls.written_call(start, b'{"said":"%b"}' % said.encode(), trace, timeout, passport)


@pytest.fixture
async def side(tmp_path: Path) -> AsyncIterator[Side]:
    things = Things()
    async with in_process("things", things.build, tmp_path) as service:
        side = Side(things, service)
        await side.listener.start()
        yield side
        await side.listener.drain(0)


async def test_a_call_is_answered_at_once(side: Side) -> None:
    head, body = await side.ask(ECHO, "hello")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and body == b'{"said":"hello"}'


async def test_failures_are_problems(side: Side) -> None:
    head, body = await side.ask(ECHO, "nobody")
    assert head.startswith(b"HTTP/1.1 404 ") and b'"code":"nobody"' in body
    head, body = await side.ask(ECHO, "broken")
    assert head.startswith(b"HTTP/1.1 500 ") and b"defect" not in body
    head, body = await side.ask(ECHO, '"')
    assert head.startswith(b"HTTP/1.1 400 ") and b"JSON" in body


async def test_what_waits_after_all_is_answered_when_it_is_done(side: Side) -> None:
    asking = asyncio.ensure_future(side.ask(WAIT, "later"))
    await until(lambda: side.things.began)
    assert await side.ask(ECHO, "meanwhile")
    side.things.go.set()
    assert (await asking)[1] == b'{"said":"later"}'


async def test_what_waits_after_all_can_be_cut(side: Side) -> None:
    asking = asyncio.ensure_future(side.ask(WAIT, "never"))
    await until(lambda: side.things.began)
    await side.listener.drain(0.01)
    assert side.things.began == 0
    assert (await asking)[0].startswith(b"HTTP/1.1 500 ")


async def test_what_the_head_tells_is_there_for_whoever_asks(side: Side) -> None:
    _, body = await side.ask(TELL, "x", timeout=b"250")
    assert body.decode() == f'{{"said":"a {"b" * 16} 0.25 []"}}'


async def test_a_call_that_nobody_waits_for_is_not_begun(side: Side) -> None:
    head, body = await side.ask(ECHO, "late", timeout=b"0")
    assert head.startswith(b"HTTP/1.1 504 ") and b'"code":"deadline"' in body


async def test_calls_are_counted_and_traced_like_all_requests(side: Side) -> None:
    await side.ask(ECHO, "hello")
    telemetry = side.service.chassis.telemetry
    (span,) = telemetry.trace("a" * 32)
    assert (span["name"], span["parent_id"], span["outcome"]) == ("echo", "b" * 16, "success")
    shown = telemetry.metrics.render().decode()
    assert 'service_requests_total{code="200",operation="echo",outcome="success"} 1.0' in shown


async def test_an_unknown_call_is_a_404(side: Side) -> None:
    head, _ = await side.ask(Call("things", "nothing", Echo, Echo), "x")
    assert head.startswith(b"HTTP/1.1 404 ")


async def test_a_call_at_the_drain_ends_its_connection(side: Side) -> None:
    asking = asyncio.ensure_future(side.ask(WAIT, "last"))
    await until(lambda: side.things.began)
    draining = asyncio.ensure_future(side.listener.drain(60))
    await asyncio.sleep(0)
    side.things.go.set()
    assert b"connection: close\r\n" in (await asking)[0]
    await asyncio.wait_for(draining, 5)


PARTS = {
    "another method": (b"POST", b"PUT"),
    "another version": (b"HTTP/1.1", b"HTTP/1.0"),
    "no host": (b"host: 127.0.0.1:80\r\n", b""),
    "two hosts": (b"host: 127.0.0.1:80\r\n", b"host: a\r\nhost: b\r\n"),
    "another field": (b"\r\n\r\n", b"\r\ntransfer-encoding: chunked\r\n\r\n"),
    "a signed length": (b"content-length: ", b"content-length: +"),
    "a padded length": (b"content-length: ", b"content-length: 0"),
    "a bare line feed": (b"\r\n", b"\n"),
    "a blank before the colon": (b"content-length:", b"content-length :"),
    "a line break in the passport": (b"x-passport: abc", b"x-passport: a\r\nb: c"),
    "a timeout that is none": (b": 300", b": 3e2"),
    "a trace that is none": (b"-01\r\n", b"-1\r\n"),
}


@pytest.mark.parametrize(("old", "new"), PARTS.values(), ids=PARTS)
def test_whatever_differs_goes_the_general_way(old: bytes, new: bytes) -> None:
    plain = written("/call/echo", "x", passport=b"abc")
    assert calls.recognised(plain) and old in plain
    match = calls.recognised(plain.replace(old, new, 1))
    assert match is None


@given(
    said=st.text("abc ", max_size=50),
    timeout=st.none() | st.integers(0, 10**9 - 1).map(lambda ms: b"%d" % ms),
    passport=st.text("abcXYZ019-_.", max_size=40).map(str.encode),
)
def test_what_is_written_is_recognised_as_it_was(
    said: str, timeout: bytes | None, passport: bytes
) -> None:
    data = written("/call/up_next", said, timeout=timeout, passport=passport)
    match = calls.recognised(data)
    assert match is not None
    path, length, *told = match.groups()
    asked = calls.asked(*told)
    assert (path, asked.traceparent, asked.passport) == (b"/call/up_next", TRACE, passport)
    assert asked.timeout_s == (float("inf") if timeout is None else int(timeout) / 1000)
    assert data[match.end() :] == b'{"said":"%b"}' % said.encode() and len(
        data
    ) == match.end() + int(length)
