"""Attempts that are timed, and raced: only where a rule asks for it.

An attempt's own timeout fails it as the instance's would. A hedge is a second attempt beside one
that takes longer than most; the first good answer wins and the other attempt is cancelled. The
first attempt stays the exchange's own; the hedge becomes it when it wins, or when the first fails.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chassis.clock import Timer
from chassis.discovery.balancer import Standing
from chassis.errors import OriginFailure, OriginTimeout, StagedoorError
from chassis.http.connection import Connection
from chassis.http.framing import Headers
from chassis.http.heads import Head
from gateway import upstream
from gateway.attempting import GATEWAY_FAILURES, HEDGE, Attempting, verdict
from gateway.ready import ReadyRoute

if TYPE_CHECKING:
    from gateway.rules.model import Hedge as HedgeRule


class Watch:
    """What is timed of an exchange's attempt, and its hedge while the race is open."""

    __slots__ = ("hedge", "timers")

    def __init__(self) -> None:
        self.timers: list[Timer] = []
        self.hedge: Hedge | None = None

    def cancel(self) -> None:
        for timer in self.timers:
            timer.cancel()
        hedge, self.hedge = self.hedge, None
        if hedge is not None:
            hedge.drop("superseded", "lost")

    def __repr__(self) -> str:
        return f"Watch({len(self.timers)} timers, {self.hedge!r})"


class Racing(Attempting):
    """Times attempts, and races them."""

    __slots__ = ()

    def _time(self, ready: ReadyRoute) -> None:
        """The attempt just begun is timed as the rule says."""
        if self._watch is not None:
            self._watch.cancel()
        if self._done:
            return
        self._watch = watch = Watch()
        clock, number = self._gateway.clock, self.attempts
        timeout_s = ready.retries.attempt_timeout_s
        if timeout_s is not None:
            watch.timers.append(clock.call_later(timeout_s, self._late, number, timeout_s))
        if ready.hedge is not None and number == 1:
            delay_s = self._delay_s(ready.hedge)
            if delay_s is not None:
                watch.timers.append(clock.call_later(delay_s, self._race, watch, ready))

    def _is_waiting(self, number: int) -> bool:
        """Whether that attempt has not been answered yet."""
        over = self._done or self.status
        return not over and self.attempts == number and self._standing is not None

    def _late(self, number: int, timeout_s: float) -> None:
        """The attempt's timeout has passed. While the body still comes it is the client's."""
        watch = self._watch
        if watch is None or not self._is_waiting(number):
            return
        if self._more and not (self._held or self.asks_first):
            clock = self._gateway.clock
            watch.timers.append(clock.call_later(timeout_s, self._late, number, timeout_s))
            return
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self.on_failure(OriginTimeout(f"no answer within the attempt's {timeout_s:g} s"))

    def _delay_s(self, hedge: HedgeRule) -> float | None:
        """After how long a hedge begins; None when this request has none."""
        quantile = self._origin.quantile(hedge.quantile)
        if self._more or self.fields.asks_upgrade or not self._is_repeatable():
            return None
        return max(quantile.value, hedge.least_s) if quantile.is_known else None

    def _race(self, watch: Watch, ready: ReadyRoute) -> None:
        """The first attempt takes longer than most."""
        standing, origin = self._standing, self._origin
        if not self._is_waiting(1) or standing is None or self._connection is None:
            return
        now = self._gateway.monotonic()
        other = origin.another(now, (standing.instance.id,))
        if other is None:
            refused = "no_instance"
        elif self._gateway.is_shedding():
            refused = "shedding"
        elif self._left_s(now) <= origin.p50.value:
            refused = "deadline"
        elif not origin.budget.withdraw(origin.calls(), now):
            refused = "budget"
        else:
            watch.hedge = Hedge(self, other, self._now_tried(standing), now)
            watch.hedge.begin(upstream.again(self._head, ready, self._left_s(now), 2))
            return
        self._gateway.observer.hedged(origin, refused)

    def _goes_on(self, status: int | str, *, is_complete: bool) -> bool:
        watch = self._watch
        if watch is None or watch.hedge is None:
            return False
        hedge, watch.hedge = watch.hedge, None
        self._give_back(status, is_complete=is_complete)
        hedge.take_over()
        return True

    def _overtaken(self) -> None:
        """The hedge's answer is there first."""
        standing, connection, origin = self._standing, self._connection, self._origin
        self._connection, self._standing = None, None
        if connection is not None:
            connection.abort()
            self._pool.give(connection)
        if standing is not None:
            now = self._gateway.monotonic()
            origin.balancer.superseded(standing, now - self._sent_at, now)
            counter = origin.counters.get("superseded")
            if counter is None:
                counter = self._gateway.observer.first_attempt(origin, "superseded")
            counter.n += 1


