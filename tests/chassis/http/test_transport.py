"""What httpx's users expect of a transport. Where the stock one can, it faces the same cases."""

# ruff: noqa: SIM117  # a peer outlives its client, and nesting shows it

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from chassis.clock import ManualClock
from chassis.http.pool import PoolLimits
from chassis.http.pools import Pools
from chassis.http.transport import Transport
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

Make = Callable[[], httpx.AsyncBaseTransport]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(params=["ours", "stock"])
def make(request: pytest.FixtureRequest) -> Make:
    """Both transports, so that our idea of what httpx does is httpx's own."""
    return Transport if request.param == "ours" else httpx.AsyncHTTPTransport


def base(peer: Scripted) -> str:
    return f"http://{peer.host}:{peer.port}"


async def upload(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_request_arrives_as_httpx_wrote_it(make: Make) -> None:
    async with Scripted(answers()) as peer:
        async with httpx.AsyncClient(transport=make(), headers={"user-agent": "t"}) as client:
            response = await client.get(base(peer) + "/a%20b?c=d&e", headers={"X-Case": "Kept"})
        assert (response.status_code, response.text) == (200, "ok")
        assert peer.received.startswith(b"GET /a%20b?c=d&e HTTP/1.1\r\n")
        assert b"\r\nX-Case: Kept\r\n" in peer.received
        assert peer.received.count(b"\r\nHost: ") == 1


async def test_the_answers_version_reason_and_headers_are_told(make: Make) -> None:
    answer = b"HTTP/1.1 299 Quite Fine\r\nX: 1\r\nx: 2\r\nContent-Length: 0\r\n\r\n"
    async with Scripted(answers(answer)) as peer:
        async with httpx.AsyncClient(transport=make()) as client:
            response = await client.get(base(peer))
    assert (response.reason_phrase, response.http_version) == ("Quite Fine", "HTTP/1.1")
    assert response.headers.get_list("x") == ["1", "2"]
    assert response.extensions["reason_phrase"] == b"Quite Fine"


async def test_an_old_answer_is_told_as_old(make: Make) -> None:
    async with Scripted([Reads(), Sends(b"HTTP/1.0 200 OK\r\n\r\nall"), Closes()]) as peer:
        async with httpx.AsyncClient(transport=make()) as client:
            response = await client.get(base(peer))
    assert (response.http_version, response.text) == ("HTTP/1.0", "all")


async def test_connections_are_kept_between_requests(make: Make) -> None:
    async with Scripted(answers()) as peer:
        async with httpx.AsyncClient(transport=make()) as client:
            for _ in range(3):
                await client.get(base(peer))
        assert len(peer.connections) == 1
        await eventually(lambda: peer.connections[0].ended)


async def test_bodies_of_each_kind_arrive_whole(make: Make) -> None:
    script: list[Step] = [
        Reads(b'{"a":1}'),
        Sends(OK),
        Reads(b"\r\n\r\na=1"),
        Sends(OK),
        Reads(b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        Sends(OK),
    ]
    async with Scripted(script) as peer:
        async with httpx.AsyncClient(transport=make()) as client:
            await client.post(base(peer), json={"a": 1})
            await client.post(base(peer), data={"a": "1"})
            await client.post(base(peer), content=upload(b"ab", b"c"))
        assert len(peer.connections) == 1


async def test_a_large_body_arrives_whole(make: Make) -> None:
    body = b"x" * (3 << 20)
    async with Scripted([Reads(body), Sends(OK)]) as peer:
        async with httpx.AsyncClient(transport=make()) as client:
            assert (await client.put(base(peer), content=body)).status_code == 200


async def test_a_stream_comes_piece_by_piece(make: Make) -> None:
    go = asyncio.Event()
    script: list[Step] = [
        Reads(),
        Sends(CHUNKED + b"3\r\none\r\n"),
        Holds(go),
        Sends(b"3\r\ntwo\r\n0\r\n\r\n"),
    ]
    async with (
        Scripted(script) as peer,
        httpx.AsyncClient(transport=make()) as client,
        client.stream("GET", base(peer)) as response,
    ):
        pieces = response.aiter_raw()
        assert await anext(pieces) == b"one"
        go.set()
        assert [piece async for piece in pieces] == [b"two"]


async def test_a_stream_left_early_closes_its_connection(make: Make) -> None:
    async with Scripted([Reads(), Sends(CHUNKED + b"1\r\na\r\n")]) as peer:
        async with httpx.AsyncClient(transport=make()) as client:
            async with client.stream("GET", base(peer)) as response:
                assert response.status_code == 200
            await eventually(lambda: peer.connections[0].ended)


async def test_a_head_answer_has_no_body_and_keeps_the_connection(make: Make) -> None:
    async with Scripted(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")) as peer:
        async with httpx.AsyncClient(transport=make()) as client:
            for _ in range(2):
                response = await client.head(base(peer))
                assert (response.content, response.headers["content-length"]) == (b"", "5")
        assert len(peer.connections) == 1


async def test_interim_answers_are_passed_over(make: Make) -> None:
    async with Scripted([Reads(), Sends(b"HTTP/1.1 103 Hints\r\nLink: a\r\n\r\n" + OK)]) as peer:
        async with httpx.AsyncClient(transport=make()) as client:
            assert (await client.get(base(peer))).status_code == 200


async def test_redirects_and_decoding_stay_httpxs_business(make: Make) -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n"
    async with Scripted([Reads(), Sends(moved), Reads(), Sends(OK)]) as peer:
        async with httpx.AsyncClient(transport=make(), follow_redirects=True) as client:
            response = await client.get(base(peer) + "/a")
    assert response.url.path == "/b" and len(response.history) == 1


async def test_nobody_listening_is_a_connect_error(make: Make) -> None:
    async with Scripted() as peer:
        gone = base(peer)
    async with httpx.AsyncClient(transport=make()) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(gone)


async def test_a_connect_that_takes_too_long_is_a_connect_timeout(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        host, port = deaf.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex((host, port))
        timeout = httpx.Timeout(5, connect=0.05)
        async with httpx.AsyncClient(transport=make(), timeout=timeout) as client:
            with pytest.raises(httpx.ConnectTimeout):
                await client.get(f"http://{host}:{port}/")
        for filler in fillers:
            filler.close()


async def test_no_head_in_time_is_a_read_timeout(make: Make) -> None:
    async with Scripted([Reads()]) as peer:
        timeout = httpx.Timeout(5, read=0.05)
        async with httpx.AsyncClient(transport=make(), timeout=timeout) as client:
            with pytest.raises(httpx.ReadTimeout) as failed:
                await client.get(base(peer))
            assert failed.value.request.url == base(peer)
        await eventually(lambda: peer.connections[0].ended)


async def test_a_body_that_stalls_is_a_read_timeout(make: Make) -> None:
    async with Scripted([Reads(), Sends(OK[:-1])]) as peer:
        timeout = httpx.Timeout(5, read=0.05)
        async with httpx.AsyncClient(transport=make(), timeout=timeout) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(base(peer))


async def test_a_peer_that_stops_reading_is_a_write_timeout(make: Make) -> None:
    async with Scripted([Reads(), StopsReading()]) as peer:
        timeout = httpx.Timeout(5, write=0.05)
        async with httpx.AsyncClient(transport=make(), timeout=timeout) as client:
            with pytest.raises(httpx.WriteTimeout):
                await client.put(base(peer), content=b"x" * (32 << 20))


async def test_a_long_upload_is_no_read_timeout() -> None:
    """The read timeout begins when the request has been sent."""
    clock = ManualClock()

    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        clock.tick(60)

    async with Scripted([Reads(b"0\r\n\r\n"), Sends(OK)]) as peer:
        transport = Transport(clock=clock)
        async with httpx.AsyncClient(transport=transport, timeout=5) as client:
            assert (await client.put(base(peer), content=slow())).status_code == 200


async def test_a_full_pool_is_a_pool_timeout() -> None:
    transport = Transport(limits=PoolLimits(connections=1))
    timeout = httpx.Timeout(5, pool=0.05)
    async with (
        Scripted([Reads(), Sends(CHUNKED)]) as peer,
        httpx.AsyncClient(transport=transport, timeout=timeout) as client,
        client.stream("GET", base(peer)),
    ):
        with pytest.raises(httpx.PoolTimeout):
            await client.get(base(peer))


async def test_callers_beyond_the_limit_take_turns() -> None:
    transport = Transport(limits=PoolLimits(connections=2))
    async with Scripted(answers()) as peer:
        async with httpx.AsyncClient(transport=transport) as client:
            asked = (client.get(base(peer)) for _ in range(10))
            assert {r.status_code for r in await asyncio.gather(*asked)} == {200}
        assert len(peer.connections) == 2


async def test_a_peer_that_leaves_without_an_answer_is_a_protocol_error(make: Make) -> None:
    async with Scripted([Reads(), Closes()]) as peer:
        async with httpx.AsyncClient(transport=make()) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post(base(peer))


async def test_a_reset_is_a_read_error(make: Make) -> None:
    async with Scripted([Reads(), Resets()]) as peer:
        async with httpx.AsyncClient(transport=make()) as client:
            with pytest.raises(httpx.ReadError):
                await client.post(base(peer))


async def test_a_body_cut_short_is_a_protocol_error(make: Make) -> None:
    async with Scripted([Reads(), Sends(OK[:-1]), Closes()]) as peer:
        async with httpx.AsyncClient(transport=make()) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(base(peer))


async def test_an_answer_that_is_not_http_is_a_protocol_error(make: Make) -> None:
    async with Scripted([Reads(), Sends(b"SSH-2.0-OpenSSH\r\n\r\n")]) as peer:
        async with httpx.AsyncClient(transport=make()) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(base(peer))


@pytest.mark.parametrize(
    "headers", [{"content-length": "5"}, {"x": "a\r\nb: c"}, {"content-length": "x"}]
)
async def test_a_request_that_cannot_be_written_is_a_local_error(headers: dict[str, str]) -> None:
    async with Scripted(answers()) as peer:
        async with httpx.AsyncClient(transport=Transport()) as client:
            with pytest.raises(httpx.LocalProtocolError):
                await client.post(base(peer), content=b"ab", headers=headers)
        assert peer.connections == []


async def test_another_scheme_is_told(make: Make) -> None:
    request = httpx.Request("GET", "ftp://127.0.0.1/")
    with pytest.raises(httpx.UnsupportedProtocol):
        await make().handle_async_request(request)


async def test_what_an_upload_raises_passes_through(make: Make) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield b"a"
        raise ZeroDivisionError

    async with Scripted([Reads(b"never")]) as peer:
        async with httpx.AsyncClient(transport=make()) as client:
            with pytest.raises(ZeroDivisionError):
                await client.put(base(peer), content=breaks())
        await eventually(lambda: all(link.ended for link in peer.connections))


async def test_cancelling_closes_the_connection(make: Make) -> None:
    async with Scripted([Reads()]) as peer:
        async with httpx.AsyncClient(transport=make()) as client:
            task = asyncio.create_task(client.get(base(peer)))
            await eventually(lambda: bool(peer.received))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await eventually(lambda: peer.connections[0].ended)


async def test_cancelling_amid_a_body_closes_the_connection(make: Make) -> None:
    async with Scripted([Reads(), Sends(CHUNKED + b"1\r\na\r\n")]) as peer:
        async with httpx.AsyncClient(transport=make()) as client:
            task = asyncio.create_task(client.get(base(peer)))
            await eventually(lambda: bool(peer.received))
            for _ in range(20):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await eventually(lambda: peer.connections[0].ended)


async def test_a_slow_reader_of_a_long_answer_loses_nothing(make: Make) -> None:
    total = 4 << 20
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total
    async with Scripted([Reads(), Sends(head), Floods(total)]) as peer:
        async with httpx.AsyncClient(transport=make()) as client:
            size = 0
            async with client.stream("GET", base(peer)) as response:
                async for piece in response.aiter_raw():
                    size += len(piece)
                    await asyncio.sleep(0)
    assert size == total


async def test_both_directions_stream_at_once() -> None:
    """More than the stock transport can: it sends the whole body before it reads."""
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
    async with Scripted(script) as peer, httpx.AsyncClient(transport=Transport()) as client:
        async with client.stream("POST", base(peer), content=turns()) as response:
            heard = []
            async for piece in response.aiter_raw():
                heard.append(piece)
                echoed.put_nowait(piece)
    assert heard == [b"1", b"2"]


async def test_a_kept_connection_that_ended_is_replaced_for_what_may_be_repeated() -> None:
    first: list[Step] = [Reads(), Sends(OK), Reads(), Closes()]
    async with Scripted(first, answers()) as peer:
        async with httpx.AsyncClient(transport=Transport()) as client:
            for _ in range(2):
                assert (await client.get(base(peer))).status_code == 200
        assert len(peer.connections) == 2


async def test_a_chunked_header_on_a_whole_body_frames_it(make: Make) -> None:
    async with Scripted([Repeats([Reads(b"2\r\nab\r\n0\r\n\r\n"), Sends(OK)])]) as peer:
        async with httpx.AsyncClient(transport=make()) as client:
            for _ in range(2):
                await client.post(
                    base(peer), content=b"ab", headers={"transfer-encoding": "chunked"}
                )
        assert len(peer.connections) == 1


async def test_shared_pools_outlive_the_transport() -> None:
    pools = Pools()
    async with Scripted(answers()) as peer:
        for _ in range(2):
            async with httpx.AsyncClient(transport=Transport(pools=pools)) as client:
                await client.get(base(peer))
        assert len(peer.connections) == 1
        await pools.close()
        await eventually(lambda: peer.connections[0].ended)
