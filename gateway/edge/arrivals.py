"""Connections on their way in that have something to say first: who they come from (the PROXY
protocol), or a TLS handshake. Only then do they become connections of the listener.

Those under way are bounded: where too many arrive, the one that has taken longest is cut, so that
silent ones cannot keep others out.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import string
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeAlias, cast

from chassis.clock import Clock
from chassis.errors import BadRequest, StagedoorError
from gateway.edge import proxy_protocol
from gateway.edge.certificates import Certificates
from gateway.edge.connection import EdgeConnection
from gateway.edge.expiry import Expiry
from gateway.edge.limits import Limits
from gateway.edge.listen import Balancers
from gateway.edge.peer import is_inside

_AT_ONCE = 64
_REST_S = 0.5
_HANDSHAKE = 0x16
"""The first byte of a TLS connection."""

Arrival: TypeAlias = "asyncio.Task[None]"


class Door(Protocol):
    """The listener, as arrivals see it."""

    limits: Limits
    clock: Clock
    balancers: Balancers | None
    certificates: Certificates | None
    counts: Counts

    def is_full(self, arriving: int) -> bool:
        """Whether there are as many connections as may be, those that arrive included."""
        ...

    def connection(self, source: str | None) -> EdgeConnection:
        """What an arrival becomes."""
        ...

    def refusal(self, failure: StagedoorError) -> EdgeConnection:
        """A connection that answers with `failure`, whatever comes, and ends."""
        ...


class Counts:
    """What became of connections, as plain numbers."""

    __slots__ = ("accepted", "cut", "descriptors", "full", "handshakes", "header", "plain", "slow")

    def __init__(self) -> None:
        self.accepted = 0
        self.full = 0  # refused: as many connections as may be
        self.descriptors = 0  # refused, or left waiting: no file descriptors left
        self.cut = 0  # the longest under way, in favour of a new one
        self.slow = 0  # neither header nor handshake in time
        self.header = 0  # no PROXY header, or a malformed one
        self.handshakes = 0  # a TLS handshake that failed
        self.plain = 0  # HTTP without TLS where TLS is spoken


class Arrivals:
    """Accepts on one socket."""

    def __init__(self, door: Door, listening: socket.socket) -> None:
        self._door = door
        self._socket = listening
        self._loop = asyncio.get_running_loop()
        self._under_way: Expiry[Arrival] = Expiry(door.limits.handshake_s)
        self._resting = False
        self._closed = False
        self._loop.add_reader(listening, self._accept)

    def __repr__(self) -> str:
        return f"Arrivals({len(self._under_way)} under way)"

    def __len__(self) -> int:
        return len(self._under_way)

    def empty_queue(self) -> None:
        """Accepts whoever waits."""
        while not self._closed and self._accept():
            pass

    def close(self) -> None:
        """Accepts no more; whoever is under way may still arrive."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def cut(self) -> None:
        """Ends those under way."""
        for arrival in list(self._under_way):
            arrival.cancel()

    def tick(self, now: float) -> None:
        for arrival in self._under_way.due(now):
            if arrival.cancel():  # it may have failed in this very turn, and be counted already
                self._door.counts.slow += 1

    def _accept(self) -> bool:
        """Whether more may wait."""
        for _ in range(_AT_ONCE):
            try:
                raw, name = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return False
            except OSError:
                self._rest()
                return False
            raw.setblocking(False)
            self._admit(raw, name)
        return True

    def _rest(self) -> None:
        """No descriptors are left: what waits in the backlog is accepted a little later."""
        self._door.counts.descriptors += 1
        self._loop.remove_reader(self._socket)
        self._door.clock.call_later(_REST_S, self._resume)

    def _resume(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._socket, self._accept)

    def _admit(self, raw: socket.socket, name: object) -> None:
        door = self._door
        if door.is_full(len(self._under_way)):
            door.counts.full += 1
            raw.close()
            return
        if len(self._under_way) >= door.limits.arriving:
            door.counts.cut += 1
            oldest = next(iter(self._under_way))
            self._under_way.leave(oldest)
            oldest.cancel()
        if raw.family != socket.AF_UNIX:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        address = str(name[0]) if isinstance(name, tuple) else ""
        steps = _Steps(raw, self._loop)
        arrival = self._loop.create_task(self._arrive(steps, address))
        self._under_way.enter(arrival, door.clock.monotonic())
        arrival.add_done_callback(partial(self._ended, steps))

    def _ended(self, steps: _Steps, arrival: Arrival) -> None:
        """There is a connection of the listener, or none; also where it was cut before it began."""
        self._under_way.leave(arrival)
        steps.end()

    async def _arrive(self, steps: _Steps, address: str) -> None:
        try:
            await self._introduce(steps, address)
        except StagedoorError as failure:
            await self._refuse(steps, failure)
        except (OSError, EOFError):
            self._door.counts.handshakes += steps.is_shaking

    async def _introduce(self, steps: _Steps, address: str) -> None:
        door = self._door
        source = None
        if _is_balancer(address, door.balancers):
            source = (await steps.header()).source
        certificates = door.certificates
        if certificates is None:
            await steps.join(lambda: door.connection(source))
            return
        first = (await steps.peek(1))[0]
        if first != _HANDSHAKE:
            door.counts.plain += 1
            if chr(first) in string.ascii_letters:
                raise BadRequest("this port speaks TLS: use https://", code="tls_required")
            return
        await steps.shake(
            lambda: door.connection(source),
            certificates.context,
            door.limits,
        )

    async def _refuse(self, steps: _Steps, failure: StagedoorError) -> None:
        """Says why, in plain text, to whoever may understand it."""
        door = self._door
        if failure.code == "proxy_protocol":
            door.counts.header += 1
            if door.certificates is not None:
                return
        with contextlib.suppress(OSError):
            await steps.join(lambda: door.refusal(failure))


