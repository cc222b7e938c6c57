"""What goes through: byte for byte, in order, however it arrives."""

import asyncio
import re
from pathlib import Path

import pytest

from tests.support.gateways import GET, Raw, fields_of, one_rule, running, status_of
from tests.support.scripted import (
    OK,
    Closes,
    Floods,
    Holds,
    Reads,
    Repeats,
    Scripted,
    Sends,
    Step,
    answers,
    eventually,
)

POST = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'3;x="y"\r\nabc\r\n02\r\nde\r\n0\r\nX-Sum: 1\r\nX-Passport: forged\r\n\r\n'
)


def dechunked(body: bytes) -> bytes:
    out = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return out
        out, body = out + body[:length], body[length + 2 :]


async def test_the_head_that_an_instance_sees(tmp_path: Path) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port, timeout_s="3")) as worker,
        Raw(worker.port) as client,
    ):
        client.send(
            b"GET /a%2f?b=%20 HTTP/1.1\r\nHost: A.example:80\r\nX-One: 1\r\nCookie: a=b\r\n"
            b"X-One:  2 \r\nConnection: x-hop\r\nX-Hop: h\r\nX-Passport: forged\r\n"
            b"X-Forwarded-For: 6.6.6.6\r\nX-Request-Timeout-Ms: 9999999\r\n\r\n"
        )
        await client.answer()
    trace = re.search(rb"00-([0-9a-f]{32})-[0-9a-f]{16}-01", upstream.received)
    assert trace is not None
    assert upstream.received == (
        b"GET /a%2f?b=%20 HTTP/1.1\r\nhost: A.example:80\r\nx-one: 1\r\ncookie: a=b\r\nx-one: 2\r\n"
        b"traceparent: " + trace[0] + b"\r\nx-request-id: " + trace[1] + b"\r\n"
        b"x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\n"
        b"x-forwarded-host: A.example:80\r\nx-request-timeout-ms: 3000\r\n\r\n"
    )


