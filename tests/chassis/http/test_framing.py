"""Header rules and framing, as pure functions."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import BadRequest, Faulty, OriginGarbled
from chassis.http import framing
from chassis.http.framing import CHUNKED, UNTIL_CLOSE, Headers

tokens = st.from_regex(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,20}", fullmatch=True)
field_values = st.binary(max_size=40).filter(framing.is_field_value)
header_lists = st.lists(st.tuples(tokens, field_values), max_size=8)
no_framing = header_lists.map(
    lambda pairs: [
        pair
        for pair in pairs
        if pair[0].lower() not in framing.HOP_BY_HOP | {b"content-length", b"upgrade"}
    ]
)


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r", b"\xc3", b"a\n", b"(x)"])
def test_what_is_no_token_is_told(name: bytes) -> None:
    assert not framing.is_token(name)


@pytest.mark.parametrize("value", [b" a", b"a\t", b"a\rb", b"a\nb", b"a\0b", b"\x7f", b"a\n"])
def test_what_is_no_field_value_is_told(value: bytes) -> None:
    assert not framing.is_field_value(value)


@pytest.mark.parametrize("value", [b"", b"a", b"a b\tc", b"\xe9t\xe9", b'"x"'])
def test_what_is_a_field_value_is_told(value: bytes) -> None:
    assert framing.is_field_value(value)


@pytest.mark.parametrize("target", [b"", b"/a b", b"/a#b", b"/\r", b"/\x7f", b"/a\n"])
def test_what_is_no_target_is_told(target: bytes) -> None:
    assert not framing.is_target(target)


def test_hop_by_hop_headers_do_not_travel_in_any_case() -> None:
    headers = [
        (b"Host", b"a"),
        (b"CONNECTION", b"close"),
        (b"Keep-Alive", b"timeout=5"),
        (b"te", b"trailers"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Upgrade", b"h2c"),
        (b"Proxy-Connection", b"close"),
        (b"x", b"1"),
    ]
    assert framing.end_to_end(headers) == [(b"Host", b"a"), (b"x", b"1")]


def test_what_connection_names_does_not_travel_either() -> None:
    headers = [
        (b"connection", b"close, X-Secret"),
        (b"x-secret", b"1"),
        (b"Connection", b"x-other"),
        (b"X-Other", b"2"),
        (b"x-kept", b"3"),
        (b"x-kept", b"3"),
    ]
    assert framing.end_to_end(headers) == [(b"x-kept", b"3"), (b"x-kept", b"3")]


@given(header_lists)
def test_end_to_end_keeps_order_and_duplicates(headers: Headers) -> None:
    kept = framing.end_to_end(headers)
    rest = iter(headers)
    assert all(pair in rest for pair in kept)
    assert framing.end_to_end(kept) == kept


def test_trailers_that_frame_or_identify_do_not_travel() -> None:
    headers = [(b"Content-Length", b"3"), (b"Host", b"b"), (b"Set-Cookie", b"a=b"), (b"Etag", b"1")]
    assert framing.trailers(headers) == [(b"Etag", b"1")]


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([], 0),
        ([(b"Content-Length", b"0")], 0),
        ([(b"content-length", b"12")], 12),
        ([(b"Transfer-Encoding", b"Chunked")], CHUNKED),
    ],
)
def test_a_request_body_has_one_length(headers: Headers, length: int) -> None:
    assert framing.request_length(headers) == length


BROKEN: list[Headers] = [
    [(b"content-length", b"1"), (b"content-length", b"1")],
    [(b"content-length", b"1, 1")],
    [(b"content-length", b"+1")],
    [(b"content-length", b"-1")],
    [(b"content-length", b"1_0")],
    [(b"content-length", b"")],
    [(b"content-length", b"9" * 19)],
    [(b"content-length", b"1"), (b"transfer-encoding", b"chunked")],
    [(b"transfer-encoding", b"gzip, chunked")],
    [(b"transfer-encoding", b"chunked, chunked")],
    [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
    [(b"transfer-encoding", b"xchunked")],
    [(b"transfer-encoding", b"")],
]


@pytest.mark.parametrize("headers", BROKEN)
def test_a_request_whose_length_is_in_doubt_is_refused(headers: Headers) -> None:
    with pytest.raises(BadRequest):
        framing.request_length(headers)


@pytest.mark.parametrize("headers", BROKEN)
def test_an_answer_whose_length_is_in_doubt_is_garbled(headers: Headers) -> None:
    with pytest.raises(OriginGarbled):
        framing.response_length(headers, method=b"GET", status=200)


def test_codings_need_http_1_1() -> None:
    coded = [(b"transfer-encoding", b"chunked")]
    with pytest.raises(BadRequest):
        framing.request_length(coded, version=b"1.0")
    with pytest.raises(OriginGarbled):
        framing.response_length(coded, method=b"GET", status=200, version=b"1.0")


@pytest.mark.parametrize(
    ("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304), (b"GET", 100)]
)
def test_some_answers_have_no_body_whatever_their_headers_say(method: bytes, status: int) -> None:
    headers = [(b"content-length", b"5")]
    assert framing.response_length(headers, method=method, status=status) == 0


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    assert framing.response_length([], method=b"GET", status=200) == UNTIL_CLOSE


@pytest.mark.parametrize(
    ("headers", "version", "keeps"),
    [
        ([], b"1.1", True),
        ([(b"Connection", b"Close")], b"1.1", False),
        ([(b"Connection", b"x, close")], b"1.1", False),
        ([], b"1.0", False),
        ([(b"Connection", b"Keep-Alive")], b"1.0", True),
    ],
)
def test_whether_a_connection_is_kept(headers: Headers, version: bytes, keeps: bool) -> None:
    assert framing.keeps_alive(headers, version) is keeps


class Heard:
    def __init__(self) -> None:
        self.headers: Headers = []
        self.url = self.body = b""
        self.done = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.done = True


@given(no_framing, st.lists(st.binary(min_size=0, max_size=50)))
def test_what_is_written_is_what_a_strict_parser_reads(
    headers: Headers, pieces: list[bytes]
) -> None:
    heard = Heard()
    head = framing.checked_request_head(
        b"POST", b"/a?b=%20", [*headers, (b"transfer-encoding", b"chunked")]
    )
    body = b"".join(framing.chunk(piece) for piece in pieces)
    parser = httptools.HttpRequestParser(heard)
    parser.feed_data(head + body + framing.last_chunk([]))
    assert heard.done and heard.url == b"/a?b=%20" and heard.body == b"".join(pieces)
    assert heard.headers[:-1] == headers


nasty = st.text("ab :\r\n\t\0/#\x7f", max_size=12).map(str.encode)


@given(nasty, nasty, nasty)
def test_what_could_be_read_as_something_else_is_not_written(
    target: bytes, name: bytes, value: bytes
) -> None:
    try:
        head = framing.checked_request_head(b"GET", target, [(name, value)])
    except Faulty:
        return
    assert framing.is_target(target) and framing.is_token(name)
    assert framing.is_field_value(value.strip(b" \t"))
    assert head == b"GET " + target + b" HTTP/1.1\r\n" + name + b": " + value + b"\r\n\r\n"


@pytest.mark.parametrize("value", [b"1\r\ny: 2", b"1\r\n\r\nGET / HTTP/1.1\r\n", b"1\n", b"\0"])
def test_no_header_smuggles_another(value: bytes) -> None:
    with pytest.raises(Faulty):
        framing.checked_request_head(b"GET", b"/", [(b"x", value)])


def test_an_empty_chunk_does_not_end_the_body() -> None:
    assert framing.chunk(b"") == b""
    assert framing.chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


def test_trailers_stand_between_the_last_chunk_and_the_end() -> None:
    assert framing.last_chunk([(b"x", b"1")]) == b"0\r\nx: 1\r\n\r\n"


def test_an_answers_head_is_written_as_it_came() -> None:
    head = framing.response_head(404, b"Not Here", [(b"X", b"1"), (b"x", b"")])
    assert head == b"HTTP/1.1 404 Not Here\r\nX: 1\r\nx: \r\n\r\n"