def _is_balancer(address: str, balancers: Balancers | None) -> bool:
    if balancers is None:
        return False
    return balancers.everybody or is_inside(address, balancers.networks)


class _Steps:
    """What is done with one accepted socket until the loop has it."""

    def __init__(self, raw: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._raw: socket.socket | None = raw
        self._loop = loop
        self.is_shaking = False

    def end(self) -> None:
        """Closes the socket, unless the loop has it."""
        if self._raw is not None:
            self._raw.close()

    async def peek(self, size: int) -> bytes:
        """What has come, up to `size`, and stays to be read; EOFError at the end."""
        assert self._raw is not None
        while True:
            try:
                data = self._raw.recv(size, socket.MSG_PEEK)
            except (BlockingIOError, InterruptedError):
                await self._readable(self._raw)
                continue
            if not data:
                raise EOFError
            return data

    async def header(self) -> proxy_protocol.Header:
        """The PROXY header, taken off what there is to read: not a byte more."""
        assert self._raw is not None
        taken = b""
        while True:
            come = await self.peek(proxy_protocol.LONGEST - len(taken))
            found = proxy_protocol.read(taken + come)
            size = len(come) if found is None else found.size - len(taken)
            taken += self._raw.recv(size)
            if found is not None:
                return found

    async def join(self, make: Callable[[], EdgeConnection]) -> None:
        raw, self._raw = self._raw, None
        assert raw is not None
        await self._loop.connect_accepted_socket(_protocol(make), raw)

    async def shake(
        self,
        make: Callable[[], EdgeConnection],
        context: ssl.SSLContext,
        limits: Limits,
    ) -> None:
        """At its end the connection waits for the client's close_notify as long as one lingers."""
        self.is_shaking = True
        raw, self._raw = self._raw, None
        assert raw is not None
        transport, _ = await self._loop.connect_accepted_socket(
            _protocol(make),
            raw,
            ssl=context,
            ssl_handshake_timeout=limits.handshake_s,
            ssl_shutdown_timeout=limits.linger_s,
        )
        # else 256 KiB would wait, undeciphered
        cast(Any, transport).set_read_buffer_limits(limits.window)

    async def _readable(self, raw: socket.socket) -> None:
        ready = self._loop.create_future()
        self._loop.add_reader(raw, _set, ready)
        try:
            await ready
        finally:
            self._loop.remove_reader(raw)


def _protocol(make: Callable[[], EdgeConnection]) -> Callable[[], asyncio.Protocol]:
    """A connection has all that the loop asks of a protocol, but not its class."""
    return cast(Callable[[], asyncio.Protocol], make)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
