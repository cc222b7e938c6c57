"""One client connection: bytes in, one request at a time out, answers in order.

llhttp (through httptools) reads the messages; `Boundary` sees to it that it is never given bytes
of a message whose turn has not come. So one request is in flight, what the client pipelined behind
it waits as raw bytes, and everything that is in doubt ends the connection before an upstream hears
of it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Protocol, cast

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from chassis.clock import Clock
from chassis.errors import BadRequest, StagedoorError
from chassis.http.framing import CHUNKED, Headers, is_token
from gateway.edge.boundary import Boundary
from gateway.edge.expiry import Expiry
from gateway.edge.limits import Limits
from gateway.edge.peer import Network, Peer
from gateway.edge.ports import Exchanges, Inflight
from gateway.edge.refusals import (
    BodyTooLarge,
    HeadTooLarge,
    TargetTooLong,
    TooSlow,
    VersionNotSupported,
)

START, HEAD, BODY, CHUNKS, ANSWERING, LINGERING, GONE = range(7)
"""What the next bytes from the client are: the beginning of a request; its head; its body, of known
length or in chunks; nothing yet, for the request is read and what follows waits; thrown away, so
that a refusal is not lost to a reset; nothing any more. Plain numbers: an enum's look-ups would be
a tenth of the whole cost of a request."""

_PHASES = ("START", "HEAD", "BODY", "CHUNKS", "ANSWERING", "LINGERING", "GONE")
_METHOD_MAXIMUM = 32
_CR = 13


class Waits:
    """The timeouts of a listener's connections."""

    def __init__(self, limits: Limits) -> None:
        self.idle: Expiry[EdgeConnection] = Expiry(limits.idle_s)
        self.heads: Expiry[EdgeConnection] = Expiry(limits.head_s)
        self.bodies: Expiry[EdgeConnection] = Expiry(limits.body_window_s)
        self.lingering: Expiry[EdgeConnection] = Expiry(limits.linger_s)

    def tick(self, now: float) -> None:
        for connection in self.idle.due(now):
            connection.close()
        for connection in self.heads.due(now):
            connection.refuse(TooSlow("the request's head took too long"))
        for connection in self.bodies.due(now):
            connection.check_rate(now)
        for connection in self.lingering.due(now):
            connection.cut()


class Owner(Protocol):
    """The listener, as its connections see it."""

    limits: Limits
    clock: Clock
    waits: Waits
    trusted: tuple[Network, ...]
    exchanges: Exchanges
    draining: bool

    def opened(self, connection: EdgeConnection) -> bool:
        """Counts it in; False when there are too many."""
        ...

    def closed(self, connection: EdgeConnection) -> None: ...


