"""One listening socket, the connections it accepted, their timeouts, and the drain."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from chassis.clock import Clock, Timer
from chassis.errors import StagedoorError
from chassis.http.serving import (
    bind,
    bind_unix,
    stop_listening,
    taken_in,
    unix_remover,
)
from chassis.standstill import Standstill
from gateway.edge.accept_queue import Queue, queue_of
from gateway.edge.arrivals import Arrivals, Counts
from gateway.edge.certificates import Certificates
from gateway.edge.client_certificate import Certificate, certificate_of
from gateway.edge.connection import EdgeConnection
from gateway.edge.descriptors import most_connections
from gateway.edge.limits import Limits
from gateway.edge.listen import Listen
from gateway.edge.peer import UNIX, Peer
from gateway.edge.ports import Exchanges
from gateway.edge.waits import Waits

_TICK_S = 0.02
_LATE_S = 0.2


class Listener:
    """Accepts at one place. Several processes may share it, each with its own listener.

    Plain connections are accepted by the loop itself; where there is a PROXY header or a TLS
    handshake to wait for, by `Arrivals`.
    """

    def __init__(
        self,
        exchanges: Exchanges,
        clock: Clock,
        listen: Listen,
        certificates: Certificates | None = None,
    ) -> None:
        self.exchanges = exchanges
        self.clock = clock
        self.listen = listen
        self.limits: Limits = listen.limits
        self.most = most_connections(self.limits.connections)
        self.balancers = listen.balancers
        self.certificates = certificates
        self.waits: Waits[EdgeConnection] = Waits(self.limits)
        self.draining = False
        self.connections: set[EdgeConnection] = set()
        self.counts = Counts()
        self._scheme = b"http" if certificates is None else b"https"
        self._asks = listen.tls is not None and listen.tls.client != "none"
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._taken_in: set[asyncio.Task[object]] = set()
        self._arrivals: Arrivals | None = None
        self._remove: Callable[[], None] | None = None
        self._timer: Timer | None = None
        self._standstill = Standstill(clock, _LATE_S)
        self._empty = asyncio.Event()
        self._empty.set()

    def __repr__(self) -> str:
        return f"Listener({len(self.connections)} connections, draining={self.draining})"

    def url(self, port: int) -> str:
        """Where it is reached, on the port that `start` has returned."""
        if self.listen.path is not None:
            return f"unix://{self.listen.path}"
        host = self.listen.host
        return f"{self._scheme.decode()}://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def arriving(self) -> int:
        """Connections whose PROXY header or TLS handshake is under way."""
        return len(self._arrivals) if self._arrivals is not None else 0

    @property
    def queue(self) -> Queue | None:
        """Who waits to be accepted; None where nobody can, or where that is not told."""
        return queue_of(self._socket) if self._socket is not None else None

    async def start(self, *, reuse_port: bool = False, held: int | None = None) -> int:
        """Listens and returns the port; 0 for a unix socket. `held` is the descriptor of a socket
        that is bound already, and that others may hold too."""
        listen = self.listen
        if held is not None:
            inherited = socket.socket(fileno=held)
            inherited.setblocking(False)
            inherited.listen(self.limits.backlog)
            return await self.serve(inherited)
        if listen.path is None:
            return await self.serve(
                bind(listen.host, listen.port, backlog=self.limits.backlog, reuse_port=reuse_port)
            )
        listening = bind_unix(listen.path, mode=listen.mode, backlog=self.limits.backlog)
        self._remove = unix_remover(listen.path)
        return await self.serve(listening)

    async def serve(self, listening: socket.socket) -> int:
        """Accepts on a socket that is bound already; returns its port."""
        self._socket = listening
        is_unix = listening.family == socket.AF_UNIX
        port = 0 if is_unix else int(listening.getsockname()[1])
        loop = asyncio.get_running_loop()
        if self.balancers is not None or self.certificates is not None:
            self._arrivals = Arrivals(self, listening)
        elif is_unix:
            self._server = await loop.create_unix_server(self._accept, sock=listening)
        else:
            self._server = await loop.create_server(
                self._accept, sock=listening, backlog=self.limits.backlog
            )
        self._tick()
        return port

    def _accept(self) -> asyncio.Protocol:
        return cast(asyncio.Protocol, EdgeConnection(self))

    def _tick(self) -> None:
        if not self._standstill.seen():
            self._expire(self.clock.monotonic())
        self._timer = self.clock.call_later(_TICK_S, self._tick)

    def _expire(self, now: float) -> None:
        self.waits.tick(now)
        self.exchanges.tick(now)
        if self._arrivals is not None:
            self._arrivals.tick(now)

    # -- what arrivals ask

    def is_full(self, arriving: int) -> bool:
        return len(self.connections) + arriving >= self.most

    def connection(self, source: str | None) -> EdgeConnection:
        return EdgeConnection(self, source)

    def refusal(self, failure: StagedoorError) -> EdgeConnection:
        return _Refusal(self, failure)

    # -- what connections call

    def meet(self, transport: asyncio.Transport, source: str | None) -> Peer:
        if source is None:
            name = transport.get_extra_info("peername")
            source = name[0] if isinstance(name, tuple) else UNIX
        certificate = _shown(transport) if self._asks else None
        return Peer(source, self.listen.trust, self._scheme, certificate)

    def opened(self, connection: EdgeConnection) -> bool:
        if len(self.connections) >= self.most:
            if self.most < self.limits.connections:
                self.counts.descriptors += 1
            else:
                self.counts.full += 1
            return False
        self.counts.accepted += 1
        self.connections.add(connection)
        self._empty.clear()
        return True

    def closed(self, connection: EdgeConnection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    # -- the drain

    def stop_accepting(self, *, hand_over: bool = False) -> None:
        """Takes in who waits in the accept queue, and lets nobody else in; with `hand_over` both
        are left to those who hold the socket too."""
        listening, self._socket = self._socket, None
        if listening is None:
            return
        if not hand_over:
            self._empty_queue(listening)
            stop_listening(listening)
        if self._server is not None:
            self._server.close()
        if self._arrivals is not None:
            self._arrivals.close()
        remove, self._remove = self._remove, None
        if remove is not None:
            remove()

    def _empty_queue(self, listening: socket.socket) -> None:
        if self._arrivals is not None:
            self._arrivals.empty_queue()
            return
        loop = asyncio.get_running_loop()
        for raw in taken_in(listening):
            if raw.family != socket.AF_UNIX:
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(loop.connect_accepted_socket(self._accept, raw))
            self._taken_in.add(task)
            task.add_done_callback(self._taken_in.discard)

    def close_idle(self, quiet_s: float = 0.0) -> None:
        """From here on every answer ends its connection; those that wait are closed once they have
        been idle for `quiet_s`, so that none is closed under a request that is on its way."""
        self.draining = True
        idle = self.waits.idle
        idle.after_s = min(idle.after_s, quiet_s)

    async def wait_empty(self, timeout_s: float) -> bool:
        """Whether all connections ended by themselves in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*self._taken_in, return_exceptions=True)
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Ends at once what is left."""
        self.stop_accepting()
        self.draining = True
        if self._arrivals is not None:
            self._arrivals.cut()
        for connection in list(self.connections):
            connection.cut()
        if self._timer is not None:
            self._timer.cancel()
        await self.wait_empty(1.0)


class _Refusal(EdgeConnection):
    """Is refused before anything of it is read."""

    __slots__ = ("_failure",)

    def __init__(self, owner: Listener, failure: StagedoorError) -> None:
        super().__init__(owner)
        self._failure = failure

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self.transport.is_closing():
            self.refuse(self._failure)


def _shown(transport: asyncio.Transport) -> Certificate | None:
    """The client's certificate, which the handshake has verified."""
    connection = transport.get_extra_info("ssl_object")
    if connection is None:
        return None
    return certificate_of(transport.get_extra_info("peercert"), connection.getpeercert(True))
