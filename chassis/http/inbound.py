"""Serves whole requests to an application that gives whole answers, one at a time a connection.

llhttp (through httptools, strict) finds the messages. What it lets through is refused here: no
Host or two, a transfer coding in HTTP/1.0 or other than chunked, huge heads and bodies. What a
caller sends behind a request waits unread until that one is answered. Whatever is in doubt is
answered with a problem and ends the connection.

This is what the general ASGI server would do for us at twice the cost: see docs/performance.md.
"""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import Awaitable, Coroutine, Generator, Mapping
from typing import Any, Final, NamedTuple, cast
from urllib.parse import unquote

import httptools

from chassis.clock import SYSTEM, Clock, Timer
from chassis.errors import BadRequest, RequestFailure, StagedoorError
from chassis.http import calls, framing
from chassis.http.framing import Headers
from chassis.http.messages import Application, Reply, told, written
from chassis.standstill import Standstill

BODY_LIMIT: Final = 1 << 20
HEADER_LIMIT: Final = 32 << 10
KEEP_ALIVE_S: Final = 75.0
REQUEST_S: Final = 30.0
"""From a request's first byte to its last."""
_LINGER_S: Final = 1.0
_BROKEN: Final = written(told(StagedoorError()), keep=False)
_SWEEP_S: Final = 5.0


class TooLarge(RequestFailure):
    """The body is larger than this service takes."""

    status = 413
    code = "body_too_large"


class TooSlow(RequestFailure):
    """The request did not come to its end in time."""

    status = 408
    code = "request_timeout"


class _Whole(NamedTuple):
    """A request that has come to its end."""

    method: str
    path: str
    query: bytes
    headers: Headers
    body: bytes
    keep: bool


