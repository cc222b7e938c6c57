"""What a client sends, read one request at a time: bytes in, a head and pieces of a body out.

llhttp (through httptools) reads the messages; `Boundary` sees to it that it is never given bytes
of a message whose turn has not come. Knows no transport and no clock.
"""

from __future__ import annotations

import re

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from chassis.errors import BadRequest, StagedoorError
from chassis.http.framing import CHUNKED, Headers
from gateway.edge.boundary import Boundary
from gateway.edge.fields import Fields
from gateway.edge.limits import Limits
from gateway.edge.refusals import BodyTooLarge, HeadTooLarge
from gateway.edge.request import CONNECT, check_connect, origin_form
from gateway.edge.request_line import PARSED, begun_method, check_beginning, read_line

START, HEAD, BODY, CHUNKS, READ = range(5)
"""What the next bytes are: the beginning of a request; its head; its body, of known length or in
chunks; nothing yet, for the request is read and what follows waits. Plain numbers: an enum's
look-ups would be a tenth of the whole cost of a request."""

PHASES = ("START", "HEAD", "BODY", "CHUNKS", "READ")

_BLOCK_MAXIMUM = 2_048
_FRAMING_RATIO = 16
"""Bytes of chunk framing to each byte of content, above what a head may have: five are usual."""

_CR = 13
_REQUEST_LINE = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/[!-\"$-~]*) HTTP/1\.1\r\n")


