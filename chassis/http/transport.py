"""Our pools offered to httpx: `httpx.AsyncClient(transport=Transport())`.

httpx's own timeouts count: connect, pool, and read and write between one piece and the next.
Request bodies are sent while the answer is already read, so both directions may stream. Failures
are httpx's exceptions, since its users catch those.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from typing import Any, Final, NamedTuple

import httpx

from chassis.clock import SYSTEM, Clock
from chassis.errors import (
    BadRequest,
    BulkheadFull,
    ConnectFailed,
    Faulty,
    OriginGarbled,
    OriginReset,
    StagedoorError,
)
from chassis.http import framing
from chassis.http.attempt import Attempt, RoomTimeout, may_repeat
from chassis.http.connection import Connection
from chassis.http.framing import Headers
from chassis.http.pool import Pool, PoolLimits
from chassis.http.pools import Pools

_PORTS: Final = {"http": 80, "https": 443}
_AT_ONCE: Final = 256 * 1024
"""A larger body goes piece by piece, so that a peer that stops reading is noticed."""


class Patience(NamedTuple):
    """httpx's timeouts in seconds; infinite where httpx says None."""

    connect: float = math.inf
    read: float = math.inf
    write: float = math.inf
    pool: float = math.inf

    @classmethod
    def of(cls, request: httpx.Request) -> Patience:
        stated: Mapping[str, float | None] = request.extensions.get("timeout", {})
        return cls(*(_seconds(stated.get(name)) for name in cls._fields))


def _seconds(stated: float | None) -> float:
    return math.inf if stated is None else stated


