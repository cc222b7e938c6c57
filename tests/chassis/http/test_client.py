"""The coroutine client: answers, streams, timeouts, cancellation and the one harmless retry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from chassis.clock import ManualClock
from chassis.deadline import Deadline
from chassis.errors import (
    BulkheadFull,
    ConnectFailed,
    DeadlineExceeded,
    Faulty,
    OriginGarbled,
    OriginReset,
    OriginTimeout,
    StagedoorError,
)
from chassis.http.client import Client
from chassis.http.pool import PoolLimits
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
    answers,
    eventually,
)

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def url(peer: Scripted, target: str = "/a?b=c") -> str:
    return f"http://{peer.host}:{peer.port}{target}"


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_whole_answer() -> None:
    async with Scripted(
        answers(b"HTTP/1.1 404 Gone\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nno")
    ) as peer:
        client = Client()
        response = await client.request("GET", url(peer), headers=[(b"accept", b"*/*")])
        assert (response.status, response.reason, response.body) == (404, b"Gone", b"no")
        assert response.header(b"x-a") == b"1" and response.header(b"x-b") is None
        host = f"{peer.host}:{peer.port}".encode()
        assert peer.received == b"GET /a?b=c HTTP/1.1\r\nhost: " + host + b"\r\naccept: */*\r\n\r\n"
        await client.close()


async def test_a_target_may_be_left_out() -> None:
    async with Scripted(answers()) as peer:
        client = Client()
        await client.request("GET", url(peer, ""))
        assert peer.received.startswith(b"GET / HTTP/1.1\r\n")
        await client.close()


async def test_a_body_of_bytes_says_its_length() -> None:
    async with Scripted([Reads(b"hello"), Sends(OK)]) as peer:
        client = Client()
        await client.request("POST", url(peer), body=b"hello")
        assert b"\r\ncontent-length: 5\r\n\r\nhello" in peer.received
        await client.close()


async def test_a_post_without_a_body_says_so() -> None:
    async with Scripted(answers()) as peer:
        client = Client()
        await client.request("POST", url(peer))
        assert b"\r\ncontent-length: 0\r\n" in peer.received
        await client.close()


async def test_a_body_in_pieces_is_chunked_and_its_connection_kept() -> None:
    async with Scripted([Repeats([Reads(b"0\r\n\r\n"), Sends(OK)])]) as peer:
        client = Client()
        for _ in range(2):
            await client.request("PUT", url(peer), body=pieces(b"ab", b"", b"c"))
        assert b"chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n" in peer.received
        assert len(peer.connections) == 1
        await client.close()


async def test_a_body_in_pieces_of_known_length_is_sent_plain() -> None:
    async with Scripted([Repeats([Reads(b"\r\n\r\nabc"), Sends(OK)])]) as peer:
        client = Client()
        for _ in range(2):
            length = [(b"Content-Length", b"3")]
            await client.request("PUT", url(peer), headers=length, body=pieces(b"ab", b"c"))
        assert len(peer.connections) == 1
        await client.close()


@pytest.mark.parametrize("parts", [(b"ab",), (b"ab", b"cd")])
async def test_a_body_that_differs_from_its_stated_length_is_never_sent_as_complete(
    parts: tuple[bytes, ...],
) -> None:
    async with Scripted([Reads(b"never")]) as peer:
        client = Client()
        with pytest.raises(Faulty, match="content-length"):
            await client.request(
                "PUT", url(peer), headers=[(b"content-length", b"3")], body=pieces(*parts)
            )
        assert b"abcd" not in peer.received
        await eventually(lambda: peer.connections[0].ended)


async def test_a_body_that_breaks_ends_the_request_with_its_own_exception() -> None:
    closed = asyncio.Event()

    async def breaks() -> AsyncIterator[bytes]:
        try:
            yield b"a"
            raise ZeroDivisionError
        finally:
            closed.set()

    async with Scripted([Reads(b"never")]) as peer:
        with pytest.raises(ZeroDivisionError):
            await Client().request("PUT", url(peer), body=breaks())
        await eventually(lambda: peer.connections[0].ended)
        assert closed.is_set() and b"0\r\n\r\n" not in peer.received


async def test_an_early_answer_stops_the_body_and_the_connection_is_not_kept() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0)
        finally:
            closed.set()

    refused = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
    async with Scripted([Reads(), Sends(refused)]) as peer:
        client = Client()
        response = await client.request("PUT", url(peer), body=endless())
        assert response.status == 413
        await asyncio.wait_for(closed.wait(), 5)
        await eventually(lambda: peer.connections[0].ended)


async def test_an_early_answer_does_not_wait_for_a_body_that_does_not_come() -> None:
    closed = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await asyncio.Event().wait()
        finally:
            closed.set()

    refused = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
    async with Scripted([Reads(), Sends(refused)]) as peer:
        assert (await Client().request("PUT", url(peer), body=stuck())).status == 413
        await asyncio.wait_for(closed.wait(), 5)


async def test_both_directions_stream_at_once() -> None:
    echoed: asyncio.Queue[bytes] = asyncio.Queue()

    async def turns() -> AsyncIterator[bytes]:
        yield b"one"
        assert await echoed.get() == b"1"
        yield b"two"

    script: list[Step] = [
        Reads(b"one"),
        Sends(CHUNKED + b"1\r\n1\r\n"),
        Reads(b"0\r\n\r\n"),
        Sends(b"1\r\n2\r\n0\r\n\r\n"),
    ]
    async with Scripted(script) as peer:
        client = Client()
        heard = []
        async with client.stream("POST", url(peer), body=turns()) as answer:
            assert answer.status == 200
            async for piece in answer:
                heard.append(piece)
                echoed.put_nowait(piece)
        assert heard == [b"1", b"2"]
        await client.close()


async def test_a_stream_left_early_closes_its_connection() -> None:
    async with Scripted([Reads(), Sends(CHUNKED + b"1\r\na\r\n")]) as peer:
        client = Client()
        async with client.stream("GET", url(peer)) as answer:
            assert await answer.read() == b"a"
        await eventually(lambda: peer.connections[0].ended)


async def test_a_stream_read_to_its_end_keeps_its_connection() -> None:
    body = CHUNKED + b"1\r\na\r\n0\r\nX-T: 1\r\n\r\n"
    async with Scripted(answers(body)) as peer:
        client = Client()
        for _ in range(2):
            async with client.stream("GET", url(peer)) as answer:
                assert [piece async for piece in answer] == [b"a"]
                assert answer.trailers == [(b"X-T", b"1")]
        assert len(peer.connections) == 1
        await client.close()


async def test_a_slow_reader_of_a_long_stream_loses_nothing() -> None:
    total = 4 << 20
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total
    async with Scripted([Reads(), Sends(head), Floods(total)]) as peer:
        client = Client()
        size = 0
        async with client.stream("GET", url(peer)) as answer:
            async for piece in answer:
                size += len(piece)
                assert len(piece) < 1 << 20
                await asyncio.sleep(0)
        assert size == total
        await client.close()


async def test_a_stream_cut_short_gives_what_came_and_then_the_failure() -> None:
    script: list[Step] = [Reads(), Sends(CHUNKED + b"1\r\na\r\n"), Closes()]
    async with Scripted(script) as peer, Client().stream("GET", url(peer)) as answer:
        assert await answer.read() == b"a"
        with pytest.raises(OriginReset):
            await answer.read()


async def test_an_answer_longer_than_the_limit_is_refused() -> None:
    async with Scripted([Reads(), Sends(CHUNKED), Floods(1 << 20, b"1\r\na\r\n")]) as peer:
        with pytest.raises(OriginGarbled, match="longer than 10 bytes"):
            await Client().request("GET", url(peer), limit=10)
        await eventually(lambda: peer.connections[0].ended)


async def test_no_head_in_time_is_a_timeout_and_closes_the_connection() -> None:
    clock = ManualClock()
    async with Scripted([Reads()]) as peer:
        client = Client(clock=clock)
        task = asyncio.create_task(client.request("GET", url(peer), first_byte_s=2))
        await eventually(lambda: bool(peer.received))
        clock.tick(2)
        with pytest.raises(OriginTimeout, match="2 s"):
            await task
        await eventually(lambda: peer.connections[0].ended)


async def test_a_head_in_time_leaves_the_body_until_the_deadline() -> None:
    clock = ManualClock()
    async with Scripted([Reads(), Sends(OK[:-1])]) as peer:
        client = Client(clock=clock)
        deadline = Deadline.after(clock, 10)
        async with client.stream("GET", url(peer), first_byte_s=2, deadline=deadline) as answer:
            clock.tick(2)
            assert await answer.read() == b"o"
            clock.tick(8)
            with pytest.raises(DeadlineExceeded):
                await answer.read()


async def test_the_deadline_bounds_a_whole_request() -> None:
    clock = ManualClock()
    async with Scripted([Reads(), Sends(OK[:-1])]) as peer:
        client = Client(clock=clock)
        asking = client.request("GET", url(peer), deadline=Deadline.after(clock, 1))
        task = asyncio.create_task(asking)
        await eventually(lambda: bool(peer.received))
        clock.tick(1)
        with pytest.raises(DeadlineExceeded):
            await task


async def test_nothing_is_sent_behind_the_deadline() -> None:
    clock = ManualClock()
    async with Scripted(answers()) as peer:
        with pytest.raises(DeadlineExceeded):
            await Client(clock=clock).request("GET", url(peer), deadline=Deadline.after(clock, 0))
        assert peer.connections == []


async def test_a_refused_connect_is_told_as_such() -> None:
    async with Scripted() as peer:
        gone = url(peer)
    with pytest.raises(ConnectFailed):
        await Client().request("GET", gone)


async def test_a_full_pool_is_told_as_such() -> None:
    async with Scripted([Reads(), Sends(CHUNKED)]) as peer:
        client = Client(limits=PoolLimits(connections=1, wait_s=0.01))
        async with client.stream("GET", url(peer)):
            with pytest.raises(BulkheadFull):
                await client.request("GET", url(peer))


@pytest.mark.parametrize("turns", range(6))
async def test_cancelling_at_any_await_gives_everything_back(turns: int) -> None:
    async with Scripted([Reads()]) as peer:
        client = Client()
        task = asyncio.create_task(client.request("GET", url(peer)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: ", 0 open" in repr(client) or "[]" in repr(client))


async def test_cancelling_while_the_answer_is_awaited_closes_the_connection() -> None:
    async with Scripted([Reads()]) as peer:
        client = Client()
        task = asyncio.create_task(client.request("GET", url(peer)))
        await eventually(lambda: bool(peer.received))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: peer.connections[0].ended and ", 0 open" in repr(client))


async def kept_then_ended(peer: Scripted, client: Client, go: asyncio.Event, method: str) -> int:
    """A request on a connection whose peer ends it when it has read the request."""
    await client.request("GET", url(peer))
    go.set()
    return (await client.request(method, url(peer))).status


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_a_kept_connection_that_ends_is_replaced_for_what_may_be_repeated(
    method: str,
) -> None:
    go = asyncio.Event()
    first: list[Step] = [Reads(), Sends(OK), Holds(go), Reads(), Closes()]
    async with Scripted(first, answers()) as peer:
        client = Client()
        assert await kept_then_ended(peer, client, go, method) == 200
        assert len(peer.connections) == 2
        await client.close()


@pytest.mark.parametrize("ending", [Closes(), Resets()])
async def test_a_post_that_may_have_been_read_is_sent_once(ending: Step) -> None:
    go = asyncio.Event()
    async with Scripted([Reads(), Sends(OK), Holds(go), Reads(), ending], answers()) as peer:
        client = Client()
        with pytest.raises(OriginReset) as failed:
            await kept_then_ended(peer, client, go, "POST")
        assert failed.value.sent and peer.received.count(b"POST") == 1


async def test_an_answer_that_has_begun_is_not_asked_for_again() -> None:
    first: list[Step] = [Reads(), Sends(OK), Reads(), Sends(OK[:-1]), Closes()]
    async with Scripted(first, answers()) as peer:
        client = Client()
        await client.request("GET", url(peer))
        with pytest.raises(OriginReset):
            await client.request("GET", url(peer))
        assert len(peer.connections) == 1


async def test_a_new_connection_that_ends_is_not_tried_again() -> None:
    async with Scripted([Reads(), Closes()]) as peer:
        with pytest.raises(OriginReset):
            await Client().request("GET", url(peer))
        assert len(peer.connections) == 1


@pytest.mark.parametrize(
    ("method", "target", "header"),
    [
        ("GET", "/a b", (b"x", b"1")),
        ("GET", "/a\r\nx: 1", (b"x", b"1")),
        ("GET", "/a#b", (b"x", b"1")),
        ("GET", "/é", (b"x", b"1")),
        ("GE T", "/", (b"x", b"1")),
        ("GET", "/", (b"x y", b"1")),
        ("GET", "/", (b"x", b"1\r\ny: 2")),
        ("GET", "/", (b"transfer-encoding", b"chunked")),
        ("GET", "/", (b"content-length", b"4")),
    ],
)
async def test_what_would_be_read_as_something_else_is_not_sent(
    method: str, target: str, header: tuple[bytes, bytes]
) -> None:
    async with Scripted(answers()) as peer:
        with pytest.raises(StagedoorError):
            await Client().request(method, url(peer, target), headers=[header])
        assert peer.connections == []


@pytest.mark.parametrize(
    "wrong", ["ftp://a/", "a/b", "http:///x", "http://u:p@a/", "http://a?b/", "http://a#b"]
)
async def test_an_origin_that_is_none_is_told(wrong: str) -> None:
    with pytest.raises(Faulty):
        await Client().request("GET", wrong)


async def test_a_switch_of_protocols_nobody_can_use_is_garbled() -> None:
    switched = b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    async with Scripted([Reads(), Sends(switched)]) as peer:
        headers = [(b"upgrade", b"x"), (b"connection", b"upgrade")]
        with pytest.raises(OriginGarbled, match="switches"):
            await Client().request("GET", url(peer), headers=headers)
        await eventually(lambda: peer.connections[0].ended)
