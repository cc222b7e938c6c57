"""How an answer is framed for the client: pure decisions and bytes.

The framing is decided anew from what the upstream said and what the client speaks; hop-by-hop
fields end here, and so does whatever belongs to the inside.
"""

from __future__ import annotations

import enum

from chassis.http.framing import HOP_BY_HOP, Headers
from chassis.http.heads import Head
from chassis.http.load import LOAD_FIELDS
from chassis.identity import PASSPORT_HEADER

_LEFT_OUT = (HOP_BY_HOP - {b"trailer"}) | {PASSPORT_HEADER} | LOAD_FIELDS
_WATCHED = _LEFT_OUT | {b"content-length"}
_KEPT_OPTIONS = frozenset({b"", b"close", b"keep-alive", b"upgrade", b"content-length"})
"""Options that name nothing to leave out; a length is ours to tell, whatever is said of it."""


class Framing(enum.Enum):
    """How the client learns where the body ends."""

    NONE = "none"  # there is no body
    LENGTH = "length"  # by Content-Length
    CHUNKED = "chunked"
    CLOSE = "close"  # by the end of the connection


def travelling(headers: Headers) -> tuple[Headers, bool]:
    """The fields that go on to the client, and whether Content-Length is among them."""
    kept: Headers = []
    has_length = False
    options = b""
    for pair in headers:
        name = pair[0].lower()
        if name not in _WATCHED:
            kept.append(pair)
        elif name == b"content-length":
            has_length = True
            kept.append(pair)
        elif name == b"connection":
            options += b"," + pair[1].lower()
    if options:
        named = {option.strip(b" \t") for option in options.split(b",")} - _KEPT_OPTIONS
        kept = [pair for pair in kept if pair[0].lower() not in named] if named else kept
    return kept, has_length


def upgrade(headers: Headers) -> bytes:
    """The protocol that the instance switches to; nothing where it does not say."""
    return next((value for name, value in headers if name.lower() == b"upgrade"), b"")


def is_event_stream(headers: Headers) -> bool:
    """Whether the answer is one of server-sent events."""
    kind = next((value for name, value in headers if name.lower() == b"content-type"), b"")
    return kind.partition(b";")[0].strip().lower() == b"text/event-stream"


def framing(method: bytes, status: int, has_length: bool, is_11: bool) -> Framing:
    """How the body of this answer is framed for this client."""
    if method == b"HEAD" or status == 204 or status == 304:
        return Framing.NONE
    if has_length:
        return Framing.LENGTH
    return Framing.CHUNKED if is_11 else Framing.CLOSE


def head(
    status: int, reason: bytes, headers: Headers, framed: Framing, *, is_11: bool, keep_alive: bool
) -> bytes:
    """The status line and fields, with the final empty line."""
    lines = b"\r\n".join(map(b": ".join, headers))
    if lines:
        lines += b"\r\n"
    if framed is Framing.CHUNKED:
        lines += b"transfer-encoding: chunked\r\n"
    if not keep_alive:
        lines += b"connection: close\r\n"
    elif not is_11:
        lines += b"connection: keep-alive\r\n"
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, lines)


def plain(read: Head) -> bytes:
    """The head as most clients get it: kept alive, HTTP/1.1, the body's end told by its length.

    Nothing where the answer has no length, or must not have one.
    """
    kept, has_length = travelling(read.headers)
    if not has_length or read.status == 204 or read.status == 304:
        return b""
    return head(read.status, read.reason, kept, Framing.LENGTH, is_11=True, keep_alive=True)


def without_length(headers: Headers) -> Headers:
    """204 and 1xx must not carry a Content-Length (RFC 9110 section 8.6)."""
    return [pair for pair in headers if pair[0].lower() != b"content-length"]


def interim(status: int, reason: bytes, headers: Headers) -> bytes:
    """A 1xx head; it never has a body and never ends the exchange."""
    lines = b"".join([b"%b: %b\r\n" % pair for pair in without_length(headers)])
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, lines)
