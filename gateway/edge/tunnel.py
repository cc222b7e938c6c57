"""After a 101: bytes both ways until both sides have ended, each slowed to what the other takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast


class Side(asyncio.Protocol):
    """One end of a tunnel: what it hears is written to the other."""

    __slots__ = ("_ended", "_on_end", "bytes", "other", "transport")

    def __init__(self, transport: asyncio.Transport, on_end: Callable[[], None]) -> None:
        self.transport = transport
        self.other: Side = self
        self.bytes = 0
        self._on_end = on_end
        self._ended = False

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        if not self.other._ended:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """Half of the tunnel ends; the other half may go on."""
        if not self.other._ended and self.other.transport.can_write_eof():
            self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if not self.other._ended:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other._ended:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        if not self.other._ended:
            self.other.transport.close()
        self._on_end()


class Tunnel:
    """Joins two transports. `on_end` hears once that both are closed, with the bytes each way."""

    def __init__(
        self,
        downstream: asyncio.Transport,
        upstream: asyncio.Transport,
        window: int,
        on_end: Callable[[int, int], None],
    ) -> None:
        self._on_end = on_end
        self._open = 2
        self.down = Side(downstream, self._side_ended)
        self.up = Side(upstream, self._side_ended)
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

    def _side_ended(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._on_end(self.down.bytes, self.up.bytes)
