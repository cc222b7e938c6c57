"""Pure HTTP/1.1 header rules and framing: what travels, how long a body is, how a head is written.

Headers are lists of `(name, value)` pairs as they came: order, duplicates and case are kept.
Nothing here does I/O or reads a clock, so the edge, the upstream client and the services share it.

A request that breaks a rule raises `BadRequest`; an answer that does raises `OriginGarbled`. Both
mean the same: where the next message begins is in doubt, so the connection is not used again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, TypeAlias

from chassis.errors import BadRequest, Faulty, OriginGarbled

Headers: TypeAlias = list[tuple[bytes, bytes]]

CHUNKED: Final = -1
"""A body length: given by chunk framing."""
UNTIL_CLOSE: Final = -2
"""A body length of answers only: everything up to the end of the connection."""

LAST_CHUNK: Final = b"0\r\n\r\n"

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

NOT_IN_TRAILERS: Final = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"host",
        b"set-cookie",
    }
)

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIELD_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[ \t!-~\x80-\xff]*[!-~\x80-\xff])?)?")
_REASON = re.compile(rb"[\t -~\x80-\xff]*")
_TARGET = re.compile(rb"[!-\"$-~\x80-\xff]+")
_REQUEST_HEAD = re.compile(
    rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [!-\"$-~\x80-\xff]+ HTTP/1\.1\r\n"
    rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t -~\x80-\xff]*\r\n)*\r\n"
)
_HARMLESS_OPTIONS = (b"close", b"keep-alive", b"Keep-Alive", b"Close")


def is_token(name: bytes) -> bool:
    """Whether `name` may be a field name or a method."""
    return _TOKEN.fullmatch(name) is not None


def is_field_value(value: bytes) -> bool:
    """Whether `value` may be a field value: no control characters, no outer blanks."""
    return _FIELD_VALUE.fullmatch(value) is not None


def is_target(target: bytes) -> bool:
    """Whether `target` may stand in a request line: no blanks, control characters or `#`."""
    return _TARGET.fullmatch(target) is not None


def values(headers: Headers, name: bytes) -> list[bytes]:
    """Every value of `name` (given in lower case), in order."""
    size = len(name)
    return [value for key, value in headers if len(key) == size and key.lower() == name]


def value(headers: Headers, name: bytes) -> bytes | None:
    """The first value of `name` (given in lower case), or None."""
    size = len(name)
    for key, found in headers:
        if len(key) == size and key.lower() == name:
            return found
    return None


def listed(headers: Headers, name: bytes) -> list[bytes]:
    """The members of a comma-separated field over all its lines, lower case, without blanks."""
    members = (
        part.strip(b" \t").lower() for line in values(headers, name) for part in line.split(b",")
    )
    return [member for member in members if member]


def end_to_end(headers: Headers) -> Headers:
    """`headers` without the hop-by-hop ones and without everything that Connection names."""
    options = [line for key, line in headers if len(key) == 10 and key.lower() == b"connection"]
    dropped: frozenset[bytes] = HOP_BY_HOP
    if any(line not in _HARMLESS_OPTIONS for line in options):
        dropped = HOP_BY_HOP.union(listed(headers, b"connection"))
    return [pair for pair in headers if pair[0].lower() not in dropped]


def request_length(headers: Headers, *, version: bytes = b"1.1") -> int:
    """A request body's length: bytes, 0 when there is none, or `CHUNKED`. Raises `BadRequest`."""
    codings = values(headers, b"transfer-encoding")
    lengths = values(headers, b"content-length")
    if not codings:
        return _content_length(lengths, BadRequest) if lengths else 0
    if lengths:
        raise BadRequest("content-length and transfer-encoding must not come together")
    if version != b"1.1":
        raise BadRequest("transfer-encoding needs HTTP/1.1")
    if len(codings) != 1 or codings[0].lower() != b"chunked":
        raise BadRequest("the only transfer-encoding accepted is chunked")
    return CHUNKED


def response_length(
    headers: Headers, *, method: bytes, status: int, version: bytes = b"1.1"
) -> int:
    """An answer's body length: bytes, `CHUNKED` or `UNTIL_CLOSE`. Raises `OriginGarbled`."""
    if method == b"HEAD" or status < 200 or status in (204, 304):
        return 0
    codings = values(headers, b"transfer-encoding")
    lengths = values(headers, b"content-length")
    if not codings:
        return _content_length(lengths, OriginGarbled) if lengths else UNTIL_CLOSE
    if lengths:
        raise OriginGarbled("content-length and transfer-encoding came together")
    if version != b"1.1" or len(codings) != 1 or codings[0].lower() != b"chunked":
        raise OriginGarbled("a transfer-encoding that was not asked for")
    return CHUNKED


def keeps_alive(headers: Headers, version: bytes = b"1.1") -> bool:
    """Whether the sender of `headers` means to keep the connection open behind this message."""
    options = listed(headers, b"connection")
    if b"close" in options:
        return False
    return version == b"1.1" or b"keep-alive" in options


def trailers(headers: Headers) -> Headers:
    """Those of `headers` that may travel behind a body: none that frames, routes or identifies."""
    return [pair for pair in end_to_end(headers) if pair[0].lower() not in NOT_IN_TRAILERS]


def check_reason(reason: bytes) -> None:
    """Raises `OriginGarbled` for a reason phrase that a status line must not have."""
    if _REASON.fullmatch(reason) is None:
        raise OriginGarbled("the answer's reason phrase has control characters")


def _content_length(lengths: list[bytes], failure: type[BadRequest] | type[OriginGarbled]) -> int:
    length = lengths[0]
    if len(lengths) != 1 or not length.isdigit() or len(length) > 18:
        raise failure("content-length must be one whole number")
    return int(length)


def request_head(method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A request's head with its final empty line. Checks nothing: see `checked_request_head`."""
    lines = [b"%b: %b\r\n" % pair for pair in headers]
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, b"".join(lines))


def checked_request_head(method: bytes, target: bytes, headers: Headers) -> bytes:
    """A request's head; `Faulty` when any part of it would be read as something else."""
    head = request_head(method, target, headers)
    one_line_each = head.count(b"\r\n") == len(headers) + 2
    if not one_line_each or _REQUEST_HEAD.fullmatch(head) is None:
        raise Faulty("the method, the target or a header holds what HTTP/1.1 cannot carry")
    return head


def response_head(status: int, reason: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """An answer's head with its final empty line. Checks nothing."""
    lines = [b"%b: %b\r\n" % pair for pair in headers]
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, b"".join(lines))


def chunk(data: bytes) -> bytes:
    """`data` as one chunk; nothing for no data, since an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def last_chunk(trailing: Headers) -> bytes:
    """The end of a chunked body with its trailers."""
    if not trailing:
        return LAST_CHUNK
    return b"0\r\n%b\r\n" % b"".join([b"%b: %b\r\n" % pair for pair in trailing])
