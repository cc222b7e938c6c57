"""A second opinion on HTTP/1.1 requests: slow, strict, and written from the RFCs alone.

It says of bytes whether they begin with a request that an edge may pass on, and which. Nothing of
the product is used here, so that both can be held against each other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LINE = re.compile(rb"(%b) ([!-~]+) HTTP/([0-9])\.([0-9])" % _TOKEN)
_FIELD = re.compile(rb"(%b):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*" % _TOKEN)
_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9\-._~!$&'()*+,;=%]{1,255})(:[0-9]{0,5})?"
)
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)(?:;(?:[;=]|%b|%b)*)?" % (_TOKEN[:-1], _QUOTED))
"""Extensions end at the edge, so of them only matters that they hold no line end and no blank."""


class Invalid(Exception):
    """No request, and nothing behind it is one."""


class Incomplete(Exception):
    """More bytes are needed to say."""


@dataclass
class Message:
    """What an instance should be told."""

    method: bytes
    target: bytes
    minor: int
    host: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def keeps(self) -> bool:
        options = self.listed(b"connection")
        return b"close" not in options and (self.minor == 1 or b"keep-alive" in options)

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key == name]

    def listed(self, name: bytes) -> list[bytes]:
        return [one.strip(b" \t").lower() for one in b",".join(self.values(name)).split(b",")]


def parse(data: bytes) -> tuple[Message, bytes]:
    """The first request of `data`, and what is behind it."""
    while data.startswith(b"\r\n"):
        data = data[2:]
    if b"\r\n\r\n" not in data:
        raise Incomplete
    head, _, rest = data.partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    match = _LINE.fullmatch(line)
    if match is None or match[3] != b"1" or match[4] not in b"01" or len(match[1]) > 32:
        raise Invalid("the request line")
    fields = [_field(one) for one in lines]
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) != 1 or not _is_host(hosts[0]):
        raise Invalid("the host")
    target = _path(match[1], match[2], hosts[0])
    message = Message(match[1], target, int(match[4]), hosts[0], fields)
    return message, _body(message, rest)


def _field(line: bytes) -> tuple[bytes, bytes]:
    match = _FIELD.fullmatch(line)
    if match is None:
        raise Invalid("a field")
    return match[1].lower(), match[2]


def _is_host(value: bytes) -> bool:
    match = _HOST.fullmatch(value)
    return match is not None and int((match[1] or b":0")[1:] or 0) < 65_536


def _path(method: bytes, target: bytes, host: bytes) -> bytes:
    if b"#" in target:
        raise Invalid("a fragment")
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return target
    match = re.fullmatch(rb"(?i:https?)://([^/?]*)(.*)", target)
    if match is None or match[1].lower() != host.lower():
        raise Invalid("the target")
    return match[2] if match[2].startswith(b"/") else b"/" + match[2]


def _body(message: Message, rest: bytes) -> bytes:
    codings = message.values(b"transfer-encoding")
    lengths = message.values(b"content-length")
    if codings:
        if lengths or message.minor == 0 or len(codings) > 1 or codings[0].lower() != b"chunked":
            raise Invalid("the framing")
        return _chunks(message, rest)
    if not lengths:
        return rest
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]+", lengths[0]):
        raise Invalid("the length")
    size = int(lengths[0])
    if size >= 1 << 63:
        raise Invalid("the length")
    if len(rest) < size:
        raise Incomplete
    message.body = rest[:size]
    return rest[size:]


def _chunks(message: Message, rest: bytes) -> bytes:
    while True:
        line, rest = _take_line(rest)
        match = _CHUNK.fullmatch(line)
        if match is None or int(match[1], 16) >= 1 << 64:
            raise Invalid("a chunk's size")
        size = int(match[1], 16)
        if size == 0:
            break
        if len(rest) < size + 2:
            if rest[size:] not in (b"", b"\r"):
                raise Invalid("a chunk's end")
            raise Incomplete
        if rest[size : size + 2] != b"\r\n":
            raise Invalid("a chunk's end")
        message.body += rest[:size]
        rest = rest[size + 2 :]
    while True:
        line, rest = _take_line(rest)
        if not line:
            return rest
        name, value = _field(line)
        if name in (b"content-length", b"transfer-encoding"):
            raise Invalid("a trailer that frames")
        message.trailers.append((name, value))


def _take_line(data: bytes) -> tuple[bytes, bytes]:
    line, end, rest = data.partition(b"\r\n")
    if not end:
        raise Incomplete
    return line, rest