class Inbound:
    """All connections to one application."""

    def __init__(self, app: Application, clock: Clock = SYSTEM) -> None:
        self.app = app
        self.clock = clock
        self.draining = False
        self.connections: set[InboundConnection] = set()
        self._emptied = asyncio.Event()
        self._sweep: Timer | None = None

    def __repr__(self) -> str:
        return f"Inbound({len(self.connections)} connections, draining={self.draining})"

    def protocol(self) -> asyncio.Protocol:
        return InboundConnection(self)

    def opened(self, connection: InboundConnection) -> None:
        self.connections.add(connection)
        if self._sweep is None:
            self._sweep = self.clock.call_later(_SWEEP_S, self._look_around)

    def ended(self, connection: InboundConnection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._emptied.set()

    def _look_around(self) -> None:
        """One timer for all: nothing here needs to be told in time to the second."""
        now = self.clock.monotonic()
        for connection in list(self.connections):
            connection.expire(now)
        more = self.connections and not self.draining
        self._sweep = self.clock.call_later(_SWEEP_S, self._look_around) if more else None

    def stop(self, quiet_s: float = 0.0) -> None:
        """Ends connections behind their answer, and once they have been idle for `quiet_s`, so that
        none is closed under a request that is on its way."""
        self.draining = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._close_idle(quiet_s, Standstill(self.clock, max(quiet_s / 2, 0.1)))

    def _close_idle(self, quiet_s: float, standstill: Standstill) -> None:
        if not standstill.seen():
            since = self.clock.monotonic() - quiet_s
            for connection in list(self.connections):
                connection.close_if_idle(since)
        if quiet_s and self.connections:
            self._sweep = self.clock.call_later(quiet_s / 4, self._close_idle, quiet_s, standstill)

    async def emptied(self) -> None:
        """Returns when the last connection has ended."""
        while self.connections:
            self._emptied.clear()
            await self._emptied.wait()

    async def cut(self) -> None:
        """Ends what is left, in the middle of whatever it does."""
        if self._sweep is not None:
            self._sweep.cancel()
        under_way = [one.task for one in self.connections if one.task is not None]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        for connection in list(self.connections):
            connection.cut()


class InboundConnection(asyncio.Protocol):
    """One connection; `task` answers the request under way."""

    __slots__ = (
        "_app",
        "_aside",
        "_begun",
        "_body",
        "_choked",
        "_closed",
        "_fed",
        "_head",
        "_headers",
        "_heard",
        "_last",
        "_loop",
        "_monotonic",
        "_owner",
        "_parser",
        "_piece",
        "_refusal",
        "_since",
        "_target",
        "_transport",
        "_whole",
        "task",
    )

    def __init__(self, owner: Inbound) -> None:
        self._owner = owner
        self._app = owner.app
        self._monotonic = owner.clock.monotonic
        self._parser: Any = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()  # kept: every asking costs a system call
        self._transport = cast(asyncio.Transport, None)
        self._whole: deque[_Whole] = deque()
        self._refusal: StagedoorError | None = None
        self._aside = b""
        self._begun = self._choked = self._closed = self._last = False
        self._heard = self._monotonic()
        self._fed = self._piece = 0
        self.task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else "answering" if self.task is not None else "waiting"
        return f"InboundConnection({state})"

    # --- what the transport calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        self._heard = self._monotonic()
        if self._closed:
            return
        if self.task is None and not (self._aside or self._whole or self._choked):
            self._feed(data)
            return
        if not self._aside:
            self._transport.pause_reading()
        self._aside += data

    def connection_lost(self, exc: Exception | None) -> None:
        """The request under way is worked off all the same: it may have changed something."""
        self._closed = True
        if self.task is None:
            self._owner.ended(self)

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        if self.task is None and not self._closed:
            self._go_on()

    # --- reading ---

    def _feed(self, data: bytes) -> None:
        if not self._begun and self._hear_call(data):
            return
        self._piece = len(data)
        if self._begun:
            self._fed += self._piece
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._last = True  # answered as if it had not asked to switch, which ends here
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, StagedoorError):
                raise
            self._refusal = cause
        except httptools.HttpParserError as error:
            self._refusal = BadRequest(f"the request is malformed: {error}", code="framing")
        if self._begun and self._fed - len(self._body) > HEADER_LIMIT:
            self._refusal = _huge()
        self._go_on()

    def _hear_call(self, data: bytes) -> bool:
        """Whether `data` was a whole call in our own shape, which is then under way."""
        match = calls.recognised(data)
        if match is None:
            return False
        path, length, *told = match.groups()
        called = self._app.call_of(path)
        if called is None or match.end() + int(length) != len(data):
            return False
        work = self._app.answer_call(called, calls.asked(*told), data[match.end() :])
        if called.at_once:
            self._begin(work)
        else:
            self.task = self._loop.create_task(self._serve(True, True, work))
        return True

    def _begin(self, work: Coroutine[Any, Any, Reply]) -> None:
        """Runs `work` here and now; only if it waits, in a task from there on."""
        try:
            pending = work.send(None)
        except StopIteration as done:
            self._say(done.value)
        else:
            self.task = self._loop.create_task(self._serve(True, True, _going_on(work, pending)))

    def _say(self, reply: Reply) -> None:
        keep = not self._owner.draining
        self._transport.write(written(reply, keep=keep))
        if not keep:
            self._end(clean=True)

    def _go_on(self) -> None:
        """The next thing to do, when no request is under way."""
        if self._choked:
            return
        if self._whole:
            method, path, query, headers, body, keep = self._whole.popleft()
            work = self._app.answer(method, path, query, headers, body)
            self.task = self._loop.create_task(self._serve(keep, method != "HEAD", work))
        elif self._refusal is not None:
            self._refuse(self._refusal)
        elif self._last:
            self._end(clean=False)
        elif self._aside:
            data, self._aside = self._aside, b""
            self._transport.resume_reading()
            self._feed(data)

    # --- what the parser calls ---

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers: Headers = []
        self._body = b""
        self._fed = 0 if self._whole else self._piece
        self._since = self._heard
        self._begun = True

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._head, self._headers = self._headers, []  # what follows are trailers: not read
        if self._fed > HEADER_LIMIT or self._piece > HEADER_LIMIT:
            check_size(self._head)
        expects = check_head(self._head, self._parser.get_http_version())
        if expects and self.task is None and not self._whole:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > BODY_LIMIT:
            raise TooLarge(f"the body is larger than {BODY_LIMIT} bytes")

    def on_message_complete(self) -> None:
        self._begun = False
        parser = self._parser
        path, query = located(self._target)
        keep = parser.should_keep_alive() and parser.get_http_version() == "1.1"
        method = parser.get_method().decode()
        self._whole.append(_Whole(method, path, query, self._head, self._body, keep))

    # --- answering ---

    async def _serve(self, keep: bool, body: bool, work: Awaitable[Reply]) -> None:
        """Answers, whatever becomes of it: a defect, or the end of a drain, is a bare 500."""
        data = _BROKEN
        try:
            reply = await work
            keep = keep and not self._last and not self._owner.draining
            data = written(reply, keep=keep, body=body)
        finally:
            self.task = None
            if not self._closed:
                self._transport.write(data)
            self._after(keep and data is not _BROKEN)

    def _after(self, keep: bool) -> None:
        if self._closed:
            self._owner.ended(self)
        elif keep:
            self._go_on()
        else:
            self._end(clean=not self._last)

    def _refuse(self, failure: StagedoorError) -> None:
        self._transport.write(written(self._app.refuse(failure), keep=False))
        self._end(clean=False)

    def _end(self, *, clean: bool) -> None:
        """Closes; when the caller may still be sending, reads on for a while, so that the answer
        is not lost to a reset (RFC 9112 section 9.6)."""
        self._closed = True
        if clean:
            self._transport.close()
        else:
            self._transport.resume_reading()
            self._transport.write_eof()

    def expire(self, now: float) -> None:
        """Ends what has taken too long."""
        quiet_s = now - self._heard
        if self._closed:
            if quiet_s > _LINGER_S:
                self._transport.abort()
        elif self.task is not None:
            return
        elif self._begun and now - self._since > REQUEST_S:
            self._refuse(TooSlow("the request took too long to come"))
        elif not self._begun and quiet_s > KEEP_ALIVE_S:
            self._transport.close()

    def close_if_idle(self, since: float) -> None:
        """Closes when nothing is under way and nothing was heard since then."""
        is_idle = self.task is None and not self._begun and not self._aside
        if self._closed or (is_idle and self._heard <= since):
            self._transport.close()

    def cut(self) -> None:
        self._transport.abort()


