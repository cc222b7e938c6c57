"""The head that is sent to an instance. Pure: an exchange and its route in, bytes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chassis.deadline import HEADER as DEADLINE_HEADER
from chassis.http.framing import CHUNKED, Headers
from gateway import traces
from gateway.edge.fields import Fields, read, written
from gateway.edge.request import CONNECT
from gateway.ready import ReadyRoute
from gateway.retrying import ATTEMPT

if TYPE_CHECKING:
    from gateway.context import Context

_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection", b"upgrade"})


def head(context: Context, ready: ReadyRoute) -> bytes:
    """The request line, what travels on, what the rule changes, and what the edge adds.

    Message framing is written here and nowhere else: no rule can touch it.
    """
    fields, target = context.fields, context.target
    traced = traces.lines(context.known_trace, context.digits)
    if ready.edits_request:
        lines, traced, target = _edited(context, ready, traced), b"", _target(context, ready)
    elif context.own_headers is None:
        lines = fields.lines
    else:
        lines = _lines(fields, context.own_headers)
    framing = b"\r\n" if fields.is_plain else _framing(fields)
    return b"".join(
        (
            context.method,
            b" ",
            target,
            b" HTTP/1.1\r\n",
            lines,
            traced,
            context.forwarding,
            context.asked_host,
            ready.deadline_line,
            framing,
        )
    )


def again(head: bytes, ready: ReadyRoute, left_s: float, attempt: int) -> bytes:
    """The head of a first attempt as a later one sends it: what is left of the deadline, and which
    attempt it is."""
    line = b"\r\n%b: %d\r\n%b: %d\r\n" % (DEADLINE_HEADER, left_s * 1000, ATTEMPT, attempt)
    return head.replace(ready.deadline_line, line, 1)


def _lines(fields: Fields, headers: Headers) -> bytes:
    """The fields as they were read, with whatever filters appended or changed."""
    pairs = fields.pairs
    if headers == pairs:
        return fields.lines
    if headers[: len(pairs)] == pairs:
        return fields.lines + written(headers[len(pairs) :])
    return written(headers)


def _edited(context: Context, ready: ReadyRoute, traced: bytes) -> bytes:
    route = ready.route
    headers = context.headers
    if route.host is not None:
        headers = [(name, route.host if name == b"host" else value) for name, value in headers]
    if not route.request_headers:
        return written(headers) + traced
    headers = route.request_headers.apply(headers + read(traced))
    return written([pair for pair in headers if pair[0].lower() not in _FRAMING])


def _target(context: Context, ready: ReadyRoute) -> bytes:
    """Byte for byte what came, unless the rule rewrites the path; CONNECT asks for none."""
    if context.method == CONNECT:
        return context.target
    path = context.path
    rewritten = ready.route.rewrite(path)
    if rewritten is path:
        return context.target
    return rewritten + context.target[len(path) :]


def _framing(fields: Fields) -> bytes:
    lines = b""
    if fields.length == CHUNKED:
        lines = b"transfer-encoding: chunked\r\n"
    elif fields.length:
        lines = b"content-length: %d\r\n" % fields.length
    if fields.expects:
        lines += b"expect: 100-continue\r\n"
    if fields.upgrade is not None:
        lines += b"connection: upgrade\r\nupgrade: %b\r\n" % fields.upgrade
    return lines + b"\r\n"
