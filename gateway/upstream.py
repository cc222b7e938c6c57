"""The head that is sent to an instance. Pure: an exchange and its route in, bytes out."""

from __future__ import annotations

from chassis.http.framing import CHUNKED, Headers
from gateway.edge.request import Request
from gateway.ready import ReadyRoute

_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection", b"upgrade"})


def head(request: Request, ready: ReadyRoute) -> bytes:
    """The request line, what travels on, what the rule changes, and what the edge adds.

    Message framing is written here and nowhere else: no rule can touch it.
    """
    route = ready.route
    headers = request.headers
    if route.host is not None:
        headers = _with_host(headers, route.host)
    if route.request_headers:
        headers = [p for p in route.request_headers.apply(headers) if p[0].lower() not in _FRAMING]
    return b"%b %b HTTP/1.1\r\n%b\r\n%b%b\r\n%b%b\r\n" % (
        request.method,
        _target(request, ready),
        b"\r\n".join(map(b": ".join, headers)),
        request.lines,
        request.authority,
        ready.deadline_line,
        _framing(request) if request.length or request.upgrade or request.expects else b"",
    )


def _target(request: Request, ready: ReadyRoute) -> bytes:
    """Byte for byte what came, unless the rule rewrites the path."""
    path = request.path
    rewritten = ready.route.rewrite(path)
    if rewritten is path:
        return request.target
    return rewritten + request.target[len(path) :]


def _with_host(headers: Headers, host: bytes) -> Headers:
    return [(name, host if name == b"host" else value) for name, value in headers]


def _framing(request: Request) -> bytes:
    lines = b""
    if request.length == CHUNKED:
        lines = b"transfer-encoding: chunked\r\n"
    elif request.length:
        lines = b"content-length: %d\r\n" % request.length
    if request.expects:
        lines += b"expect: 100-continue\r\n"
    if request.upgrade is not None:
        lines += b"connection: upgrade\r\nupgrade: %b\r\n" % request.upgrade
    return lines
