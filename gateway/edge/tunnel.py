"""After a 101: bytes both ways until both sides have ended, each slowed to what the other takes.

One side may end its half first, as TCP allows; the owner hears of that and decides how long the
other half may go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast


class Side(asyncio.Protocol):
    """One end of a tunnel: what it hears is written to the other."""

    __slots__ = ("_tunnel", "bytes", "ended", "other", "said_all", "transport")

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport) -> None:
        self._tunnel = tunnel
        self.transport = transport
        self.other: Side = self
        self.bytes = 0
        self.said_all = False
        self.ended = False

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        if not self.other.ended:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """Half of the tunnel ends: all of it when the other half has ended already."""
        self.said_all = True
        if self.other.said_all or not self.other.transport.can_write_eof():
            self._tunnel.close()
        elif not self.other.ended:
            self.other.transport.write_eof()
            self._tunnel.half_ended()
        return True

    def pause_writing(self) -> None:
        if not self.other.ended:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.ended:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        if not self.other.ended:
            self.other.transport.close()
        self._tunnel.side_ended()


class Tunnel:
    """Joins two transports. `on_half` hears when one side has said all that it will say; `on_end`
    once both are closed, with the bytes from the client and to it."""

    def __init__(
        self,
        downstream: asyncio.Transport,
        upstream: asyncio.Transport,
        window: int,
        on_half: Callable[[], None],
        on_end: Callable[[int, int], None],
    ) -> None:
        self.half_ended = on_half
        self._on_end = on_end
        self._open = 2
        self.down = Side(self, downstream)
        self.up = Side(self, upstream)
        self.down.other, self.up.other = self.up, self.down
        for side in (self.down, self.up):
            side.transport.set_write_buffer_limits(high=window)
            side.transport.set_protocol(cast(asyncio.BaseProtocol, side))

    def start(self, to_upstream: bytes, to_downstream: bytes) -> None:
        """Passes on what each side had sent already, then reads both."""
        if to_upstream:
            self.down.data_received(to_upstream)
        if to_downstream:
            self.up.data_received(to_downstream)
        for side in (self.down, self.up):
            if not side.transport.is_reading() and not side.transport.is_closing():
                side.transport.resume_reading()

    def close(self) -> None:
        self.down.transport.close()
        self.up.transport.close()

    def side_ended(self) -> None:
        """A transport is closed for good."""
        self._open -= 1
        if self._open == 0:
            self._on_end(self.down.bytes, self.up.bytes)