def check_head(headers: Headers, version: str) -> bool:
    """Whether the caller waits to be told to go on; `BadRequest` for a head that is in doubt."""
    fields = dict(headers)  # one look-up a rule; a repeated name makes it the shorter one
    if version not in ("1.1", "1.0"):
        raise BadRequest(f"HTTP/{version} is not spoken here", code="http_version")
    if b"transfer-encoding" in fields:
        framing.request_length(headers, version=version.encode())
    if len(fields) != len(headers) and len(framing.values(headers, b"host")) > 1:
        raise BadRequest("exactly one Host header is needed")
    if b"host" not in fields and version == "1.1":
        raise BadRequest("exactly one Host header is needed")
    if b"upgrade" in fields and (b"transfer-encoding" in fields or _has_body(fields)):
        raise BadRequest("a request that asks to switch protocols must not have a body")
    return b"expect" in fields and version == "1.1"


def check_size(headers: Headers) -> None:
    if sum(len(name) + len(value) for name, value in headers) > HEADER_LIMIT:
        raise _huge()


def _huge() -> BadRequest:
    return BadRequest(f"the headers are larger than {HEADER_LIMIT} bytes")


def _has_body(fields: Mapping[bytes, bytes]) -> bool:
    return fields.get(b"content-length", b"0") != b"0"


def located(target: bytes) -> tuple[str, bytes]:
    """The decoded path and the raw query of a request target in its origin or absolute form."""
    if target[:1] != b"/" and b"://" in target:
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    raw, _, query = target.partition(b"?")
    path = raw.decode("latin-1")
    return (unquote(path) if "%" in path else path), query


@types.coroutine
def _going_on(work: Coroutine[Any, Any, Reply], pending: Any) -> Generator[Any, Any, Reply]:
    """Goes on with a coroutine that has begun already and waits for `pending`."""
    try:
        while True:
            try:
                got = yield pending
            except BaseException as fault:
                pending = work.throw(fault)
            else:
                pending = work.send(got)
    except StopIteration as done:
        reply: Reply = done.value
        return reply