class Transport(httpx.AsyncBaseTransport):
    """An httpx transport over `Pools`: its own, closed with it, unless some are given."""

    def __init__(
        self,
        *,
        pools: Pools | None = None,
        limits: PoolLimits | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._owned = pools is None
        self._pools = pools or Pools(limits=limits, tls=tls, clock=clock)
        self._clock = clock

    def __repr__(self) -> str:
        return f"Transport({self._pools!r})"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One request; redirects, cookies and decoding are httpx's business above this."""
        try:
            call = _Call.of(request, self._pool(request), self._clock)
            attempt = await call.answered()
        except (StagedoorError, UnicodeError) as failure:
            raise translated(failure, request) from failure
        return httpx.Response(
            attempt.status,
            headers=attempt.headers,
            stream=_Body(call, attempt),
            extensions={
                "http_version": b"HTTP/" + attempt.version.encode(),
                "reason_phrase": attempt.reason,
            },
        )

    def _pool(self, request: httpx.Request) -> Pool:
        url = request.url
        if url.scheme not in _PORTS:
            raise httpx.UnsupportedProtocol(
                f"the URL must begin with http:// or https://, not {url.scheme!r}", request=request
            )
        host = url.raw_host.decode("ascii").strip("[]")
        return self._pools.get(url.scheme == "https", host, url.port or _PORTS[url.scheme])

    async def aclose(self) -> None:
        """Closes the pools, unless they are shared."""
        if self._owned:
            await self._pools.close()


class _VersionedAttempt(Attempt):
    """Keeps the HTTP version, which the connection forgets with its next answer."""

    __slots__ = ("_link", "version")

    def __init__(self, pool: Pool, connection: Connection) -> None:
        super().__init__(pool, connection)
        self._link = connection
        self.version = "1.1"

    def on_head(self, status: int, reason: bytes, headers: Headers) -> None:
        self.version = self._link.version()
        super().on_head(status, reason, headers)


class _Call(NamedTuple):
    """One httpx request, ready for the wire."""

    request: httpx.Request
    pool: Pool
    clock: Clock
    patience: Patience
    method: bytes
    head: bytes
    length: int
    body: bytes | None
    """None: the request's stream has it."""

    @classmethod
    def of(cls, request: httpx.Request, pool: Pool, clock: Clock) -> _Call:
        headers = _framed_once(request.headers.raw)
        method = request.method.encode("ascii")
        head = framing.checked_request_head(method, request.url.raw_path, headers)
        length = framing.request_length(headers)
        whole = request.read() if isinstance(request.stream, httpx.ByteStream) else None
        if whole is not None and length >= 0 and length != len(whole):
            raise Faulty(f"content-length does not say {len(whole)}, which the body has")
        if whole is not None and length == framing.CHUNKED:
            whole = framing.chunk(whole) + framing.LAST_CHUNK
        return cls(request, pool, clock, Patience.of(request), method, head, length, whole)

    async def answered(self) -> _VersionedAttempt:
        """An attempt whose head is there."""
        fresh = False
        while True:
            attempt = await self._begin(fresh)
            try:
                await attempt.head_or_sent()
                await self.patiently(attempt, attempt.head)
                return attempt
            except OriginReset as failure:
                if fresh or not may_repeat(attempt, failure, self.method, self.body is not None):
                    raise
                fresh = True
            except BaseException:
                attempt.leave()
                raise

    async def _begin(self, fresh: bool) -> _VersionedAttempt:
        connection = None if fresh else self.pool.take()
        if connection is None:
            connection = await self.pool.connect(
                connect_s=self.patience.connect, wait_s=self.patience.pool
            )
        attempt = _VersionedAttempt(self.pool, connection)
        if self.body is not None and len(self.body) <= _AT_ONCE:
            attempt.start(self.method, self.head, self.body)
        else:
            pieces, length = self._pieces()
            attempt.start_stream(self.method, self.head, pieces, length, room=self._room())
        return attempt

    def _pieces(self) -> tuple[AsyncIterable[bytes], int]:
        if self.body is not None:
            return _sliced(self.body), len(self.body)
        assert isinstance(self.request.stream, httpx.AsyncByteStream)
        return self.request.stream, self.length

    def _room(self) -> RoomTimeout | None:
        if self.patience.write == math.inf:
            return None
        failure = httpx.WriteTimeout("the peer stopped reading", request=self.request)
        return RoomTimeout(self.clock, self.patience.write, failure)

    async def patiently(self, attempt: Attempt, step: Callable[[], Any]) -> Any:
        """`step()` of an attempt, which fails with ReadTimeout when it takes too long."""
        if self.patience.read == math.inf:
            return await step()
        failure = httpx.ReadTimeout("the peer sent nothing in time", request=self.request)
        timer = attempt.expire(self.clock, self.patience.read, failure)
        try:
            return await step()
        finally:
            timer.cancel()


class _Body(httpx.AsyncByteStream):
    """An answer's body as httpx reads it; closing it early closes the connection."""

    def __init__(self, call: _Call, attempt: Attempt) -> None:
        self._call = call
        self._attempt = attempt

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while piece := await self._read():
                yield piece
        except StagedoorError as failure:
            raise translated(failure, self._call.request) from failure

    async def _read(self) -> bytes:
        if self._attempt.ready:
            return await self._attempt.read()
        piece: bytes = await self._call.patiently(self._attempt, self._attempt.read)
        return piece

    async def aclose(self) -> None:
        self._attempt.leave()


def _framed_once(headers: Headers) -> Headers:
    """httpx adds a content-length to a transfer-encoding that its user asked for."""
    if framing.value(headers, b"transfer-encoding") is None:
        return headers
    return [pair for pair in headers if pair[0].lower() != b"content-length"]


async def _sliced(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _AT_ONCE):
        yield body[start : start + _AT_ONCE]


def translated(failure: Exception, request: httpx.Request) -> httpx.RequestError:
    """What httpx's users expect to catch in place of `failure`."""
    return _kind(failure)(str(failure), request=request)


def _kind(failure: Exception) -> type[httpx.RequestError]:
    if isinstance(failure, ConnectFailed):
        late = isinstance(failure.__cause__, TimeoutError)
        return httpx.ConnectTimeout if late else httpx.ConnectError
    if isinstance(failure, BulkheadFull):
        return httpx.PoolTimeout
    if isinstance(failure, Faulty | BadRequest | UnicodeError):
        return httpx.LocalProtocolError
    if isinstance(failure, OriginReset) and failure.__cause__ is not None:
        return httpx.ReadError
    if isinstance(failure, OriginReset | OriginGarbled):
        return httpx.RemoteProtocolError
    return httpx.NetworkError
