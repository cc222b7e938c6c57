"""An exchange's attempts at instances: one is picked, asked over a pooled connection, given back.

Synchronous wherever an idle connection is at hand; a task exists only while a new one is opened.
Another attempt is made by proof that the last one was not processed, or where repeating is
harmless; on another instance, out of its cluster's budget, and while the body is at hand.
"""

from __future__ import annotations

from chassis.discovery.balancer import Standing
from chassis.errors import ConnectFailed, OriginFailure
from chassis.http.connection import Connection
from chassis.http.framing import CHUNKED, Headers, chunk, last_chunk
from chassis.http.pool import Pool
from gateway import upstream
from gateway.answering import Answering
from gateway.edge.fields import clean_trailers
from gateway.origins import Origin
from gateway.ready import ReadyRoute
from gateway.retrying import STATUS, Reason, forbids_retry, is_repeatable, reason_of

GATEWAY_FAILURES = frozenset({502, 503, 504})
KEPT_BODY = 16 * 1024
"""Bytes of a body that are kept for another attempt when it did not come with its head."""


class Attempting(Answering):
    """Holds one attempt at a time: from `_attempt` to `_give_back`."""

    __slots__ = (
        "_body",
        "_first_head",
        "_head",
        "_origin",
        "_pool",
        "_reason",
        "_sent_at",
        "_streamed",
        "_trailers",
        "_tried",
    )

    _body: bytes
    _first_head: bytes
    _head: bytes
    _origin: Origin
    _pool: Pool
    _reason: str
    _sent_at: float
    _streamed: bool
    _trailers: Headers
    _tried: tuple[str, ...]

    def _attempt(
        self, origin: Origin, standing: Standing, now: float, *, fresh: bool = False
    ) -> None:
        """`fresh`: over a connection that has not served yet."""
        self._origin = origin
        self._standing = standing
        self._sent_at = now
        self.attempts += 1
        standing.in_flight += 1
        self._pool = pool = origin.pool(standing.instance)
        connection = None if fresh else pool.take()
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
        latency_s = now - self._sent_at
        good = status not in GATEWAY_FAILURES if is_complete else verdict(status)
        if good:
            origin.balancer.ended(standing, latency_s, True, now)
        else:
            reached = status != ConnectFailed.code
            origin.balancer.ended(standing, latency_s, good, now, reached=reached)
        if self.attempts > 1:
            self._count_again(status, good)
            return
        counter = origin.counters.get(status)
        if counter is None:
            counter = self._gateway.observer.first_attempt(origin, status)
        counter.n = number = counter.n + 1
        if good and not number & origin.sampled:
            origin.learn(latency_s)

    def _count_again(self, status: int | str, good: bool | None) -> None:
        observer, origin = self._gateway.observer, self._origin
        if self._reason == HEDGE:
            observer.extra_attempt(origin, HEDGE, status)
            return
        observer.extra_attempt(origin, "retry", status)
        outcome = "abandoned" if good is None else "succeeded" if good else "failed"
        observer.retried(origin, self._reason, outcome)

    def _report(self, utilisation: float) -> None:
        """The instance says how busy it is."""
        standing = self._standing
        if standing is not None:
            self._origin.balancer.reported(standing, utilisation, self._gateway.monotonic())

    # -- another attempt

    def on_failure(self, failure: OriginFailure) -> None:
        standing, connection = self._standing, self._connection
        if standing is None:
            self.fail(failure)
            return
        is_kept = connection is not None and connection.uses > 1
        reason = reason_of(failure, is_kept=is_kept)
        if self._goes_on(failure.code, is_complete=False):
            return
        other = self._another(standing, reason) if reason is not None else None
        self._give_back(failure.code)
        if other is None or reason is None:
            self.fail(failure)
        else:
            self._again(standing, other, reason)

    def _tries_again(self, status: int, headers: Headers, *, is_complete: bool) -> bool:
        standing, ready = self._standing, self.ready
        if standing is None or ready is None or status not in ready.retries.statuses:
            return False
        if self._goes_on(status, is_complete=is_complete):
            return True
        if forbids_retry(headers):
            self._gateway.observer.retried(self._origin, STATUS.name, "forbidden")
            return False
        other = self._another(standing, STATUS)
        if other is None:
            return False
        self._give_back(status, is_complete=is_complete)
        self._again(standing, other, STATUS)
        return True

    def _goes_on(self, status: int | str, *, is_complete: bool) -> bool:
        """Whether a hedge goes on where this attempt has come to nothing."""
        raise NotImplementedError

    def _time(self, ready: ReadyRoute) -> None:
        """The attempt just begun is timed as the rule says."""
        raise NotImplementedError

    def _another(self, standing: Standing, reason: Reason) -> Standing | None:
        """Who takes another attempt, paid out of the budget; None where there may be none."""
        ready, origin = self.ready, self._origin
        if ready is None or self.attempts >= ready.retries.attempts:
            return None
        if self._streamed or self.status or not (reason.proven or self._is_repeatable()):
            return None
        now = self._gateway.monotonic()
        tried = self._now_tried(standing)
        other = origin.another(now, tried, spare=reason.proven)
        if other is None and reason.same:
            other = standing
        if other is None:
            refused = "no_instance"
        elif self._left_s(now) <= origin.p50.value:
            refused = "deadline"
        elif not origin.budget.withdraw(origin.calls(), now, reason.floor):
            refused = "budget"
        else:
            return other
        self._gateway.observer.retried(origin, reason.name, refused)
        return None

    def _now_tried(self, standing: Standing) -> tuple[str, ...]:
        """The ids of all instances that had an attempt."""
        name = standing.instance.id
        return (name,) if self.attempts == 1 else (*self._tried, name)

    def _is_repeatable(self) -> bool:
        return is_repeatable(self.method, self.fields.pairs)

    def _left_s(self, now: float) -> float:
        """What is left of the rule's timeout."""
        assert self.ready is not None
        return self.ready.timeouts.get(self, self.started) + self.ready.timeout_s - now

    def _again(self, standing: Standing, other: Standing, reason: Reason) -> None:
        assert self.ready is not None
        now = self._gateway.monotonic()
        if self.attempts == 1:
            self._first_head = self._head
        self._tried = self._now_tried(standing)
        self._head = upstream.again(
            self._first_head, self.ready, self._left_s(now), self.attempts + 1
        )
        self._reason = reason.name
        self._headed_at = 0.0
        self._attempt(self._origin, other, now, fresh=other is standing)
        if self.ready.is_timed:
            self._time(self.ready)

    # -- the request's body

    def _keep_body(self, body: bytes) -> None:
        """Keeps what is sent on for another attempt, as long as it is little."""
        if self._streamed or self.bytes_in > KEPT_BODY:
            self._streamed = True
            self._body = b""
        else:
            self._body += body

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


HEDGE = "hedge"


def verdict(outcome: int | str) -> bool | None:
    """Whether an attempt cut short speaks for its instance: None says nothing either way, as where
    the client left or broke a rule, or where we refused."""
    if isinstance(outcome, int):
        return outcome not in GATEWAY_FAILURES
    return False if outcome.startswith("origin_") else None
