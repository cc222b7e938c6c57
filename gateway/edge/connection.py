"""One client connection: one request at a time goes to an exchange, and answers come in order.

What the client pipelined behind the request in flight waits as raw bytes; everything that is in
doubt ends the connection before an upstream hears of it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from chassis.clock import Clock
from chassis.errors import StagedoorError
from chassis.http.resetting import abort_by_reset
from gateway.edge.leaving import has_left
from gateway.edge.limits import Limits
from gateway.edge.peer import Peer
from gateway.edge.ports import Exchanges, Inflight
from gateway.edge.reader import BODY, HEAD, PHASES, READ, START, Reader
from gateway.edge.refusals import SlowBody
from gateway.edge.unsent import unsent
from gateway.edge.waits import Waits

OPEN, LINGERING, GONE = range(3)
"""Whether bytes from the client are read; thrown away, so that a refusal is not lost to a reset; or
nothing comes any more."""

_STATES = ("", "LINGERING", "GONE")


class Owner(Protocol):
    """The listener, as its connections see it."""

    limits: Limits
    clock: Clock
    waits: Waits[EdgeConnection]
    exchanges: Exchanges
    draining: bool

    def meet(self, transport: asyncio.Transport, source: str | None) -> Peer:
        """Who is at the other end; `source` is what its balancer said."""
        ...

    def opened(self, connection: EdgeConnection) -> bool:
        """Counts it in; False when there are too many."""
        ...

    def closed(self, connection: EdgeConnection) -> None: ...


class EdgeConnection:
    """Frames, limits and times; decides nothing about where a request goes. To the loop it is an
    `asyncio.Protocol`."""

    __slots__ = (
        "_aside",
        "_choked",
        "_held",
        "_is_slow",
        "_limits",
        "_mark",
        "_open",
        "_owner",
        "_pumping",
        "_reader",
        "_reading",
        "_served",
        "_source",
        "_state",
        "_turn_end",
        "_unsent",
        "_until",
        "_waits",
        "exchange",
        "peer",
        "transport",
    )

    def __init__(self, owner: Owner, source: str | None = None) -> None:
        self._owner = owner
        self._source = source
        self._open = owner.exchanges.open
        self._turn_end = owner.exchanges.turn_end
        self._unsent = b""
        self._limits = owner.limits
        self._waits = owner.waits
        self._reader = Reader(owner.limits)
        self.exchange: Inflight | None = None
        self._state = OPEN
        self._aside = b""
        self._pumping = False
        self._choked = False
        self._is_slow = False
        self._held = False
        self._reading = True
        self._served = 0
        self._mark = 0

    def __repr__(self) -> str:
        state = _STATES[self._state] or PHASES[self._reader.phase]
        return f"EdgeConnection({self.peer.address}, {state}, served={self._served})"

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._limits.window)
        self.peer = self._owner.meet(self.transport, self._source)
        clock = self._owner.clock
        now = clock.monotonic()
        self._until = now + self._limits.age_s * (1 + clock.random() / 5)
        if not self._owner.opened(self):
            self._state = GONE
            self.transport.abort()
            return
        self._waits.idle.enter(self, now)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        waits = self._aside or self._choked or self._state
        if not waits and reader.phase == START and reader.again(data):
            self._waits.idle.pop(self, None)
            self._begin(reader)
        elif not self._state:
            self._aside = self._aside + data if self._aside else data
            if not self._pumping:
                self._pump()

    def eof_received(self) -> None:
        """The client leaves: a half-closed client is taken as gone, as most proxies do. What it was
        answered before it may still take; what it asked for last is not waited for."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.abandon()
        self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._state = GONE
        self._aside = self._unsent = b""
        exchange, self.exchange = self.exchange, None
        self._waits.forget(self)
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
        elif not self._state:
            self._waits.unsent.leave(self)
            if not self._pumping:
                self._pump()

    # -- reading requests, one at a time

    def _pump(self) -> None:
        """Reads what waits for as long as its turn has come."""
        self._pumping = True
        try:
            while self._aside and self._reader.phase < READ and not (self._choked or self._state):
                if not self._read():
                    break
        finally:
            self._pumping = False
        self._after_reading()

    def _read(self) -> bool:
        """Reads to the end of the message, or of what is there, then tells the exchange.

        False: what there is of a request's beginning is too little to go on with."""
        reader = self._reader
        data, self._aside = self._aside, b""
        try:
            self._aside = reader.read(data)
        except StagedoorError as failure:
            self.refuse(failure)
            return False
        if reader.phase == START:
            return False
        self._waits.idle.leave(self)
        if reader.phase >= BODY:
            self._tell(reader)
        return True

    def _tell(self, reader: Reader) -> None:
        """Gives the exchange what was read of its request."""
        exchange = self.exchange
        if exchange is None:
            self._begin(reader)
            return
        body = reader.take()
        more = reader.phase < READ
        if not more:
            self._waits.bodies.leave(self)
        if body or not more:
            exchange.receive(body, more, reader.trailers)

    def _begin(self, reader: Reader) -> None:
        if self._is_slow:
            self._is_slow = False
            self._waits.heads.leave(self)
        self._served += 1
        self.exchange = exchange = self._open(
            self, reader.method, reader.target, reader.is_11, reader.fields
        )
        more = reader.phase < READ
        if more:
            self._start_rate()
        exchange.begin(reader.take() if reader.received else b"", more, reader.trailers)

    def _after_reading(self) -> None:
        """Times what is waited for now. Empty lines are no request: who sends them is still idle.
        While the client takes no answers its requests wait, and what is timed is that."""
        phase, waits = self._reader.phase, self._waits
        if not self._state and phase <= HEAD:
            now = self._owner.clock.monotonic()
            if phase == START and not self._aside:
                if self not in waits.idle:
                    waits.idle.enter(self, now)
            elif self._choked and not self._is_slow:
                waits.idle.leave(self)
                if self not in waits.unsent:
                    self._watch_unsent(now)
            elif not self._is_slow:
                self._is_slow = True
                waits.idle.leave(self)
                waits.heads.enter(self, now)
        self._set_reading()

    def _set_reading(self) -> None:
        """Reads on unless the exchange holds, or more than the window waits its turn."""
        begins = self.exchange is None and not self._choked
        wanted = begins or (not self._held and len(self._aside) < self._limits.window)
        if wanted is not self._reading and self._state != GONE:
            self._reading = wanted
            if wanted:
                self._waits.unread.leave(self)
                self.transport.resume_reading()
            else:
                self._waits.unread.enter(self, self._owner.clock.monotonic())
                self.transport.pause_reading()

    def check_there(self, now: float) -> None:
        """The loop does not see a client leave while it is not read."""
        if has_left(self.transport.get_extra_info("socket")):
            self.transport.abort()
        else:
            self._waits.unread.enter(self, now)

    # -- the least rate of a body

    def _start_rate(self) -> None:
        self._mark = self._reader.received
        self._waits.bodies.enter(self, self._owner.clock.monotonic())

    def check_rate(self, now: float) -> None:
        """A window has passed: enough of the body must have come, unless we held it back, or the
        client rightly waits to be told to send it."""
        least = self._limits.body_rate * self._limits.body_window_s
        received = self._reader.received
        exchange = self.exchange
        waits = self._held or (exchange is not None and exchange.asks_first)
        if not waits and received - self._mark < least:
            self.refuse(SlowBody("the request's body comes too slowly"))
            return
        self._mark = received
        self._waits.bodies.enter(self, now)

    # -- what the client does not take

    def _watch_unsent(self, now: float) -> None:
        self._mark = unsent(self.transport)
        self._waits.unsent.enter(self, now)

    def check_unsent(self, now: float) -> None:
        """As long as it becomes less, the client only reads slowly; else it is cut."""
        if unsent(self.transport) < self._mark:
            self._watch_unsent(now)
        else:
            self._waits.met.unread += 1
            self.cut()

    def end_lingering(self, now: float) -> None:
        """The client has had its time to hear the answer, unless some of it is still to be sent."""
        if self.transport.get_write_buffer_size():
            self._watch_unsent(now)
        else:
            self.cut()

    # -- the exchange's side

    def may_keep(self, now: float) -> bool:
        """Whether another request may follow the one in flight."""
        return (
            self._reader.phase == READ
            and self._served < self._limits.requests
            and now < self._until
            and not self._owner.draining
            and not self._state
        )

    def write_soon(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
        else:
            self._unsent = data
            self._turn_end.add(self)

    def write(self, data: bytes) -> None:
        unsent, self._unsent = self._unsent, b""
        self.transport.write(unsent + data if unsent else data)

    def flush(self) -> None:
        """The turn ends."""
        unsent, self._unsent = self._unsent, b""
        if unsent:
            self.transport.write(unsent)

    def hold(self) -> None:
        self._held = True
        self._set_reading()

    def release(self) -> None:
        """What the client could not send while it was held is not to be held against it."""
        self._held = False
        if self in self._waits.bodies:
            self._start_rate()
        self._set_reading()

    def answered(self, keep_alive: bool, now: float) -> None:
        reader = self._reader
        whole = reader.phase == READ and not self._state
        exchange, self.exchange = self.exchange, None
        if exchange is not None and exchange.fields.asks_upgrade:
            reader.upgraded()
        self._held = False
        if not keep_alive or not whole:
            if whole and exchange is not None and exchange.fields.keep_alive:
                self._note_end(now)
            self._end(clean=whole and not self._aside)
            return
        reader.start()
        if self._pumping:
            return
        if self._aside:
            self._pump()
        elif self._reading:
            self._waits.idle[self] = now
        else:
            self._after_reading()

    def _note_end(self, now: float) -> None:
        """Counts the limit that ends the connection, if it was one."""
        if self._served >= self._limits.requests:
            self._waits.met.requests += 1
        elif now >= self._until:
            self._waits.met.age += 1

    def refuse(self, failure: StagedoorError) -> None:
        """Ends the connection over a request that cannot be read, saying why where possible."""
        self._waits.met.note(failure)
        self._waits.heads.leave(self)
        self._waits.bodies.leave(self)
        self._aside = b""
        if self.exchange is not None:
            self.exchange.refuse(failure)
            return
        method = self._reader.asked_method()
        self.write(self._owner.exchanges.refused(self, method, failure))
        self._end(clean=False)

    def _end(self, *, clean: bool) -> None:
        """Closes; when the client may still be sending, reads on for a while, so that our answer is
        not lost to a reset (RFC 9112 section 9.6). Under TLS `close` does so by itself: it waits
        for the client's close_notify as long as we would linger."""
        self._waits.bodies.leave(self)
        if clean or not self.transport.can_write_eof():
            self.close()
            return
        self._state = LINGERING
        self._aside = b""
        self._waits.lingering.enter(self, self._owner.clock.monotonic())
        self._set_reading()
        self.flush()
        self.transport.write_eof()

    def close_if_idle(self) -> None:
        if self._reader.phase == START and not (self._aside or self._state):
            self.close()

    def close(self) -> None:
        """Once the client has taken what it was sent; if it does not, it is cut."""
        if self._state != GONE:
            self._state = GONE
            self.flush()
            if self.transport.get_write_buffer_size():
                self._watch_unsent(self._owner.clock.monotonic())
            self.transport.close()

    def cut(self, *, reset: bool = False) -> None:
        self._state = GONE
        self.flush()
        if reset:
            abort_by_reset(self.transport)
        else:
            self.transport.abort()

    def hand_over(self) -> bytes:
        self._state = GONE
        self.flush()
        self.transport.pause_reading()
        leftover, self._aside = self._aside, b""
        return leftover

    def left(self) -> None:
        self.connection_lost(None)