class EdgeConnection(asyncio.Protocol):
    """Parses, frames and limits; decides nothing about where a request goes."""

    __slots__ = (
        "_aside",
        "_begun",
        "_body",
        "_boundary",
        "_choked",
        "_fields",
        "_head_bytes",
        "_held",
        "_interrupted",
        "_is_slow",
        "_left",
        "_limits",
        "_mark",
        "_method",
        "_overhead",
        "_owner",
        "_parser",
        "_phase",
        "_pumping",
        "_reading",
        "_received",
        "_served",
        "_target",
        "_trailers",
        "_until",
        "_waits",
        "exchange",
        "peer",
        "transport",
    )

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._limits = owner.limits
        self._waits = owner.waits
        self._parser = HttpRequestParser(self)
        self._boundary = Boundary()
        self.exchange: Inflight | None = None
        self._phase = START
        self._aside = b""
        self._pumping = False
        self._choked = False
        self._is_slow = False
        self._held = False
        self._reading = True
        self._served = 0
        self._clear()

    def _clear(self) -> None:
        """Ready for the next request."""
        self._target = b""
        self._fields: Headers = []
        self._trailers: Headers = []
        self._body: list[bytes] = []
        self._begun = False
        self._head_bytes = 0
        self._overhead = 0
        self._left = 0
        self._received = 0
        self._mark = 0
        self._interrupted = False
        self._method = b""

    def __repr__(self) -> str:
        return f"EdgeConnection({self.peer.address}, {_PHASES[self._phase]}, served={self._served})"

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._limits.window)
        name = transport.get_extra_info("peername")
        address = name[0] if isinstance(name, tuple) else "unix"
        self.peer = Peer(address, self._owner.trusted)
        clock = self._owner.clock
        now = clock.monotonic()
        self._until = now + self._limits.age_s * (1 + clock.random() / 5)
        if not self._owner.opened(self):
            self._phase = GONE
            self.transport.abort()
            return
        self._waits.idle.enter(self, now)

    def data_received(self, data: bytes) -> None:
        if self._phase >= LINGERING:
            return
        self._aside = self._aside + data if self._aside else data
        if not self._pumping:
            self._pump()

    def eof_received(self) -> None:
        """The client leaves: a half-closed client is taken as gone, as most proxies do."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._phase = GONE
        self._aside = b""
        exchange, self.exchange = self.exchange, None
        self._waits.idle.leave(self)
        self._waits.heads.leave(self)
        self._waits.bodies.leave(self)
        self._waits.lingering.leave(self)
        if exchange is not None:
            exchange.abandon()
        self._owner.closed(self)

    def pause_writing(self) -> None:
        self._choked = True
        if self.exchange is not None:
            self.exchange.choke()

    def resume_writing(self) -> None:
        self._choked = False
        if self.exchange is not None:
            self.exchange.unchoke()
        elif not self._pumping:
            self._pump()

    # -- reading requests, one at a time

    def _pump(self) -> None:
        """Reads what waits for as long as its turn has come."""
        self._pumping = True
        try:
            while self._aside and self._phase < ANSWERING and not self._choked:
                data, self._aside = self._aside, b""
                if not self._read(data):
                    break
        finally:
            self._pumping = False
        self._after_reading()

    def _after_reading(self) -> None:
        phase = self._phase
        if phase == ANSWERING and self._reading and not self._aside and not self._held:
            return
        if phase == START and not self._aside:
            self._waits.idle.enter(self, self._owner.clock.monotonic())
        elif phase <= HEAD and not self._is_slow:
            self._is_slow = True
            self._waits.heads.enter(self, self._owner.clock.monotonic())
        self._set_reading()

    def _set_reading(self) -> None:
        """Reads on unless the exchange holds, or more than the window waits its turn."""
        wanted = not self._held and len(self._aside) < self._limits.window
        if wanted is not self._reading and self._phase != GONE:
            self._reading = wanted
            if wanted:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def _read(self, data: bytes) -> bool:
        """Feeds the parser to the end of the message or of the data, then tells the exchange.

        False: what there is of a request's beginning is too little to go on with."""
        if self._phase == START:
            self._waits.idle.leave(self)
            if data[0] <= _CR:
                data = self._skip_empty_lines(data)
            if b" " not in data and len(data) < _METHOD_MAXIMUM:
                self._aside = data
                return False
        try:
            while data and self._phase < ANSWERING:
                end = self._take(data)
                piece = data if end == len(data) else data[:end]
                data = data[end:]
                self._feed(piece)
        except StagedoorError as failure:
            self.refuse(failure)
            return False
        self._aside = data
        if self.exchange is not None:
            self._tell(self.exchange)
        return True

    def _skip_empty_lines(self, data: bytes) -> bytes:
        """Empty lines before a request line are skipped (RFC 9112 2.2); a bare CR or LF is not."""
        while data.startswith(b"\r\n"):
            data = data[2:]
        if data[:1] == b"\n" or (data[:1] == b"\r" and len(data) > 1):
            self.refuse(BadRequest("a bare CR or LF before the request line", code="framing"))
            return b""
        return data

    def _take(self, data: bytes) -> int:
        """How much of `data` may go to the parser now."""
        phase = self._phase
        if phase == BODY:
            return min(self._left, len(data))
        end = self._boundary.end(data)
        if phase == CHUNKS:
            self._overhead += end
        else:
            self._phase = HEAD
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
            self._after_error(piece, error)
        if self._phase == HEAD and self._head_bytes > self._limits.head:
            raise HeadTooLarge("the header block is too large")
        if self._overhead > self._limits.head:
            raise BadRequest("the body is more framing than content", code="framing")

    def _after_error(self, piece: bytes, error: HttpParserError) -> None:
        """Everything is refused but a method that the parser does not know, and we need not.

        The head is then read once more under a method it knows: both frame bodies alike."""
        method, _, rest = piece.partition(b" ")
        is_start = self._head_bytes == len(piece) and not self._method
        if not is_start or method == b"PRI" or "method" not in str(error) or not is_token(method):
            raise _refusal(str(error)) from None
        self._clear()
        self._head_bytes = len(piece)
        self._method = method
        self._parser = HttpRequestParser(self)
        self._feed(b"POST " + rest)

    def _after_upgrade(self) -> None:
        """The parser stopped behind a head that asks for an upgrade.

        With a body (which we then read as an ordinary one) a fresh parser is told how it is
        framed; the head it is given is our own and heard by nobody.
        """
        exchange = self.exchange
        if exchange is None or not exchange.asks_upgrade:
            raise BadRequest("an upgrade that was not asked for", code="framing")
        if self._interrupted:
            self._interrupted = False
            self._parser = HttpRequestParser(_BodyOnly(self))
            if exchange.length == CHUNKED:
                self._parser.feed_data(b"POST / HTTP/1.1\r\ntransfer-encoding:chunked\r\n\r\n")
            else:
                self._parser.feed_data(
                    b"POST / HTTP/1.1\r\ncontent-length:%d\r\n\r\n" % exchange.length
                )

    def _tell(self, exchange: Inflight) -> None:
        """Gives the exchange what was read of its request."""
        if self._phase < BODY:
            return
        body = b"".join(self._body) if self._body else b""
        self._body.clear()
        more = self._phase < ANSWERING
        if not self._begun:
            self._begun = True
            self._start_rate(more)
            exchange.begin(body, more, self._trailers)
        elif body or not more:
            if not more:
                self._waits.bodies.leave(self)
            exchange.receive(body, more, self._trailers)

    # -- the parser's side

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > self._limits.target:
            raise TargetTooLong("the request target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        fields = self._fields if self._phase == HEAD else self._trailers
        fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        limits = self._limits
        if self._head_bytes > limits.head or len(self._fields) > limits.fields:
            raise HeadTooLarge("the header block is too large")
        parser = self._parser
        exchange = self._owner.exchanges.open(
            self,
            self._method or parser.get_method(),
            self._target,
            parser.get_http_version(),
            self._fields,
        )
        self._served += 1
        length = exchange.length
        self.exchange = exchange
        self._interrupted = exchange.asks_upgrade and length != 0
        if self._is_slow:
            self._is_slow = False
            self._waits.heads.leave(self)
        if length == CHUNKED:
            self._phase = CHUNKS
        elif length:
            self._check_size(length)
            self._left = length
            self._phase = BODY
        else:
            self._phase = ANSWERING

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        self._received += len(body)
        if self._phase == BODY:
            self._left -= len(body)
        else:
            self._check_size(self._received)
        self._body.append(body)

    def on_message_complete(self) -> None:
        if not self._interrupted:
            self._phase = ANSWERING

    def _check_size(self, size: int) -> None:
        limit = self._limits.body
        if limit is not None and size > limit:
            raise BodyTooLarge(f"the body is larger than {limit} bytes")

    # -- the least rate of a body

    def _start_rate(self, more: bool) -> None:
        if more:
            self._mark = self._received
            self._waits.bodies.enter(self, self._owner.clock.monotonic())

    def check_rate(self, now: float) -> None:
        """A window has passed: enough of the body must have come, unless we held it back."""
        least = self._limits.body_rate * self._limits.body_window_s
        if not self._held and self._received - self._mark < least:
            self.refuse(TooSlow("the request's body comes too slowly"))
            return
        self._mark = self._received
        self._waits.bodies.enter(self, now)

    # -- the exchange's side

    def may_keep(self) -> bool:
        """Whether another request may follow the one in flight."""
        return (
            self._phase == ANSWERING
            and self._served < self._limits.requests
            and not self._owner.draining
            and self._owner.clock.monotonic() < self._until
        )

    def hold(self) -> None:
        self._held = True
        self._set_reading()

    def release(self) -> None:
        self._held = False
        self._set_reading()

    def answered(self, keep_alive: bool) -> None:
        whole = self._phase == ANSWERING
        exchange, self.exchange = self.exchange, None
        if exchange is not None and exchange.asks_upgrade:
            self._parser = HttpRequestParser(self)
        self._held = False
        if not keep_alive or not whole:
            self._end(clean=whole and not self._aside)
            return
        self._phase = START
        self._clear()
        if self._pumping:
            return
        if self._aside:
            self._pump()
        else:
            self._after_reading()

    def refuse(self, failure: StagedoorError) -> None:
        """Ends the connection over a request that cannot be read, saying why where possible."""
        self._waits.heads.leave(self)
        self._waits.bodies.leave(self)
        self._aside = b""
        if self.exchange is not None and self._begun:
            self.exchange.refuse(failure)
            return
        self.exchange = None
        method = self._method or (self._parser.get_method() if self._target else b"")
        self.transport.write(self._owner.exchanges.refused(self, method, failure))
        self._end(clean=False)

    def _end(self, *, clean: bool) -> None:
        """Closes; when the client may still be sending, reads on for a while, so that our answer is
        not lost to a reset (RFC 9112 section 9.6)."""
        self._waits.bodies.leave(self)
        if clean or not self.transport.can_write_eof():
            self.close()
            return
        self._phase = LINGERING
        self._aside = b""
        self._waits.lingering.enter(self, self._owner.clock.monotonic())
        self._set_reading()
        self.transport.write_eof()

    def close_if_idle(self) -> None:
        if self._phase == START and not self._aside:
            self.close()

    def close(self) -> None:
        if self._phase != GONE:
            self._phase = GONE
            self.transport.close()

    def cut(self, *, reset: bool = False) -> None:
        self._phase = GONE
        if reset:
            raw: socket.socket = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def hand_over(self) -> bytes:
        self._phase = GONE
        self.transport.pause_reading()
        leftover, self._aside = self._aside, b""
        return leftover

    def left(self) -> None:
        self.connection_lost(None)


class _BodyOnly:
    """The parser's callbacks for a body whose head has been read already."""

    def __init__(self, connection: EdgeConnection) -> None:
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete
        self._connection = connection
        self._is_head = True

    def on_headers_complete(self) -> None:
        self._is_head = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_head:
            self._connection.on_header(name, value)


def _refusal(error: str) -> StagedoorError:
    if "Pause on PRI" in error or "Invalid HTTP version" in error:
        return VersionNotSupported("only HTTP/1.1 and HTTP/1.0 are spoken here")
    return BadRequest(f"the request is malformed: {error}", code="framing")
