"""The connections to one address: who gets which is decided in `Idle` and `Places`, doing is thin.

Idle connections are taken last in, first out, so that the few in use stay warm and the rest grow
old and are closed. At the limit callers queue; what is given back goes to the longest waiting.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from dataclasses import dataclass, field

from chassis.clock import SYSTEM, Clock, Timer
from chassis.errors import BulkheadFull, ConnectFailed
from chassis.http.connection import Connection
from chassis.http.heads import Heads
from chassis.http.opening import Address, finite, opened
from chassis.http.turn import TurnEnd

__all__ = ["Address", "Idle", "Places", "Pool", "PoolLimits"]


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Limits of one pool. Ages and uses are shortened by up to a fifth, drawn per connection."""

    connections: int = 1024
    idle: int = 256
    idle_s: float = 4.0
    """Below what instances keep idle connections for: uvicorn closes after 5 s."""
    age_s: float = 1200.0
    uses: int = 10_000
    waiters: int = 1024
    wait_s: float = 0.5
    connect_s: float = 0.5
    probe_s: float = 1.0
    """A connection idle for longer is asked whether it has been closed before it is taken."""


@dataclass(slots=True)
class Idle:
    """The idle connections, oldest first. Pure: time comes in, what is to be closed goes out."""

    limits: PoolLimits
    stack: deque[Connection] = field(default_factory=deque)

    def put(self, connection: Connection, now: float) -> Connection | None:
        """Keeps `connection` on top; returns the one to close where that is one too many."""
        connection.idle_since = now
        self.stack.append(connection)
        return self.stack.popleft() if len(self.stack) > self.limits.idle else None

    def top(self) -> Connection | None:
        """The one given back last that can still be used."""
        while self.stack:
            connection = self.stack.pop()
            if connection.reusable:
                return connection
        return None

    def expired(self, now: float) -> list[Connection]:
        """Removes and returns those that have been idle for too long."""
        gone: list[Connection] = []
        while self.stack and self._is_old(self.stack[0], now):
            gone.append(self.stack.popleft())
        return gone

    def _is_old(self, connection: Connection, now: float) -> bool:
        return not connection.reusable or now >= connection.idle_since + self.limits.idle_s

    def keeps(self, connection: Connection, now: float) -> bool:
        """Whether a connection that comes back may carry another request."""
        young = now < connection.expires_at and connection.uses < connection.uses_limit
        return young and connection.reusable


@dataclass(slots=True)
class Places:
    """How many connections may be open, and who waits for one. Pure but for its futures.

    A waiter is given a connection, or None: a place to open one in.
    """

    limit: int
    taken: int = 0
    waiting: deque[asyncio.Future[Connection | None]] = field(default_factory=deque)

    def reserve(self) -> bool:
        """Takes a place if one is free."""
        if self.taken >= self.limit:
            return False
        self.taken += 1
        return True

    def offer(self, connection: Connection | None) -> bool:
        """Hands a connection, or a place, to the longest waiting; False when nobody waits."""
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    def release(self) -> None:
        """A place is free again: the longest waiting has it, or nobody."""
        if not self.offer(None):
            self.taken -= 1


