"""The request line from bytes alone: no socket."""

import pytest

from chassis.errors import BadRequest, RequestFailure
from gateway.edge.refusals import NotImplementedHere, TargetTooLong, VersionNotSupported
from gateway.edge.request_line import begun_method, check_beginning, read_line

LONGEST = 20
GOOD = [
    (b"GET / HTTP/1.1", (b"GET", b"/", True)),
    (b"GET /a%2f//b?c=[\"'\\^`{|}<>] HTTP/1.0", (b"GET", b"/a%2f//b?c=[\"'\\^`{|}<>]", False)),
    (b"get! http://a/ HTTP/1.1", (b"get!", b"http://a/", True)),
    (b"M-SEARCH * HTTP/1.1", (b"M-SEARCH", b"*", True)),
    (b"A" * 32 + b" / HTTP/1.1", (b"A" * 32, b"/", True)),
]
BAD = [
    (b"GET  / HTTP/1.1", BadRequest),
    (b"GET /  HTTP/1.1", BadRequest),
    (b"GET\t/ HTTP/1.1", BadRequest),
    (b" GET / HTTP/1.1", BadRequest),
    (b"GET / HTTP/1.1 ", BadRequest),
    (b"GET /", BadRequest),
    (b"GET / b HTTP/1.1", BadRequest),
    (b"GET /a#b HTTP/1.1", BadRequest),
    (b"GET /\xc3\xa9 HTTP/1.1", BadRequest),
    (b"GET /\x7f HTTP/1.1", BadRequest),
    (b"G@T / HTTP/1.1", BadRequest),
    (b"GET / http/1.1", BadRequest),
    (b"GET / HTTP/1.10", BadRequest),
    (b"GET / HTTP/01.1", BadRequest),
    (b"GET / RTSP/1.0", BadRequest),
    (b"DESCRIBE / RTSP/1.0", BadRequest),
    (b"SOURCE / ICE/1.0", BadRequest),
    (b"GET / HTTP/1.2", VersionNotSupported),
    (b"GET / HTTP/0.9", VersionNotSupported),
    (b"PRI * HTTP/2.0", VersionNotSupported),
    (b"A" * 33 + b" / HTTP/1.1", NotImplementedHere),
    (b"GET /" + b"a" * LONGEST + b" HTTP/1.1", TargetTooLong),
]


@pytest.mark.parametrize(("line", "parts"), GOOD)
def test_a_line_is_its_three_parts_as_they_came(
    line: bytes, parts: tuple[bytes, bytes, bool]
) -> None:
    assert read_line(line, 100) == parts


@pytest.mark.parametrize(("line", "failure"), BAD)
def test_a_line_with_anything_else_about_it_is_refused(
    line: bytes, failure: type[RequestFailure]
) -> None:
    with pytest.raises(failure):
        read_line(line, LONGEST)


@pytest.mark.parametrize(("line", "parts"), GOOD)
def test_every_beginning_of_a_good_line_may_go_on(
    line: bytes, parts: tuple[bytes, bytes, bool]
) -> None:
    for end in range(len(line) + 1):
        check_beginning(line[:end], len(parts[1]))
    check_beginning(line + b"\r", len(parts[1]))


@pytest.mark.parametrize(
    ("beginning", "failure"),
    [
        (b"\x16\x03\x01", BadRequest),
        (b"G@", BadRequest),
        (b"GET /a\t", BadRequest),
        (b"GET /\xff", BadRequest),
        (b"GET / HTTPS", BadRequest),
        (b"GET / HTTP/1.1\rX", BadRequest),
        (b"A" * 33, NotImplementedHere),
        (b"GET /" + b"a" * LONGEST, TargetTooLong),
    ],
)
def test_a_beginning_that_cannot_become_good_is_refused_without_waiting_for_the_rest(
    beginning: bytes, failure: type[RequestFailure]
) -> None:
    with pytest.raises(failure):
        check_beginning(beginning, LONGEST)


def test_the_method_of_a_line_that_is_refused_is_known_once_it_is_complete() -> None:
    assert begun_method(b"HEAD /a#") == b"HEAD"
    assert begun_method(b"HEA") == b""
