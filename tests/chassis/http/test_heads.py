"""Answers told whole, and heads that are recognised: never anything but what parsing would tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import OriginGarbled
from chassis.http.connection import Connection
from chassis.http.heads import KEPT, SIZE_LIMIT, Head, Heads
from tests.support.upstream import FakeTransport, Recorder, WholeRecorder

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ANSWERS = (
    OK,
    OK + b"x",
    OK + OK,
    b"\r\n" + OK,
    b"\r\n\r\n" + OK,
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: 1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
    b"HTTP/1.1 500 No\r\nContent-Length: 1\r\nA: b\r\n\r\n!",
    b"HTT",
)


class Link:
    """One connection after another, to the same instance."""

    def __init__(self, heads: Heads | None) -> None:
        self.heads = heads
        self.transport = FakeTransport()
        self.connection = Connection()

    def ask(self, method: bytes, reads: list[bytes]) -> list[object]:
        """What is heard, what is left of the connection, and whether its reading goes on."""
        if not self.connection.reusable:
            self.transport = FakeTransport()
            self.connection = Connection(self.heads)
            self.connection.connection_made(self.transport)
        recorder = Recorder() if self.heads is None else WholeRecorder()
        whole = recorder if isinstance(recorder, WholeRecorder) else None
        self.connection.start(recorder, GET, method=method, whole=whole)
        for read in reads:
            if not self.transport.aborted:
                self.connection.data_received(read)
        told = [] if recorder.failure else [recorder.kinds, recorder.heard[:1], recorder.trailers]
        ended = bool(recorder.failure) or "end" in recorder.kinds
        left = self.connection.reusable if ended else None
        if not ended:
            self.connection.abort()
        body = b"" if recorder.failure else recorder.body
        return [*told, body, type(recorder.failure), left]


asked = st.tuples(
    st.sampled_from([b"GET", b"GET", b"HEAD"]),
    st.sampled_from(ANSWERS),
    st.lists(st.integers(1, 60), max_size=2),
)


@given(st.lists(asked, max_size=8))
def test_recognised_answers_say_what_parsing_them_would(
    asks: list[tuple[bytes, bytes, list[int]]],
) -> None:
    parsing, knowing = Link(None), Link(Heads())
    for method, answer, cuts in asks:
        reads = cut(answer, cuts)
        assert knowing.ask(method, reads) == parsing.ask(method, reads)


def cut(answer: bytes, sizes: list[int]) -> list[bytes]:
    reads = []
    for size in sizes:
        reads.append(answer[:size])
        answer = answer[size:]
    return [read for read in (*reads, answer) if read]


def test_the_same_head_is_the_same_object_the_second_time() -> None:
    heads, heard = Heads(), []

    class Keeps(WholeRecorder):
        def on_whole(self, head: Head, body: bytes) -> None:
            heard.append(head)

    connection = Connection(heads)
    connection.connection_made(FakeTransport())
    for body in (b"ok", b"no"):
        receiver = Keeps()
        connection.start(receiver, GET, method=b"GET", whole=receiver)
        connection.data_received(OK[:-2] + body)
    assert heard[0] is heard[1] and heard[0].length == 2
    assert list(heads) == [OK[:-2]]


@pytest.mark.parametrize(
    "answer", [*ANSWERS[1:3], b"\r\n\r\n" + OK, *ANSWERS[8:13], *ANSWERS[14:17]]
)
def test_what_is_in_any_doubt_is_not_remembered(answer: bytes) -> None:
    heads = Heads()
    Link(heads).ask(b"GET", [answer])
    assert heads == {}


def test_an_answer_in_two_reads_and_one_to_head_are_not_remembered() -> None:
    heads = Heads()
    Link(heads).ask(b"GET", [OK[:-1], OK[-1:]])
    Link(heads).ask(b"HEAD", [OK[:-2]])
    assert heads == {}


def test_a_head_that_is_garbled_is_garbled_again() -> None:
    link = Link(Heads())
    for _ in range(2):
        assert OriginGarbled in link.ask(b"GET", [ANSWERS[15]])


def test_a_body_behind_a_known_head_is_no_answer_to_head() -> None:
    link = Link(Heads())
    link.ask(b"GET", [OK])
    assert link.ask(b"HEAD", [OK]) == Link(None).ask(b"HEAD", [OK])


def test_the_second_half_of_a_head_is_not_a_head() -> None:
    link = Link(Heads())
    link.ask(b"GET", [OK[:3], OK[3:]])
    assert OriginGarbled in link.ask(b"GET", [OK[3:]])


def test_many_and_long_heads_are_forgotten() -> None:
    heads = Heads()
    for number in range(KEPT + 1):
        heads.keep(b"%d" % number, Head(200, b"OK", [], 0))
    assert len(heads) == 1
    heads.keep(b"x" * (SIZE_LIMIT + 1), Head(200, b"OK", [], 0))
    assert len(heads) == 1