class Hedge:
    """The second attempt; hears its own answer, and passes it on once it is the exchange's."""

    __slots__ = (
        "_connection",
        "_exchange",
        "_head",
        "_is_racing",
        "_origin",
        "_pool",
        "_sent_at",
        "_standing",
        "_task",
        "_tried",
    )

    def __init__(
        self, exchange: Racing, standing: Standing, tried: tuple[str, ...], now: float
    ) -> None:
        self._exchange = exchange
        self._standing = standing
        self._origin = exchange._origin
        self._pool = self._origin.pool(standing.instance)
        self._sent_at = now
        self._tried = tried
        self._is_racing = True
        self._head = b""
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = "racing" if self._is_racing else "over"
        return f"Hedge({self._standing.instance.id}, {state})"

    def begin(self, head: bytes) -> None:
        self._head = head
        self._standing.in_flight += 1
        connection = self._pool.take()
        if connection is None:
            self._task = asyncio.get_running_loop().create_task(self._connect())
        else:
            self._start(connection)

    async def _connect(self) -> None:
        try:
            connection = await self._pool.connect()
        except StagedoorError as failure:
            self._task = self._exchange._task = None
            self._failed(failure)
            return
        if not self._is_racing:
            self._exchange._task = None
        self._task = None
        self._start(connection)

    def _start(self, connection: Connection) -> None:
        exchange = self._exchange
        self._connection = connection
        if not self._is_racing:
            exchange._connection = connection
        body = exchange._framed(exchange._body) if exchange._body or exchange.fields.length else b""
        connection.start(self, self._head, method=exchange.method, body=body, whole=self)

    def take_over(self) -> None:
        """It is the exchange's attempt from here on."""
        exchange = self._exchange
        self._is_racing = False
        exchange._tried = self._tried
        exchange.attempts += 1
        exchange._reason = HEDGE
        exchange._first_head = exchange._head
        exchange._headed_at = 0.0
        exchange._standing, exchange._connection = self._standing, self._connection
        exchange._pool, exchange._sent_at = self._pool, self._sent_at
        exchange._task = self._task
        exchange._gateway.observer.hedged(self._origin, "won")

    def drop(self, status: int | str, outcome: str, *, is_complete: bool = False) -> None:
        """Nobody waits for it any more."""
        self._is_racing = False
        if self._task is not None:
            self._task.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            if not is_complete:
                connection.abort()
            self._pool.give(connection)
        gateway = self._exchange._gateway
        now = gateway.monotonic()
        self._origin.balancer.ended(self._standing, now - self._sent_at, verdict(status), now)
        gateway.observer.extra_attempt(self._origin, HEDGE, status)
        gateway.observer.hedged(self._origin, outcome)

    def _wins(self, status: int, *, is_complete: bool = False) -> bool:
        """Whether its answer is the exchange's; a bad one only ends the race."""
        if not self._is_racing:
            return True
        exchange = self._exchange
        watch, ready = exchange._watch, exchange.ready
        if watch is not None:
            watch.hedge = None
        if ready is None or status in GATEWAY_FAILURES or status in ready.retries.statuses:
            self._report()
            self.drop(status, "failed", is_complete=is_complete)
            return False
        exchange._overtaken()
        self.take_over()
        return True

    def _report(self) -> None:
        """What an answer that is not passed on says of its instance's load."""
        connection = self._connection
        if connection is not None and connection.utilisation is not None:
            now = self._exchange._gateway.monotonic()
            self._origin.balancer.reported(self._standing, connection.utilisation, now)

    # -- the receiver

    def on_whole(self, head: Head, body: bytes) -> None:
        if self._wins(head.status, is_complete=True):
            self._exchange.on_whole(head, body)

    def on_interim(self, status: int, headers: Headers) -> None:
        if not self._is_racing:
            self._exchange.on_interim(status, headers)

    def on_head(self, status: int, reason: bytes, headers: Headers) -> None:
        if self._wins(status):
            self._exchange.on_head(status, reason, headers)

    def on_data(self, data: bytes) -> None:
        self._exchange.on_data(data)

    def on_end(self, trailers: Headers) -> None:
        self._exchange.on_end(trailers)

    def on_failure(self, failure: OriginFailure) -> None:
        self._failed(failure)

    def _failed(self, failure: StagedoorError) -> None:
        exchange = self._exchange
        if not self._is_racing and isinstance(failure, OriginFailure):
            exchange.on_failure(failure)
        elif not self._is_racing:
            exchange.fail(failure)
        else:
            if exchange._watch is not None:
                exchange._watch.hedge = None
            self.drop(failure.code, "failed")

    def on_writable(self) -> None:
        """All of the request was given at once."""