class Pool:
    """The connections to one address. `take`, else `await connect`; then `give`, once for each."""

    def __init__(
        self,
        address: Address,
        limits: PoolLimits | None = None,
        *,
        clock: Clock = SYSTEM,
        turn_end: TurnEnd | None = None,
    ) -> None:
        self.address = address
        self.limits = limits or PoolLimits()
        self._clock = clock
        self._probe_s = self.limits.probe_s
        self._heads = Heads()
        self._turn_end = turn_end
        self._idle = Idle(self.limits)
        self._places = Places(self.limits.connections)
        self._sweep: Timer | None = None
        self._closed = False
        self.opened = 0
        self.reused = 0

    def __repr__(self) -> str:
        return (
            f"Pool({self.address}, {self._places.taken} open, {len(self._idle.stack)} idle, "
            f"{len(self._places.waiting)} waiting)"
        )

    @property
    def open(self) -> int:
        """Connections that are open or being opened."""
        return self._places.taken

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle.stack)

    @property
    def waiting(self) -> int:
        """Callers that wait for a connection at the limit."""
        return len(self._places.waiting)

    def take(self) -> Connection | None:
        """An idle connection that can still be used, or None: then `await connect()`."""
        now = self._clock.monotonic()
        while (connection := self._idle.top()) is not None:
            idle_s = now - connection.idle_since
            if idle_s < self._probe_s or self._is_alive(connection, idle_s):
                self.reused += 1
                return connection
            connection.abort()
        return None

    def _is_alive(self, connection: Connection, idle_s: float) -> bool:
        return idle_s < self.limits.idle_s and not _readable(connection.fileno())

    async def connect(
        self, *, connect_s: float | None = None, wait_s: float | None = None
    ) -> Connection:
        """A connection that nobody else has: a new one, or at the limit one that was given back.

        Raises `ConnectFailed` (nothing was sent; its cause is a TimeoutError when time ran out),
        or `BulkheadFull` when every connection stayed in use. Cancelling gives the place back.
        """
        if not self._places.reserve():
            given = await self._wait(self.limits.wait_s if wait_s is None else wait_s)
            if given is not None:
                self.reused += 1
                return given
        try:
            return await self._open(self.limits.connect_s if connect_s is None else connect_s)
        except BaseException:
            self._places.release()
            raise

    async def _wait(self, wait_s: float) -> Connection | None:
        """A usable connection, or None with a place reserved."""
        try:
            async with asyncio.timeout(finite(wait_s)):
                while (given := await self._turn()) is not None and not given.reusable:
                    pass
                return given
        except TimeoutError as cause:
            full = self._full()
            full.__cause__ = cause
        raise full

    async def _turn(self) -> Connection | None:
        if len(self._places.waiting) >= self.limits.waiters:
            raise self._full()
        if self._places.reserve():
            return None
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._places.waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            self._pass_on(waiter)
            raise

    def _pass_on(self, waiter: asyncio.Future[Connection | None]) -> None:
        """A waiter leaves: what it was given already goes to the next."""
        if not waiter.done() or waiter.cancelled():
            self._places.waiting.remove(waiter)
        elif (given := waiter.result()) is not None:
            self.give(given)
        else:
            self._places.release()

    def _full(self) -> BulkheadFull:
        return BulkheadFull(f"all {self.limits.connections} connections to {self.address} are busy")

    async def _open(self, connect_s: float) -> Connection:
        if self._closed:
            raise ConnectFailed(f"the pool of {self.address} is closed")
        return self._own(await opened(self.address, self._make, connect_s))

    def _make(self) -> Connection:
        return Connection(self._heads, self._turn_end)

    def _own(self, connection: Connection) -> Connection:
        """From here on the place is the connection's, and free when it is lost."""
        shorter = 1 - self._clock.random() / 5
        connection.expires_at = self._clock.monotonic() + self.limits.age_s * shorter
        connection.uses_limit = max(1, int(self.limits.uses * shorter))
        connection.on_lost = self._places.release
        self.opened += 1
        return connection

    def give(self, connection: Connection) -> None:
        """Takes a connection back: for the next in the queue, idle, or closed when not reusable."""
        now = self._clock.monotonic()
        if self._closed or not self._idle.keeps(connection, now):
            connection.abort()
        elif not self._places.waiting or not self._places.offer(connection):
            surplus = self._idle.put(connection, now)
            if surplus is not None:
                surplus.abort()
            if self._sweep is None:
                self._sweep = self._clock.call_later(self.limits.idle_s, self._close_expired)

    def _close_expired(self) -> None:
        self._sweep = None
        now = self._clock.monotonic()
        for connection in self._idle.expired(now):
            connection.abort()
        if self._idle.stack:
            wait_s = self._idle.stack[0].idle_since + self.limits.idle_s - now
            self._sweep = self._clock.call_later(wait_s, self._close_expired)

    async def close(self) -> None:
        """Closes the idle ones now, the others when they are given back; refuses new ones."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        while self._idle.stack:
            self._idle.stack.pop().abort()
        while self._places.offer(None):
            self._places.taken += 1
        await asyncio.sleep(0)


def _readable(descriptor: int) -> bool:
    """Whether something, the end included, can be read; an idle connection should be silent."""
    if descriptor < 0:
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