async def test_the_answer_that_a_client_sees(tmp_path: Path) -> None:
    answer = (
        b"HTTP/1.1 207 Whatever You Say\r\nSet-Cookie: a\r\nX-Odd: 1\r\nConnection: X-Hop\r\n"
        b"X-Hop: h\r\nKeep-Alive: timeout=5\r\nset-cookie: b\r\nX-Passport: p\r\n"
        b"Content-Length: 2\r\n\r\nok"
    )
    async with (
        Scripted(answers(answer)) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        head, body = await client.answer()
    assert head == (
        b"HTTP/1.1 207 Whatever You Say\r\nSet-Cookie: a\r\nX-Odd: 1\r\nset-cookie: b\r\n"
        b"Content-Length: 2\r\n\r\n"
    )
    assert body == b"ok"


@pytest.mark.parametrize("by", [1, 2, 3, 7])
@pytest.mark.parametrize("request_", [GET, POST, CHUNKED], ids=["get", "post", "chunked"])
async def test_a_request_split_anywhere_arrives_whole(
    by: int, request_: bytes, tmp_path: Path
) -> None:
    ends = {POST: b"hello", CHUNKED: b"0\r\nx-sum: 1\r\n\r\n"}.get(request_, b"\r\n\r\n")
    async with (
        Scripted([Reads(ends), Sends(OK)]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        for start in range(0, len(request_), by):
            client.send(request_[start : start + by])
            await asyncio.sleep(0)
        assert (await client.answer())[1] == b"ok"
        head, _, body = upstream.received.partition(b"\r\n\r\n")
    if request_ is CHUNKED:
        assert dechunked(body) == b"abcde"
        assert b"transfer-encoding: chunked" in head
        assert b"forged" not in upstream.received
    else:
        assert body == request_.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("by", [1, 50, 10_000])
async def test_pipelined_requests_are_answered_in_order(by: int, tmp_path: Path) -> None:
    """Each waits for the one before, so a single upstream connection sees them one by one."""
    steps: list[Step] = []
    for number in range(6):
        ends = b"\r\n\r\n" if number % 2 == 0 else b"hello"
        body = b"%d" % number
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + body
        steps += [Reads(ends), Sends(answer)]
    stream = (GET + POST) * 3
    async with (
        Scripted(steps) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        for start in range(0, len(stream), by):
            client.send(stream[start : start + by])
            await asyncio.sleep(0)
        assert [(await client.answer())[1] for _ in range(6)] == [b"%d" % n for n in range(6)]
        assert len(upstream.connections) == 1


async def test_a_request_pipelined_behind_a_chunked_one_is_not_part_of_it(tmp_path: Path) -> None:
    steps = [Reads(b"0\r\nx-sum: 1\r\n\r\n"), Sends(OK), Reads(), Sends(OK)]
    async with (
        Scripted(steps) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(CHUNKED + GET)
        await client.answer()
        await client.answer()
        assert upstream.received.count(b" HTTP/1.1\r\n") == 2
        assert b"\r\n\r\nGET / HTTP/1.1\r\n" in upstream.received


async def test_empty_lines_before_a_request_are_skipped(tmp_path: Path) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(b"\r\n\r\n" + GET + b"\r\n" + GET)
        await client.answer()
        await client.answer()
    assert upstream.received.startswith(b"GET ")


@pytest.mark.parametrize("method", [b"PURGE", b"get", b"X-CUSTOM", b"REPORT", b"DESCRIBE"])
async def test_any_method_goes_through(method: bytes, tmp_path: Path) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET.replace(b"GET", method))
        assert status_of((await client.answer())[0]) == 200
        client.send(GET)
        await client.answer()
    assert upstream.received.startswith(method + b" / HTTP/1.1\r\n")


@pytest.mark.parametrize("status", [200, 299, 404, 503, 600, 999])
async def test_any_status_goes_through(status: int, tmp_path: Path) -> None:
    answer = b"HTTP/1.1 %d Odd\r\nContent-Length: 0\r\n\r\n" % status
    async with (
        Scripted(answers(answer)) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        assert status_of((await client.answer())[0]) == status


async def test_head_has_a_length_and_no_body(tmp_path: Path) -> None:
    steps: list[Step] = [
        Reads(),
        Sends(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"),
        Reads(),
        Sends(OK),
    ]
    async with (
        Scripted(steps) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET.replace(b"GET", b"HEAD") + GET)
        assert fields_of(await client.head())[b"content-length"] == b"99"
        assert (await client.answer())[1] == b"ok"


@pytest.mark.parametrize("length", [b"", b"content-length: 4\r\n"])
async def test_204_and_304_have_no_body(length: bytes, tmp_path: Path) -> None:
    steps: list[Step] = [
        Reads(),
        Sends(b"HTTP/1.1 204 No Content\r\n\r\n"),
        Reads(),
        Sends(b"HTTP/1.1 304 Not Modified\r\n" + length + b"\r\n"),
        Reads(),
        Sends(OK),
    ]
    async with (
        Scripted(steps) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET + GET + GET)
        assert status_of(await client.head()) == 204
        assert status_of(await client.head()) == 304
        assert (await client.answer())[1] == b"ok"


async def test_a_chunked_answer_stays_chunked_with_its_trailers(tmp_path: Path) -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    async with (
        Scripted(answers(answer)) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        head = await client.head()
        assert fields_of(head)[b"transfer-encoding"] == b"chunked"
        end = await client.reader.readuntil(b"0\r\nX-Sum: 1\r\n\r\n")
        assert end.startswith(b"3\r\nabc\r\n")


async def test_an_answer_that_ends_with_its_connection_is_chunked_on(tmp_path: Path) -> None:
    steps: list[Step] = [Reads(), Sends(b"HTTP/1.1 200 OK\r\n\r\nabc"), Closes()]
    async with (
        Scripted(steps) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET + GET)
        assert (await client.answer())[1] == b"abc"
        assert (await client.answer())[1] == b"abc"


async def test_http_10_is_answered_without_chunks_and_closed(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with (
        Scripted(answers(answer)) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(
            GET.replace(b"1.1", b"1.0").replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")
        )
        head, _, body = (await client.rest()).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"connection: close" in head
    assert body == b"abc"


async def test_http_10_keep_alive_is_kept_when_asked_for(tmp_path: Path) -> None:
    kept = GET.replace(b"1.1", b"1.0").replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(kept)
        head, _ = await client.answer()
        assert fields_of(head)[b"connection"] == b"keep-alive"
        client.send(GET.replace(b"1.1", b"1.0"))
        assert b"connection: close" in await client.rest()


async def test_interim_answers_are_relayed_but_not_to_http_10(tmp_path: Path) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with (
        Scripted(answers(hint + OK)) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
    ):
        async with Raw(worker.port) as client:
            client.send(GET)
            assert await client.head() == hint
            assert (await client.answer())[1] == b"ok"
        async with Raw(worker.port) as client:
            client.send(GET.replace(b"1.1", b"1.0"))
            assert b"103" not in await client.rest()


async def test_expect_100_continue_is_the_instances_to_answer(tmp_path: Path) -> None:
    steps: list[Step] = [
        Reads(),
        Sends(b"HTTP/1.1 100 Continue\r\n\r\n"),
        Reads(b"hello"),
        Sends(OK),
    ]
    async with (
        Scripted(steps) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(POST[:-5].replace(b"Host", b"Expect: 100-continue\r\nHost"))
        assert status_of(await client.head()) == 100
        assert b"expect: 100-continue" in upstream.received
        client.send(b"hello")
        assert (await client.answer())[1] == b"ok"


async def test_a_final_answer_instead_of_100_ends_the_connection(tmp_path: Path) -> None:
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    async with (
        Scripted([Reads(), Sends(refusal)]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(POST[:-5].replace(b"Host", b"Expect: 100-continue\r\nHost"))
        answer = await client.rest()
    assert status_of(answer) == 403
    assert b"connection: close" in answer


async def test_options_for_everything_is_answered_here(tmp_path: Path) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
        assert b"allow" in fields_of(await client.head())
        assert (await client.answer())[1] == b"ok"
    assert b"OPTIONS" not in upstream.received


async def test_events_are_passed_on_as_they_come(tmp_path: Path) -> None:
    go = asyncio.Event()
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    steps: list[Step] = [
        Reads(),
        Sends(head),
        Sends(b"9\r\ndata: 1\n\n\r\n"),
        Holds(go),
        Sends(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"),
    ]
    async with (
        Scripted(steps) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        await client.head()
        assert await client.reader.readuntil(b"\n\n\r\n") == b"9\r\ndata: 1\n\n\r\n"
        go.set()
        assert await client.reader.readuntil(b"0\r\n\r\n") == b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"


async def test_an_upgrade_that_is_ignored_is_an_ordinary_request(tmp_path: Path) -> None:
    """Java's client asks every plain-text server for h2c, with POST bodies too."""
    asks = b"Connection: Upgrade\r\nUpgrade: h2c\r\nHost"
    steps: list[Step] = [Reads(b"hello"), Sends(OK), Reads(b"0\r\nx-sum: 1\r\n\r\n"), Sends(OK)]
    async with (
        Scripted([*steps, Repeats([Reads(), Sends(OK)])]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(POST.replace(b"Host", asks) + CHUNKED.replace(b"Host", asks))
        client.send(GET.replace(b"Host", asks) + GET)
        for _ in range(4):
            assert (await client.answer())[1] == b"ok"
    assert b"pgrade" not in upstream.received
    assert upstream.received.count(b"hello") == 1


async def test_a_slow_reader_holds_the_instance_back_and_not_our_memory(tmp_path: Path) -> None:
    total = 32 << 20
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total
    async with (
        Scripted([Reads(), Sends(head), Floods(total)]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.writer.transport.pause_reading()
        client.send(GET)
        await eventually(lambda: bool(worker.gateway.in_flight.now and _buffered(worker)))
        await asyncio.sleep(0)
        assert _buffered(worker) < 1 << 20
        client.writer.transport.resume_reading()
        await client.head()
        assert len(await client.reader.readexactly(total)) == total


def _buffered(worker: object) -> int:
    connections = worker.listener.connections  # type: ignore[attr-defined]
    return sum(connection.transport.get_write_buffer_size() for connection in connections)
