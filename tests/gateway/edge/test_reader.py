"""Reading requests from bytes alone: no socket, no clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import RequestFailure, StagedoorError
from gateway.edge.limits import Limits
from gateway.edge.reader import BODY, CHUNKS, HEAD, READ, START, Reader
from gateway.edge.refusals import HeadTooLarge, TargetTooLong

GET = b"GET /a?b HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\n"
LIMITS = Limits(target=40, head=200)

LINES = [
    b"GET /a HTTP/1.1",
    b"GET /b?c=%zz HTTP/1.1",
    b"HEAD / HTTP/1.1",
    b"POST /a HTTP/1.1",
    b"PURGE /a HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"TRACE / HTTP/1.1",
    b"CONNECT a:1 HTTP/1.1",
    b"PRI * HTTP/2.0",
    b"GET /a HTTP/1.0",
    b"GET /a#b HTTP/1.1",
    b"GET  /a HTTP/1.1",
    b"GET /a b HTTP/1.1",
    b"GET /\xff HTTP/1.1",
    b"GET http://a/x HTTP/1.1",
    b"GET http://b/x HTTP/1.1",
    b"GET /" + b"x" * 50 + b" HTTP/1.1",
    b"GET /a HTTP/1.1\r\nX: y",
    b"\r\nGET /a HTTP/1.1",
    b"",
]
BLOCKS = [
    b"Host: a\r\n\r\n",
    b"Host: a\r\nX-A: 1\r\nCookie: c\r\n\r\n",
    b"Host: a\r\nConnection: keep-alive\r\n\r\n",
    b"Host: a\r\nConnection: close\r\n\r\n",
    b"Host: a\r\nHost: a\r\n\r\n",
    b"Host: a\r\nContent-Length: 0\r\n\r\n",
    b"Host: a\r\nContent-Length: 2\r\n\r\nok",
    b"Host: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"Host: a\r\nExpect: 100-continue\r\n\r\n",
    b"Host: a\r\nX: " + b"y" * 180 + b"\r\n\r\n",
    b"Host: a\r\n X: y\r\n\r\n",
    b"X: y\r\n\r\n",
    b"\r\n",
]


def heard(reader: Reader, data: bytes) -> tuple[object, ...]:
    """What the reader makes of a request, as an edge connection asks it."""
    if reader.again(data):
        left = b""
    else:
        try:
            left = reader.read(data) if data else b""
        except StagedoorError as failure:
            return type(failure), failure.code
    body = reader.take()
    if reader.phase < BODY:
        return reader.phase, body, left
    fields = reader.fields
    told = (fields.pairs, fields.lines, fields.host, fields.length, fields.keep_alive)
    return reader.phase, body, left, reader.method, reader.target, reader.is_11, *told


requests = st.tuples(st.sampled_from(LINES), st.sampled_from(BLOCKS))


@given(st.lists(requests, max_size=12))
def test_fields_that_are_recognised_are_what_reading_them_would_give(
    asked: list[tuple[bytes, bytes]],
) -> None:
    knowing = Reader(LIMITS)
    for line, block in asked:
        data = line + b"\r\n" + block
        told = heard(knowing, data)
        assert told == heard(Reader(LIMITS), data)
        knowing.start()
        if told[0] != READ or told[2] or not told[-1]:  # the connection would end here
            knowing = Reader(LIMITS)


def test_the_fields_of_the_request_before_are_recognised() -> None:
    reader = Reader(Limits())
    assert not reader.again(GET)
    assert reader.read(GET) == b"" and reader.phase == READ
    fields = reader.fields
    reader.start()
    assert reader.again(GET.replace(b"/a?b", b"/c")) and reader.phase == READ
    assert (reader.method, reader.target) == (b"GET", b"/c")
    assert reader.fields is fields
    reader.start()
    assert not reader.again(GET.replace(b"1\r\n", b"2\r\n"))


@pytest.mark.parametrize(
    "data",
    [
        GET + GET,
        GET + b"G",
        GET[:-1],
        b"\r\n" + GET,
        GET.replace(b"HTTP/1.1", b"HTTP/1.0"),
        GET.replace(b"Host", b"Y: z\r\nHost"),
        GET.replace(b"GET", b"PURGE"),
        GET.replace(b"/a?b", b"/a#b"),
        GET.replace(b"/a?b", b"/" + b"a" * 41),
        GET.replace(b"/a?b", b"*"),
    ],
)
def test_anything_else_about_a_request_is_left_to_the_parser(data: bytes) -> None:
    reader = Reader(LIMITS)
    reader.read(GET)
    reader.start()
    assert not reader.again(data)


def test_a_head_above_the_limit_is_not_recognised_whatever_its_fields() -> None:
    reader = Reader(Limits(head=len(GET) + 2))
    reader.read(GET)
    reader.start()
    longer = GET.replace(b"/a", b"/aaaa")
    assert not reader.again(longer)
    with pytest.raises(HeadTooLarge):
        reader.read(longer)


@pytest.mark.parametrize(
    "block",
    [
        b"Host: a\r\nConnection: close\r\n\r\n",
        b"Host: a\r\nExpect: 100-continue\r\n\r\n",
        b"Host: a\r\nContent-Length: 2\r\n\r\nok",
        b"Host: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"Host: a\r\nX: " + b"x" * 5000 + b"\r\n\r\n",
    ],
)
def test_fields_with_consequences_and_long_ones_are_read_every_time(block: bytes) -> None:
    reader = Reader(Limits())
    data = b"POST / HTTP/1.1\r\n" + block
    reader.read(data)
    reader.start()
    assert not reader.again(data)


def test_a_head_that_came_in_two_pieces_is_not_remembered() -> None:
    reader = Reader(Limits())
    reader.read(GET[:25])
    assert reader.phase == HEAD
    reader.read(GET[25:])
    assert reader.phase == READ
    reader.start()
    assert not reader.again(GET)


def test_what_lies_behind_a_request_is_given_back_unread() -> None:
    reader = Reader(Limits())
    assert reader.read(GET + GET) == GET
    assert reader.read(GET) == GET


def test_a_body_is_taken_as_it_comes() -> None:
    reader = Reader(Limits())
    assert reader.read(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab") == b""
    assert (reader.phase, reader.take(), reader.received) == (BODY, b"ab", 2)
    assert reader.read(b"cd" + GET) == GET
    assert (reader.phase, reader.take()) == (READ, b"cd")


def test_chunks_lose_their_framing_and_trailers_are_kept() -> None:
    reader = Reader(Limits())
    reader.read(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    assert reader.phase == CHUNKS
    assert reader.read(b"2\r\nbc\r\n0\r\nX-Sum: 1\r\n\r\nG") == b"G"
    assert (reader.phase, reader.take()) == (READ, b"abc")
    assert reader.trailers == [(b"x-sum", b"1")]


def test_too_little_to_begin_with_is_given_back() -> None:
    reader = Reader(Limits())
    assert reader.read(b"GE") == b"GE"
    assert reader.phase == START
    assert reader.read(b"\r\n") == b""


def test_a_method_and_a_target_without_a_blank_are_one_however_they_are_split() -> None:
    reader = Reader(Limits())
    begun = b"A" * 20
    assert reader.read(begun) == begun
    with pytest.raises(RequestFailure):
        reader.read(begun + b"/x HTTP/1.1\r\nHost: a\r\n\r\n")


@pytest.mark.parametrize("method", [b"DESCRIBE", b"PLAY", b"SOURCE", b"BREW", b"QUERY", b"get"])
def test_a_method_of_any_name_is_read_alike_however_it_is_split(method: bytes) -> None:
    data = method + b" /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"
    for at in range(1, len(data)):
        reader = Reader(Limits())
        left = reader.read(data[:at])
        assert reader.read(left + data[at:]) == b""
        assert (reader.phase, reader.method, reader.target) == (READ, method, b"/a")
        assert reader.take() == b"ok"


def test_chunk_framing_may_be_several_times_the_content_but_not_without_end() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    small = Reader(Limits(head=200))
    small.read(head)
    for _ in range(1_000):
        small.read(b"0001\r\nx\r\n")
    padded = Reader(Limits(head=200))
    padded.read(head)
    with pytest.raises(RequestFailure):
        for _ in range(1_000):
            padded.read(b"1;" + b"x" * 150 + b"\r\nx\r\n")


def test_trailers_have_the_limits_of_a_head() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    for trailers in (b"X: y\r\n" * 101, b"X: " + b"y" * 40_000 + b"\r\n"):
        reader = Reader(Limits())
        reader.read(head)
        with pytest.raises(RequestFailure):
            reader.read(b"0\r\n" + trailers + b"\r\n")


@pytest.mark.parametrize(
    ("data", "failure"),
    [
        (GET.replace(b"/a", b"/" + b"a" * 40), TargetTooLong),
        (GET.replace(b"X-A", b"X" * 200), HeadTooLarge),
        (GET.replace(b"Host: a\r\n", b""), RequestFailure),
    ],
)
def test_what_breaks_a_limit_or_a_rule_is_refused(
    data: bytes, failure: type[RequestFailure]
) -> None:
    reader = Reader(LIMITS)
    with pytest.raises(failure):
        reader.read(data)
    assert reader.asked_method() == b"GET"
