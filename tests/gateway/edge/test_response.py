import pytest

from gateway.edge import response
from gateway.edge.response import Framing


def test_order_case_and_duplicates_of_fields_are_kept() -> None:
    headers = [(b"Set-Cookie", b"a"), (b"X-A", b"1"), (b"set-cookie", b"b")]
    assert response.travelling(headers) == (headers, False)


def test_hop_by_hop_fields_and_what_tells_of_the_inside_end_here() -> None:
    headers = [
        (b"Connection", b"keep-alive, X-Hop"),
        (b"Keep-Alive", b"timeout=5"),
        (b"X-Hop", b"1"),
        (b"Transfer-Encoding", b"chunked"),
        (b"X-Passport", b"secret"),
        (b"Endpoint-Load-Metrics", b"TEXT cpu_utilization=0.3"),
        (b"endpoint-load-metrics-bin", b"CQAAAAAAAOA/"),
        (b"Content-Length", b"2"),
    ]
    assert response.travelling(headers) == ([(b"Content-Length", b"2")], True)


@pytest.mark.parametrize(
    ("method", "status", "has_length", "is_11", "framed"),
    [
        (b"GET", 200, True, True, Framing.LENGTH),
        (b"GET", 200, False, True, Framing.CHUNKED),
        (b"GET", 200, False, False, Framing.CLOSE),
        (b"HEAD", 200, True, True, Framing.NONE),
        (b"HEAD", 200, False, True, Framing.NONE),
        (b"GET", 204, False, True, Framing.NONE),
        (b"GET", 304, True, True, Framing.NONE),
    ],
)
def test_the_framing_follows_the_answer_and_the_client(
    method: bytes, status: int, has_length: bool, is_11: bool, framed: Framing
) -> None:
    assert response.framing(method, status, has_length, is_11) is framed


def test_a_head_says_what_becomes_of_the_connection() -> None:
    def head(is_11: bool, keep_alive: bool) -> bytes:
        fields = [(b"content-length", b"0")]
        return response.head(200, b"OK", fields, Framing.LENGTH, is_11=is_11, keep_alive=keep_alive)

    assert head(True, True) == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    assert head(True, False).endswith(b"connection: close\r\n\r\n")
    assert head(False, True).endswith(b"connection: keep-alive\r\n\r\n")


def test_an_answer_without_fields_is_whole() -> None:
    head = response.head(299, b"", [], Framing.CHUNKED, is_11=True, keep_alive=True)
    assert head == b"HTTP/1.1 299 \r\ntransfer-encoding: chunked\r\n\r\n"
