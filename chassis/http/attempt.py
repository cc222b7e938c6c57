"""One try of one request, as a coroutine sees it: the awaiting side of a `Receiver`.

Holds a connection from its start to its end; whoever stops caring calls `leave`, which gives the
connection back, or closes it when the answer is not complete. A timeout is a timer that fails
the attempt: nothing is cancelled for it and nothing is wrapped around an await.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Final

from chassis.clock import Clock, Timer
from chassis.errors import Faulty, OriginFailure, OriginGarbled, OriginReset
from chassis.http import framing
from chassis.http.connection import Connection
from chassis.http.framing import Headers
from chassis.http.pool import Pool

WINDOW: Final = 64 * 1024
"""Bytes of an answer kept for a slow reader before its connection is no longer read."""


class Attempt:
    """The answer as it comes: `status`, `headers`, then pieces; iterate it or `read` them."""

    __slots__ = (
        "_buffered",
        "_connection",
        "_failure",
        "_limit",
        "_parts",
        "_pool",
        "_pump",
        "_reader",
        "_timer",
        "_writer",
        "ended",
        "headers",
        "reason",
        "reused",
        "sent",
        "status",
        "trailers",
    )

    def __init__(self, pool: Pool, connection: Connection) -> None:
        self._pool = pool
        self._connection: Connection | None = connection
        self.reused = connection.uses > 0
        self._parts: list[bytes] = []
        self._buffered = 0
        self._limit: int | None = None
        self._failure: BaseException | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._pump: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self.status = 0
        self.reason = b""
        self.headers: Headers = []
        self.trailers: Headers = []
        self.sent = False
        self.ended = False

    def __repr__(self) -> str:
        state = "ended" if self.ended else "failed" if self._failure else "open"
        return f"Attempt({state}, {self.status or 'no status yet'})"

    # --- sending ---

    def start(self, method: bytes, head: bytes, body: bytes = b"") -> None:
        """Sends a whole request."""
        assert self._connection is not None
        self.sent = True
        self._connection.start(self, head, method=method, body=body)

    def start_stream(
        self,
        method: bytes,
        head: bytes,
        pieces: AsyncIterable[bytes],
        length: int,
        *,
        room: RoomTimeout | None = None,
    ) -> None:
        """Sends a head, and the body as it comes while the answer is awaited.

        `length` is the body's length or `CHUNKED`.
        """
        assert self._connection is not None
        self._connection.start(self, head, method=method, more=True)
        self._pump = asyncio.get_running_loop().create_task(self._send(pieces, length, room))

    async def _send(
        self, pieces: AsyncIterable[bytes], length: int, room: RoomTimeout | None
    ) -> None:
        try:
            left = await self._send_pieces(pieces, length, room)
            if left > 0:
                raise Faulty(f"the request body ended {left} bytes before its content-length")
        except Exception as fault:
            self.fail(fault)
        else:
            self._finish(length)

    async def _send_pieces(
        self, pieces: AsyncIterable[bytes], length: int, room: RoomTimeout | None
    ) -> int:
        """Returns what is missing of `length`."""
        left = length
        async for piece in pieces:
            if self._connection is None:
                return 0
            left = _less(left, len(piece))
            data = framing.chunk(piece) if length == framing.CHUNKED else piece
            if not self._connection.send(data):
                await self._room(room)
        return left

    def _finish(self, length: int) -> None:
        self.sent = True
        if self._connection is not None:
            if length == framing.CHUNKED:
                self._connection.send(framing.LAST_CHUNK)
            self._connection.finish()
        self._wake()

    async def _room(self, room: RoomTimeout | None) -> None:
        self._writer = asyncio.get_running_loop().create_future()
        timer = room.start(self) if room is not None else None
        try:
            await self._writer
        finally:
            self._writer = None
            if timer is not None:
                timer.cancel()

    # --- awaiting ---

    async def head(self) -> None:
        """Returns when the answer's head is there; raises the failure when it will not come."""
        while not self.status:
            await self._progress()

    async def head_or_sent(self) -> None:
        """Returns when the head is there or the whole request has been handed to the transport."""
        while not self.status and not self.sent:
            await self._progress()

    async def read(self) -> bytes:
        """The next piece of the body; b"" at its end; raises the failure behind the last piece."""
        while not self._parts:
            if self.ended:
                return b""
            await self._progress()
        piece = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._buffered = 0
        if self._connection is not None:
            self._connection.resume()
        return piece

    async def collect(self, limit: int) -> None:
        """Returns when the whole answer is there; `OriginGarbled` when it is too long.

        Before any `read`: the whole is then in `body`.
        """
        self._limit = limit
        self._check_limit()
        if self._connection is not None:
            self._connection.resume()
        while not self.ended:
            await self._progress()

    @property
    def body(self) -> bytes:
        """What has come and was not yet read; after `collect` the whole body."""
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    @property
    def ready(self) -> bool:
        """Whether `read` would not wait."""
        return bool(self._parts) or self.ended

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.read():
            yield piece

    async def _progress(self) -> None:
        if self._failure is not None:
            raise self._failure
        reader = self._reader = asyncio.get_running_loop().create_future()
        try:
            await reader
        finally:
            self._reader = None

    # --- ending ---

    def expire(self, clock: Clock, seconds: float, failure: BaseException) -> Timer:
        """Fails the attempt after `seconds`, unless the timer is cancelled."""
        return clock.call_later(seconds, self.fail, failure)

    def bound(self, timer: Timer) -> None:
        """Cancels `timer` when the attempt is over."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer

    def fail(self, failure: BaseException) -> None:
        """Ends the attempt from this side."""
        if not self.ended and self._failure is None:
            self._failure = failure
            self.leave()

    def leave(self) -> None:
        """Nobody cares any more: the connection goes back, or is closed amid an answer."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.give(connection)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pump is not None and not self.sent:
            self._pump.cancel()
        self._wake()
        self.on_writable()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # --- the Receiver ---

    def on_interim(self, status: int, headers: Headers) -> None:
        """Nothing to do: the final answer is still to come."""

    def on_head(self, status: int, reason: bytes, headers: Headers) -> None:
        if status == 101:
            self.fail(OriginGarbled("the answer switches protocols, which this client does not"))
            return
        self.status = status
        self.reason = reason
        self.headers = headers
        if self._limit is None:
            self._wake()

    def on_data(self, data: bytes) -> None:
        self._parts.append(data)
        self._buffered += len(data)
        if self._limit is not None:
            self._check_limit()
            return
        if self._buffered > WINDOW and self._connection is not None:
            self._connection.pause()
        self._wake()

    def _check_limit(self) -> None:
        if self._limit is not None and self._buffered > self._limit:
            self.fail(OriginGarbled(f"the answer is longer than {self._limit} bytes"))

    def on_end(self, trailers: Headers) -> None:
        self.trailers = trailers
        self.ended = True
        self.leave()

    def on_failure(self, failure: OriginFailure) -> None:
        self.fail(failure)

    def on_writable(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)


_REPEATABLE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})


def may_repeat(attempt: Attempt, failure: OriginReset, method: bytes, whole_body: bool) -> bool:
    """Whether sending the request again cannot do harm, judged by how its first attempt ended.

    Nothing was sent; or a kept connection, which its other side may close at any time, ended
    before any answer to a method that may be repeated.
    """
    if attempt.status or not whole_body:
        return False
    return not failure.sent or (attempt.reused and method in _REPEATABLE)


class RoomTimeout:
    """How long a request body may wait for the other side to read, and what it then fails with."""

    def __init__(self, clock: Clock, seconds: float, failure: BaseException) -> None:
        self.clock = clock
        self.seconds = seconds
        self.failure = failure

    def start(self, attempt: Attempt) -> Timer:
        return attempt.expire(self.clock, self.seconds, self.failure)


def _less(left: int, size: int) -> int:
    if left == framing.CHUNKED:
        return left
    if size > left:
        raise Faulty("the request body is longer than its content-length")
    return left - size
