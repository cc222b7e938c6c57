"""The listening sockets, the connections they accepted, their timeouts, and the drain."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from chassis.clock import Clock, Timer
from chassis.http.serving import bind
from gateway.edge.connection import EdgeConnection
from gateway.edge.limits import Limits
from gateway.edge.peer import Network
from gateway.edge.ports import Exchanges
from gateway.edge.waits import Waits

_TICK_S = 0.02
_BACKLOG = 4_096


class Listener:
    """Accepts on one address. Several processes may share it, each with its own listener."""

    def __init__(
        self,
        exchanges: Exchanges,
        clock: Clock,
        limits: Limits | None = None,
        trusted: Sequence[Network] = (),
    ) -> None:
        self.exchanges = exchanges
        self.clock = clock
        self.limits = limits or Limits()
        self.trusted = tuple(trusted)
        self.waits: Waits[EdgeConnection] = Waits(self.limits)
        self.draining = False
        self.connections: set[EdgeConnection] = set()
        self.refused_connections = 0
        self._server: asyncio.Server | None = None
        self._timer: Timer | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    def __repr__(self) -> str:
        return f"Listener({len(self.connections)} connections, draining={self.draining})"

    async def start(self, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Listens and returns the port."""
        return await self.serve(bind(host, port, backlog=_BACKLOG, reuse_port=reuse_port))

    async def serve(self, listening: socket.socket) -> int:
        """Accepts on a socket that is bound already; returns its port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, sock=listening, backlog=_BACKLOG)
        self._tick()
        return int(listening.getsockname()[1])

    def _accept(self) -> EdgeConnection:
        return EdgeConnection(self)

    def _tick(self) -> None:
        now = self.clock.monotonic()
        self.waits.tick(now)
        self.exchanges.tick(now)
        self._timer = self.clock.call_later(_TICK_S, self._tick)

    # -- what connections call

    def opened(self, connection: EdgeConnection) -> bool:
        if len(self.connections) >= self.limits.connections:
            self.refused_connections += 1
            return False
        self.connections.add(connection)
        self._empty.clear()
        return True

    def closed(self, connection: EdgeConnection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    # -- the drain

    def stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()

    def close_idle(self) -> None:
        """From here on every answer ends its connection; those that wait are closed now."""
        self.draining = True
        for connection in list(self.connections):
            connection.close_if_idle()

    async def wait_empty(self, timeout_s: float) -> bool:
        """Whether all connections ended by themselves in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Ends at once what is left."""
        self.stop_accepting()
        self.draining = True
        for connection in list(self.connections):
            connection.cut()
        if self._timer is not None:
            self._timer.cancel()
        await self.wait_empty(1.0)
