"""The coroutine client: what everything uses that is not the gateway's data path.

```python
client = Client()
response = await client.request("GET", "http://127.0.0.1:8500/v1/status/leader")
async with client.stream("POST", url, body=pieces()) as answer:
    async for piece in answer: ...
```

A request is tried once more, on a new connection, where that is harmless: nothing was sent, or a
kept connection ended before any answer to a request that may be repeated. All other retrying is
the caller's policy.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from chassis.clock import SYSTEM, Clock
from chassis.deadline import Deadline
from chassis.errors import (
    BulkheadFull,
    ConnectFailed,
    DeadlineExceeded,
    Faulty,
    OriginReset,
    OriginTimeout,
)
from chassis.http import framing
from chassis.http.attempt import Attempt, may_repeat
from chassis.http.connection import Connection
from chassis.http.framing import Headers
from chassis.http.pool import Pool, PoolLimits
from chassis.http.pools import Pools

Body = bytes | AsyncIterable[bytes]
Pairs = Sequence[tuple[bytes, bytes]]

ANSWER_LIMIT: Final = 64 << 20
_WITH_BODY: Final = frozenset({b"POST", b"PUT", b"PATCH"})
_PORTS: Final = {"http": 80, "https": 443}


class Response(msgspec.Struct, frozen=True, gc=False):
    """A whole answer. The body is as it came: never decoded."""

    status: int
    reason: bytes
    headers: Headers
    body: bytes
    trailers: Headers

    def header(self, name: bytes) -> bytes | None:
        """The first value of `name`, given in lower case."""
        return framing.value(self.headers, name)


class Outgoing(NamedTuple):
    """One request, ready for the wire, and by when it must be answered."""

    pool: Pool
    method: bytes
    head: bytes
    body: Body
    length: int
    deadline: Deadline
    first_byte_s: float


class Client:
    """Requests over shared pools. Fails with `chassis.errors` only; judges no status."""

    def __init__(
        self,
        *,
        pools: Pools | None = None,
        limits: PoolLimits | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Clock = SYSTEM,
        first_byte_s: float = math.inf,
    ) -> None:
        self._pools = pools or Pools(limits=limits, tls=tls, clock=clock)
        self._clock = clock
        self._first_byte_s = first_byte_s
        self._never = Deadline.never(clock)
        self._origins: dict[str, tuple[Pool, bytes]] = {}

    def __repr__(self) -> str:
        return f"Client({self._pools!r})"

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Pairs = (),
        body: Body = b"",
        deadline: Deadline | None = None,
        first_byte_s: float | None = None,
        limit: int = ANSWER_LIMIT,
    ) -> Response:
        """The whole answer, whatever its status.

        Raises `ConnectFailed`, `BulkheadFull`, `OriginReset`, `OriginGarbled`, `OriginTimeout`
        (no head within `first_byte_s`) or `DeadlineExceeded`. What a request body's iterator
        raises passes through. Cancelling closes the connection.
        """
        outgoing = self._prepare(method, url, headers, body, deadline, first_byte_s)
        attempt = await self._exchange(outgoing, limit)
        return Response(
            attempt.status, attempt.reason, attempt.headers, attempt.body, attempt.trailers
        )

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Pairs = (),
        body: Body = b"",
        deadline: Deadline | None = None,
        first_byte_s: float | None = None,
    ) -> AsyncIterator[Attempt]:
        """The answer from its head on: iterate it for its body's pieces. Fails as `request`."""
        outgoing = self._prepare(method, url, headers, body, deadline, first_byte_s)
        attempt = await self._exchange(outgoing, None)
        try:
            yield attempt
        finally:
            attempt.leave()

    async def close(self) -> None:
        """Closes the pools: idle connections now, those in use when their answers end."""
        await self._pools.close()

    async def _exchange(self, outgoing: Outgoing, limit: int | None) -> Attempt:
        """An attempt with its head there, or, with a limit, with the whole answer."""
        fresh = False
        while True:
            attempt = await self._begin(outgoing, fresh)
            try:
                await (attempt.head() if limit is None else attempt.collect(limit))
                return attempt
            except OriginReset as failure:
                whole_body = isinstance(outgoing.body, bytes)
                if fresh or not may_repeat(attempt, failure, outgoing.method, whole_body):
                    raise
                fresh = True
            except BaseException:
                attempt.leave()
                raise

    async def _begin(self, outgoing: Outgoing, fresh: bool) -> Attempt:
        pool, method, head, body, length, deadline, _ = outgoing
        left = deadline.check("the request was sent")
        connection = None if fresh else pool.take()
        if connection is None:
            connection = await self._connect(pool, deadline, left)
        attempt = Attempt(pool, connection)
        self._arm(attempt, outgoing)
        if isinstance(body, bytes):
            attempt.start(method, head, body)
        else:
            attempt.start_stream(method, head, body, length)
        return attempt

    @staticmethod
    async def _connect(pool: Pool, deadline: Deadline, left: float) -> Connection:
        limits = pool.limits
        try:
            return await pool.connect(
                connect_s=min(limits.connect_s, left), wait_s=min(limits.wait_s, left)
            )
        except (ConnectFailed, BulkheadFull) as failure:
            if deadline.expired():
                raise DeadlineExceeded("the deadline passed before a connection") from failure
            raise

    def _arm(self, attempt: Attempt, outgoing: Outgoing) -> None:
        """One timer for whichever comes first."""
        left = outgoing.deadline.remaining()
        if outgoing.first_byte_s < left:
            first_s = outgoing.first_byte_s
            timer = self._clock.call_later(first_s, self._first_byte_due, attempt, outgoing)
            attempt.bound(timer)
        elif left < math.inf:
            attempt.bound(self._clock.call_later(left, self._overdue, attempt))

    def _first_byte_due(self, attempt: Attempt, outgoing: Outgoing) -> None:
        if not attempt.status:
            attempt.fail(OriginTimeout(f"no answer within {outgoing.first_byte_s:g} s"))
        elif outgoing.deadline.at < math.inf:
            left = outgoing.deadline.remaining()
            attempt.bound(self._clock.call_later(left, self._overdue, attempt))

    @staticmethod
    def _overdue(attempt: Attempt) -> None:
        attempt.fail(DeadlineExceeded("the deadline passed before the answer's end"))

    def _prepare(
        self,
        method: str,
        url: str,
        headers: Pairs,
        body: Body,
        deadline: Deadline | None,
        first_byte_s: float | None,
    ) -> Outgoing:
        split = url.find("/", 8)
        origin, target = (url, "/") if split < 0 else (url[:split], url[split:])
        pool, host = self._origins.get(origin) or self._origin(origin)
        verb = method.encode()
        lines = list(headers)
        if framing.value(lines, b"host") is None:
            lines.insert(0, (b"host", host))
        lines, length = _with_framing(verb, lines, body)
        head = framing.checked_request_head(verb, _ascii(target), lines)
        patience = self._first_byte_s if first_byte_s is None else first_byte_s
        return Outgoing(pool, verb, head, body, length, deadline or self._never, patience)

    def _origin(self, origin: str) -> tuple[Pool, bytes]:
        parts = urlsplit(origin)
        if parts.scheme not in _PORTS or not parts.hostname or origin.count("/") != 2:
            raise Faulty(f"{origin!r} is no origin: write http://host:port/path")
        if parts.username is not None or "?" in origin or "#" in origin:
            raise Faulty("an origin holds neither credentials, nor a query, nor a fragment")
        port = parts.port or _PORTS[parts.scheme]
        pool = self._pools.get(parts.scheme == "https", parts.hostname, port)
        found = self._origins[origin] = (pool, _ascii(parts.netloc))
        return found


def _ascii(text: str) -> bytes:
    try:
        return text.encode("ascii")
    except UnicodeEncodeError:
        raise Faulty(f"percent-encode or IDNA-encode what is not ASCII in {text!r}") from None


def _with_framing(method: bytes, headers: Headers, body: Body) -> tuple[Headers, int]:
    """`headers` with what says how long the body is, and that length."""
    if framing.value(headers, b"transfer-encoding") is not None:
        raise Faulty("leave transfer-encoding out: the client frames the body")
    stated = framing.value(headers, b"content-length")
    if isinstance(body, bytes):
        if stated is None and (body or method in _WITH_BODY):
            headers.append((b"content-length", b"%d" % len(body)))
        elif stated is not None and framing.request_length(headers) != len(body):
            raise Faulty(f"content-length does not say {len(body)}, which the body has")
        return headers, len(body)
    if stated is None:
        headers.append((b"transfer-encoding", b"chunked"))
        return headers, framing.CHUNKED
    return headers, framing.request_length(headers)