class Reader:
    """Reads requests within `limits`, raising the `RequestFailure` that refuses one.

    From BODY on, `method`, `target` (a path, or `*`), `is_11` and `fields` are the request's.
    """

    __slots__ = (
        "_block",
        "_body",
        "_boundary",
        "_head_bytes",
        "_interrupted",
        "_known",
        "_left",
        "_limits",
        "_lines",
        "_overhead",
        "_parser",
        "fields",
        "is_11",
        "method",
        "phase",
        "received",
        "target",
        "trailers",
    )

    fields: Fields

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser = HttpRequestParser(self)
        self._boundary = Boundary()
        self._block = b""
        self._known: Fields | None = None
        self.start()

    def start(self) -> None:
        """Ready for the next request."""
        self.phase = START
        self.method = b""
        self.target = b""
        self.is_11 = True
        self.trailers: Headers = []
        self.received = 0
        self._lines: Headers = []
        self._body: list[bytes] = []
        self._head_bytes = 0
        self._overhead = 0
        self._left = 0
        self._interrupted = False

    def __repr__(self) -> str:
        return f"Reader({PHASES[self.phase]}, {self.received} bytes of body)"

    def again(self, data: bytes) -> bool:
        """Whether `data` is a request with the very fields of the one before; then it is read.

        Most requests of a connection differ in nothing but their first line. Only fields that the
        parser has read, and that announced no body, are recognised: so `data` ends where they do.
        """
        known, block = self._known, self._block
        if known is None or not data.endswith(block):
            return False
        line = _REQUEST_LINE.fullmatch(data, 0, len(data) - len(block))
        if line is None or len(data) > self._limits.head:
            return False
        self.method, self.target = line.groups()
        if len(self.target) > self._limits.target:
            return False
        self.fields = known
        self.phase = READ
        return True

    def read(self, data: bytes) -> bytes:
        """Reads to the end of the request or of `data`; what is behind is returned unread.

        Still at START, there is too little to begin with: it must be given again, with more.
        """
        begun = b""
        if self.phase == START:
            if data[0] <= _CR:
                data = _without_empty_lines(data)
            begun = data
            data = self._begin(data)
            if self.phase == START:
                return data
        while data and self.phase < READ:
            end = self._reach(data)
            piece = data if end == len(data) else data[:end]
            data = data[end:]
            self._feed(piece)
        if begun and not data and self.phase == READ:
            self._remember(begun)
        return data

    def take(self) -> bytes:
        """What was read of the body since the last time."""
        if not self._body:
            return b""
        body = b"".join(self._body)
        self._body.clear()
        return body

    def asked_method(self) -> bytes:
        """The method as far as it is known: of a request that is refused, too."""
        return self.method

    def upgraded(self) -> None:
        """After an answer to a request that asked for an upgrade, which the parser waits for."""
        self._parser = HttpRequestParser(self)

    def _begin(self, data: bytes) -> bytes:
        """Reads the request line, once all of it is there; gives what the parser may read of it.

        Of unusual methods it is told another, and the path: both frame bodies alike.
        """
        end = data.find(b"\r\n")
        self.method = begun_method(data)
        if end < 0:
            if data != b"\r":
                check_beginning(data, self._limits.target)
            return data
        self.method, self.target, self.is_11 = read_line(data[:end], self._limits.target)
        self.phase = HEAD
        if self.method in PARSED:
            return data
        replaced = b"POST / HTTP/1.1" if self.is_11 else b"POST / HTTP/1.0"
        self._head_bytes = end - len(replaced)
        return replaced + data[end:]

    def _reach(self, data: bytes) -> int:
        """How much of `data` may go to the parser now."""
        if self.phase == BODY:
            return min(self._left, len(data))
        end = self._boundary.end(data)
        if self.phase == CHUNKS:
            self._overhead += end
        else:
            self._head_bytes += end
        return end

    def _feed(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except HttpParserUpgrade:
            self._after_upgrade()
        except HttpParserCallbackError as error:
            cause = error.__context__
            raise cause if isinstance(cause, StagedoorError) else error from None
        except HttpParserError as error:
            raise BadRequest(f"the request is malformed: {error}", code="framing") from None
        if self.phase == HEAD and self._head_bytes > self._limits.head:
            raise HeadTooLarge("the header block is too large")
        if self._overhead > self._limits.head + _FRAMING_RATIO * self.received:
            raise BadRequest("the body is more framing than content", code="framing")

    def _remember(self, data: bytes) -> None:
        """`data` was a request and nothing else; one without a body ends with its fields."""
        block = data[data.find(b"\r\n") + 2 :]
        if self.fields.is_plain and len(block) <= _BLOCK_MAXIMUM:
            self._block = block
            self._known = self.fields
            self.fields.shrink()

    def _after_upgrade(self) -> None:
        """The parser stopped behind a head that asks for an upgrade.

        With a body (which we then read as an ordinary one) a fresh parser is told how it is
        framed; the head it is given is our own and heard by nobody.
        """
        if self.phase == HEAD or not self.fields.asks_upgrade:
            raise BadRequest("an upgrade that was not asked for", code="framing")
        if self._interrupted:
            self._interrupted = False
            length = self.fields.length
            self._parser = HttpRequestParser(_BodyOnly(self))
            if length == CHUNKED:
                self._parser.feed_data(b"POST / HTTP/1.1\r\ntransfer-encoding:chunked\r\n\r\n")
            else:
                self._parser.feed_data(b"POST / HTTP/1.1\r\ncontent-length:%d\r\n\r\n" % length)

    # -- the parser's side

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        limits = self._limits
        if self._head_bytes > limits.head or len(self._lines) > limits.fields:
            raise HeadTooLarge("the header block is too large")
        self.fields = fields = Fields(self._lines, self.is_11)
        self.target = origin_form(self.method, self.target, fields.authority)
        if self.method == CONNECT:
            check_connect(fields, is_11=self.is_11)
            fields.keep_alive = False  # what follows may have been meant for the tunnel
        self._lines = self.trailers
        length = fields.length
        self._interrupted = fields.asks_upgrade and length != 0
        if length == CHUNKED:
            self.phase = CHUNKS
        elif length:
            self._check_size(length)
            self._left = length
            self.phase = BODY
        else:
            self.phase = READ

    def on_body(self, body: bytes) -> None:
        self.received += len(body)
        if self.phase == BODY:
            self._left -= len(body)
        else:
            self._overhead -= len(body)
            self._check_size(self.received)
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self.phase == CHUNKS and len(self.trailers) > self._limits.fields:
            raise HeadTooLarge("there are too many trailer fields")
        if not self._interrupted:
            self.phase = READ

    def _check_size(self, size: int) -> None:
        limit = self._limits.body
        if limit is not None and size > limit:
            raise BodyTooLarge(f"the body is larger than {limit} bytes")


class _BodyOnly:
    """The parser's callbacks for a body whose head has been read already."""

    def __init__(self, reader: Reader) -> None:
        self.on_body = reader.on_body
        self.on_message_complete = reader.on_message_complete
        self._reader = reader
        self._is_head = True

    def on_headers_complete(self) -> None:
        self._is_head = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_head:
            self._reader.on_header(name, value)


def _without_empty_lines(data: bytes) -> bytes:
    """Empty lines before a request line are skipped (RFC 9112 2.2); a bare CR or LF is not."""
    start = 0
    while data.startswith(b"\r\n", start):
        start += 2
    data = data[start:]
    if data[:1] == b"\n" or (data[:1] == b"\r" and len(data) > 1):
        raise BadRequest("a bare CR or LF before the request line", code="framing")
    return data
