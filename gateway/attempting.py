"""An exchange's attempts at instances: one is picked, asked over a pooled connection, given back.

Synchronous wherever an idle connection is at hand; a task exists only while a new one is opened.
"""

from __future__ import annotations

from chassis.errors import OriginFailure, Retryable, StagedoorError
from chassis.http.connection import Connection
from chassis.http.framing import CHUNKED, Headers, chunk, last_chunk
from chassis.http.pool import Pool
from gateway.answering import Answering
from gateway.edge.fields import clean_trailers
from gateway.origins import Origin

ATTEMPTS = 2
"""In all; and only where the first provably was not processed."""

GATEWAY_FAILURES = frozenset({502, 503, 504})


class Attempting(Answering):
    """Holds one attempt at a time: from `_attempt` to `_give_back`."""

    __slots__ = (
        "_body",
        "_head",
        "_origin",
        "_pool",
        "_sent_at",
        "_streamed",
        "_trailers",
        "_tried",
    )

    _body: bytes
    _head: bytes
    _origin: Origin
    _pool: Pool
    _sent_at: float
    _streamed: bool
    _trailers: Headers
    _tried: tuple[str, ...]

    def _attempt(self, origin: Origin, now: float) -> None:
        self._origin = origin
        self._standing = standing = origin.choose(now, self._tried)
        self._sent_at = now
        self.attempts += 1
        standing.in_flight += 1
        self._pool = pool = origin.pool(standing.instance)
        connection = pool.take()
        if connection is None:
            self._spawn(self._connect(pool))
        else:
            self._start(connection)

    async def _connect(self, pool: Pool) -> None:
        try:
            connection = await pool.connect()
        except OriginFailure as failure:
            self._task = None
            self.on_failure(failure)
            return
        self._task = None
        self._start(connection)

    def _start(self, connection: Connection) -> None:
        self._connection = connection
        body = self._framed(self._body) if self._body or self.fields.length else b""
        writable = connection.start(
            self, self._head, method=self.method, body=body, more=self._more, whole=self
        )
        if not self._more:
            return
        if writable:
            self.on_writable()
        else:
            self._hold()

    def _give_back(self, status: int | str, *, is_complete: bool = False) -> None:
        """The attempt is over: its connection, its place in the balancer, its counter."""
        standing = self._standing
        if standing is None:
            return
        origin = self._origin
        connection, self._connection, self._standing = self._connection, None, None
        if connection is not None:
            if not is_complete:
                connection.abort()
            self._pool.give(connection)
        now = self._headed_at or self._gateway.monotonic()
        good = status not in GATEWAY_FAILURES if is_complete else verdict(status)
        origin.balancer.ended(standing, now - self._sent_at, good, now)
        counter = origin.counters.get((self.attempts, status))
        if counter is None:
            counter = self._gateway.observer.attempt(origin, self.attempts, status)
        counter.n += 1

    def on_failure(self, failure: OriginFailure) -> None:
        standing = self._standing
        self._give_back(failure.code)
        if standing is None or not self._may_retry(failure):
            self.fail(failure)
            return
        self._tried = (*self._tried, standing.instance.id)
        try:
            self._attempt(self._origin, self._gateway.monotonic())
        except Exception as refused:  # no instance left: the caller gets the first failure
            self.fail(failure if isinstance(refused, StagedoorError) else refused)

    def _may_retry(self, failure: OriginFailure) -> bool:
        """Only with proof that nothing was processed, and while the whole body is at hand."""
        return (
            failure.retryable is Retryable.ALWAYS
            and self.attempts < ATTEMPTS
            and not self._streamed
            and not self.status
        )

    # -- the request's body

    def _hold(self) -> None:
        """No more of the request's body for now."""
        self._held = True
        self._downstream.hold()

    def on_writable(self) -> None:
        if self._held:
            self._held = False
            self._downstream.release()

    def _framed(self, body: bytes) -> bytes:
        if self.fields.length != CHUNKED:
            return body
        framed = chunk(body)
        return framed if self._more else framed + last_chunk(clean_trailers(self._trailers))


def verdict(outcome: int | str) -> bool | None:
    """Whether an attempt cut short speaks for its instance: None says nothing either way, as where
    the client left or broke a rule, or where we refused."""
    return False if str(outcome).startswith("origin_") else None
