"""One upstream connection: what it tells for which bytes, and when it may be used again."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import OriginGarbled, OriginReset
from chassis.http.connection import HEAD_LIMIT, Connection
from chassis.http.pool import Address, Pool
from tests.support.scripted import (
    OK,
    Closes,
    Floods,
    Holds,
    Reads,
    ReadsAgain,
    Resets,
    Scripted,
    Sends,
    StopsReading,
    eventually,
)
from tests.support.upstream import FakeTransport, Recorder, connected

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n1\r\n!\r\n0\r\nX: 1\r\n\r\n"
)


def asked(method: bytes = b"GET", head: bytes = GET) -> tuple[Connection, FakeTransport, Recorder]:
    """A connection that waits for an answer, without any loop."""
    connection, transport = connected()
    recorder = Recorder()
    connection.start(recorder, head, method=method)
    return connection, transport, recorder


@pytest.mark.parametrize("behind", [b"\n", b"\r", b"\r\n", b"\r\n\r\n"])
@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
    ],
)
def test_line_ends_behind_an_answer_are_bytes_that_nobody_asked_for(
    method: bytes, answer: bytes, behind: bytes
) -> None:
    clean, _, recorder = asked(method)
    clean.data_received(answer)
    assert (clean.reusable, recorder.kinds[-1]) == (True, "end")
    doubtful, _, recorder = asked(method)
    doubtful.data_received(answer + behind)
    assert (doubtful.reusable, recorder.kinds[-1]) == (False, "end")


def test_the_whole_request_is_one_write() -> None:
    connection, transport = connected()
    assert connection.start(Recorder(), GET, method=b"GET", body=b"body") is True
    assert bytes(transport.written) == GET + b"body"


def test_an_answer_is_told_in_order_and_frees_the_connection() -> None:
    connection, _, recorder = asked()
    assert not connection.reusable
    connection.data_received(
        b"HTTP/1.1 200 Very Fine\r\nA: 1\r\na: 2\r\nContent-Length: 2\r\n\r\nok"
    )
    headers = [(b"A", b"1"), (b"a", b"2"), (b"Content-Length", b"2")]
    assert recorder.heard == [
        ("head", 200, b"Very Fine", headers),
        ("data", b"ok"),
        ("end", []),
    ]
    assert connection.reusable


WHOLE: list[tuple[bytes, bytes, list[str], bytes, bool]] = [
    (b"GET", OK, ["head", "data", "end"], b"ok", True),
    (b"GET", CHUNKED, ["head", "data", "end"], b"hello!", True),
    (b"GET", b"HTTP/1.1 204 No\r\n\r\n", ["head", "end"], b"", True),
    (b"GET", b"HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", ["head", "end"], b"", True),
    (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", ["head", "end"], b"", True),
    (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ["head", "end"], b"", True),
    (b"HEAD", b"HTTP/1.1 200 OK\r\n\r\n", ["head", "end"], b"", True),
    (
        b"HEAD",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ["head", "end"],
        b"",
        True,
    ),
    (
        b"GET",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: a\r\n\r\n" + OK,
        ["interim", "interim", "head", "data", "end"],
        b"ok",
        True,
    ),
    (
        b"GET",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        ["head", "data", "end"],
        b"ok",
        False,
    ),
    (
        b"GET",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ["head", "data", "end"],
        b"ok",
        False,
    ),
]


@pytest.mark.parametrize(("method", "answer", "kinds", "body", "reusable"), WHOLE)
def test_every_way_to_frame_an_answer_is_understood(
    method: bytes, answer: bytes, kinds: list[str], body: bytes, reusable: bool
) -> None:
    connection, transport, recorder = asked(method)
    connection.data_received(answer)
    assert (recorder.kinds, recorder.body) == (kinds, body)
    assert connection.reusable is reusable
    assert transport.aborted is not reusable


@given(st.sampled_from(WHOLE), st.lists(st.integers(1, 40), max_size=30))
def test_how_the_bytes_are_cut_changes_nothing(
    whole: tuple[bytes, bytes, list[str], bytes, bool], cuts: list[int]
) -> None:
    method, answer, kinds, body, _ = whole
    connection, _, recorder = asked(method)
    for size in [*cuts, len(answer)]:
        piece, answer = answer[:size], answer[size:]
        if piece:
            connection.data_received(piece)
    assert (recorder.kinds, recorder.body) == (kinds, body)


def test_trailers_come_with_the_end() -> None:
    connection, _, recorder = asked()
    connection.data_received(CHUNKED)
    assert recorder.trailers == [(b"X", b"1")]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\0\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 \x1b[31mOK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\x7f\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 199 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 103 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + OK,
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * HEAD_LIMIT + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * (HEAD_LIMIT // 20),
    ],
)
def test_an_answer_in_doubt_is_garbled_and_ends_the_connection(answer: bytes) -> None:
    connection, transport, recorder = asked()
    connection.data_received(answer)
    assert isinstance(recorder.failure, OriginGarbled), recorder.heard
    assert recorder.kinds[-1] == "failure" and recorder.kinds.count("failure") == 1
    assert transport.aborted and not connection.reusable


@pytest.mark.parametrize(
    "reason", [b"", b" ", b" OK", b" All\tis well", b" Pas trouv\xe9", b" 200"]
)
def test_any_reason_phrase_of_visible_characters_will_do(reason: bytes) -> None:
    connection, _, recorder = asked()
    connection.data_received(b"HTTP/1.1 200%b\r\nContent-Length: 2\r\n\r\nok" % reason)
    assert recorder.kinds[-1] == "end" and connection.reusable


def test_a_broken_chunk_is_told_after_the_head() -> None:
    connection, transport, recorder = asked()
    connection.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert recorder.kinds == ["head", "failure"] and transport.aborted


def test_endless_trailers_are_garbled() -> None:
    connection, _, recorder = asked()
    connection.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ")
    for _ in range(HEAD_LIMIT // 1000 + 1):
        connection.data_received(b"a" * 1000)
    assert isinstance(recorder.failure, OriginGarbled)


def test_a_long_body_is_no_long_head() -> None:
    connection, _, recorder = asked()
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000)
    assert recorder.kinds == ["head", "data", "end"] and connection.reusable


@pytest.mark.parametrize("extra", [b"H", b"x", OK, b"HTTP/1.1 200 OK\r\nX: "])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_bytes_behind_the_answer_end_the_connection_but_not_the_answer(
    method: bytes, extra: bytes
) -> None:
    connection, transport, recorder = asked(method)
    body = b"ok" if method == b"GET" else b""
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + body + extra)
    assert recorder.kinds[-1] == "end" and recorder.body == body
    assert transport.aborted and not connection.reusable


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 2\r\n\r\nok",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5",
    ],
)
def test_a_body_behind_a_head_answer_ends_the_connection(head: bytes) -> None:
    connection, transport, recorder = asked(b"HEAD")
    connection.data_received(b"HTTP/1.1 200 OK\r\n" + head)
    assert recorder.kinds == ["head", "end"] and transport.aborted


def test_the_end_is_told_only_when_the_whole_read_is_parsed() -> None:
    """Else a request started at the end would take the bytes behind it for its answer."""
    connection, _ = connected()
    second = Recorder()

    class Eager(Recorder):
        def on_end(self, trailers: Any) -> None:
            super().on_end(trailers)
            if connection.reusable:
                connection.start(second, GET, method=b"GET")

    connection.start(Eager(), GET, method=b"GET")
    connection.data_received(OK + OK)
    assert second.heard == []


def test_data_on_an_idle_connection_closes_it() -> None:
    connection, transport = connected()
    connection.data_received(OK)
    assert transport.aborted and not connection.reusable


def test_one_connection_carries_many_requests() -> None:
    connection, transport = connected()
    for method, answer, kinds, _, reusable in WHOLE * 2:
        if reusable:
            recorder = Recorder()
            connection.start(recorder, GET, method=method)
            connection.data_received(answer)
            assert recorder.kinds == kinds
    assert connection.reusable and not transport.aborted


def test_an_answer_without_length_ends_with_the_connection() -> None:
    connection, _, recorder = asked()
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nall")
    connection.data_received(b" of it")
    assert recorder.kinds == ["head", "data"]
    connection.eof_received()
    connection.connection_lost(None)
    assert recorder.kinds == ["head", "data", "end"] and recorder.body == b"all of it"
    assert not connection.reusable


def test_an_answer_without_length_cut_by_a_reset_is_not_complete() -> None:
    connection, _, recorder = asked()
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nall")
    connection.connection_lost(ConnectionResetError())
    assert isinstance(recorder.failure, OriginReset) and "end" not in recorder.kinds


@pytest.mark.parametrize("cut", range(1, len(CHUNKED) - 1, 3))
def test_a_chunked_answer_cut_short_is_never_complete(cut: int) -> None:
    connection, _, recorder = asked()
    connection.data_received(CHUNKED[:cut])
    connection.eof_received()
    assert isinstance(recorder.failure, OriginReset) and recorder.failure.sent
    assert "end" not in recorder.kinds


def test_a_request_that_was_written_may_have_been_read() -> None:
    connection, _, recorder = asked()
    connection.connection_lost(None)
    assert isinstance(recorder.failure, OriginReset) and recorder.failure.sent


async def test_a_request_on_a_closed_connection_was_provably_not_sent() -> None:
    connection, transport = connected()
    connection.connection_lost(None)
    recorder = Recorder()
    connection.start(recorder, GET, method=b"GET")
    assert recorder.heard == []
    await recorder.over.wait()
    assert isinstance(recorder.failure, OriginReset) and not recorder.failure.sent
    assert not transport.written


def test_aborting_tells_nobody() -> None:
    connection, transport, recorder = asked()
    connection.abort()
    connection.connection_lost(None)
    connection.abort()
    assert recorder.heard == [] and transport.aborted


def test_a_receiver_that_leaves_at_the_head_hears_no_more() -> None:
    connection, _ = connected()

    class Leaves(Recorder):
        def on_head(self, *head: Any) -> None:
            super().on_head(*head)
            connection.abort()

    recorder = Leaves()
    connection.start(recorder, GET, method=b"GET")
    connection.data_received(OK)
    assert recorder.kinds == ["head"] and not connection.reusable


def test_a_receiver_that_breaks_ends_the_connection_and_its_fault_is_seen() -> None:
    connection, transport = connected()

    class Broken(Recorder):
        def on_data(self, data: bytes) -> None:
            raise ZeroDivisionError

    recorder = Broken()
    connection.start(recorder, GET, method=b"GET")
    with pytest.raises(ZeroDivisionError):
        connection.data_received(OK)
    assert recorder.kinds == ["head", "failure"] and transport.aborted


def test_an_answer_before_the_request_is_complete_ends_the_connection() -> None:
    connection, transport = connected()
    recorder = Recorder()
    connection.start(recorder, GET, method=b"POST", more=True)
    connection.data_received(OK)
    assert recorder.kinds == ["head", "data", "end"]
    assert transport.aborted and not connection.reusable
    assert connection.send(b"more") is True
    assert bytes(transport.written) == GET


def test_an_answer_before_the_request_has_left_this_machine_ends_the_connection() -> None:
    connection, transport = connected()
    transport.unsent = 5
    connection.start(Recorder(), GET, method=b"POST", body=b"x" * 50_000)
    connection.data_received(OK)
    assert transport.aborted


def test_a_request_body_waits_for_room() -> None:
    connection, _ = connected()
    recorder = Recorder()
    assert connection.start(recorder, GET, method=b"POST", more=True) is True
    connection.pause_writing()
    assert connection.send(b"x") is False
    connection.resume_writing()
    assert recorder.writable == 1
    connection.finish()
    connection.pause_writing()
    connection.resume_writing()
    assert recorder.writable == 1


def test_a_transport_that_the_loop_has_closed_already_is_left_alone() -> None:
    """uvloop raises from every call on it, some turns before it says connection_lost."""
    connection, transport = connected()
    connection.start(Recorder(), GET, method=b"POST", more=True)
    transport.aborted = True
    assert connection.send(b"x") is True
    connection.pause()
    connection.resume()
    assert bytes(transport.written) == GET and transport.reading


def test_a_paused_answer_reads_again_for_the_next_request() -> None:
    connection, transport, _ = asked()
    connection.pause()
    assert not transport.reading
    connection.data_received(OK)
    assert transport.reading and connection.reusable


UPGRADE = b"GET / HTTP/1.1\r\nhost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"


def test_an_upgrade_hands_over_the_transport_and_the_bytes_behind_the_head() -> None:
    connection, transport, recorder = asked(head=UPGRADE)
    lost: list[bool] = []
    connection.on_lost = lambda: lost.append(True)
    connection.data_received(SWITCHED + b"\x81\x00")
    assert recorder.kinds == ["head"] and recorder.status == 101 and connection.upgraded
    assert connection.detach() == (transport, b"\x81\x00")
    assert lost == [True]
    assert (transport.reading, transport.aborted) == (False, False)
    connection.abort()
    assert not transport.aborted


AGREED = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 Yes\r\nContent-Length: 2\r\n\r\n"


@pytest.mark.parametrize("at", range(len(AGREED) + 3))
def test_a_connect_that_is_agreed_to_hands_over_wherever_the_bytes_are_split(at: int) -> None:
    connection, transport, recorder = asked(b"CONNECT")
    sent = AGREED + b"\x16\x03\x01"
    connection.data_received(sent[:at])
    taken = connection.upgraded
    leftover = connection.detach()[1] if taken else b""
    if not taken:
        connection.data_received(sent[at:])
        leftover = connection.detach()[1]
    assert recorder.kinds == ["interim", "head"] and recorder.status == 200
    assert leftover == (sent[len(AGREED) : at] if taken else sent[len(AGREED) :])
    assert not transport.reading and not transport.aborted


@pytest.mark.parametrize("piece", [b"x", b"x\n", b"X: 1\r\n"])
def test_an_endless_head_to_a_connect_is_read_no_further_than_to_its_limit(piece: bytes) -> None:
    connection, _, recorder = asked(b"CONNECT")
    began = time.process_time()
    connection.data_received(b"HTTP/1.1 200 Yes\r\nX: " + piece * (4 << 20))
    assert isinstance(recorder.failure, OriginGarbled)
    assert time.process_time() - began < 1


def test_a_connect_that_is_refused_is_an_ordinary_answer() -> None:
    connection, _, recorder = asked(b"CONNECT")
    connection.data_received(b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno")
    assert recorder.kinds == ["head", "data", "end"] and connection.reusable


@pytest.mark.parametrize(
    "answer", [SWITCHED, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"]
)
def test_another_answer_to_a_connect_is_garbled(answer: bytes) -> None:
    connection, _, recorder = asked(b"CONNECT")
    connection.data_received(answer + b"\x16")
    assert isinstance(recorder.failure, OriginGarbled)


def test_only_an_open_upgraded_connection_can_be_detached() -> None:
    connection, _, _ = asked(head=UPGRADE)
    with pytest.raises(RuntimeError, match="upgraded"):
        connection.detach()


def test_an_upgraded_connection_that_ends_before_it_is_taken_fails() -> None:
    connection, _, recorder = asked(head=UPGRADE)
    connection.data_received(SWITCHED)
    connection.connection_lost(None)
    assert isinstance(recorder.failure, OriginReset)


def test_a_connection_says_what_it_does() -> None:
    connection, _, _ = asked()
    assert repr(connection) == "Connection(waiting, 1 uses)"
    connection.data_received(OK)
    assert repr(connection) == "Connection(idle, 1 uses)"


async def exchange(peer: Scripted, head: bytes = GET) -> tuple[Connection, Recorder]:
    connection = await Pool(Address(peer.host, peer.port)).connect()
    recorder = Recorder()
    connection.start(recorder, head, method=b"GET")
    return connection, recorder


async def test_an_answer_byte_by_byte_over_a_real_socket() -> None:
    async with Scripted([Reads(), Sends(CHUNKED, by=1)]) as peer:
        connection, recorder = await exchange(peer)
        await recorder.over.wait()
        assert recorder.body == b"hello!" and connection.reusable
        assert peer.received == GET


@pytest.mark.parametrize("ending", [Closes(), Resets()])
async def test_a_peer_that_ends_after_reading_is_a_reset_that_was_sent(
    ending: Closes | Resets,
) -> None:
    async with Scripted([Reads(), ending]) as peer:
        _, recorder = await exchange(peer)
        await recorder.over.wait()
        assert isinstance(recorder.failure, OriginReset) and recorder.failure.sent


async def test_a_slow_reader_stops_the_peer_and_not_our_memory() -> None:
    total = 8 << 20
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total
    async with Scripted([Reads(), Sends(head), Floods(total)]) as peer:
        connection = await Pool(Address(peer.host, peer.port)).connect()

        class Slow(Recorder):
            def on_data(self, data: bytes) -> None:
                self.body += data
                connection.pause()

        recorder = Slow()
        connection.start(recorder, GET, method=b"GET")
        await eventually(lambda: len(recorder.body) > 0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(recorder.body) < 1 << 20
        while not recorder.over.is_set():
            connection.resume()
            await asyncio.sleep(0)
        assert len(recorder.body) == total


async def test_a_peer_that_stops_reading_stops_the_sender() -> None:
    go = asyncio.Event()
    async with Scripted([Reads(), StopsReading(), Holds(go), ReadsAgain()]) as peer:
        connection = await Pool(Address(peer.host, peer.port)).connect()
        recorder = Recorder()
        connection.start(recorder, GET, method=b"POST", more=True)
        await eventually(lambda: bool(peer.connections) and bool(peer.connections[0].consumed))
        sent = 0
        while connection.send(b"x" * 65536):
            sent += 65536
            await asyncio.sleep(0)
        assert recorder.writable == 0
        go.set()
        await eventually(lambda: recorder.writable == 1)
        connection.abort()
