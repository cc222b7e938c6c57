"""After a 101: bytes both ways until both sides have ended, each slowed to what the other takes.

One side may end its half first, as TCP allows. A tunnel of WebSocket frames can be told to part:
the client then gets a close frame where the instance's last frame ends, and its answer to that,
passed on, is what closes the other side too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from gateway.edge.frames import Frames, close_frame
from gateway.edge.unsent import unsent

CLIENT, INSTANCE, GATEWAY = "client", "instance", "gateway"


class Side(asyncio.Protocol):
    """One end of a tunnel: what it hears is written to the other."""

    __slots__ = ("bytes", "choked", "ended", "name", "other", "said_all", "transport", "tunnel")

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport, name: str) -> None:
        self.tunnel = tunnel
        self.transport = transport
        self.name = name
        self.other: Side = self
        self.bytes = 0
        self.choked = False
        self.said_all = False
        self.ended = False

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        if not self.other.is_over():
            self.other.transport.write(data)

    def is_over(self) -> bool:
        """Whether the transport takes no more calls; the loop knows before it tells us."""
        return self.ended or self.transport.is_closing()

    def eof_received(self) -> bool:
        """Half of the tunnel ends: all of it when the other half has ended already."""
        self.said_all = True
        self.tunnel.note_end(self.name)
        if self.other.said_all or not self.other.transport.can_write_eof():
            self.tunnel.close()
        elif not self.other.is_over():
            self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        self.choked = True
        if not self.other.is_over():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.choked = False
        if not self.other.is_over():
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.tunnel.note_end(self.name)
        if not self.other.ended:
            self.other.transport.close()
        self.tunnel.side_ended()


class FramedSide(Side):
    """The instance's end of a tunnel of WebSocket frames."""

    __slots__ = ("_parting", "frames")

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport, name: str) -> None:
        super().__init__(tunnel, transport, name)
        self.frames = Frames()
        self._parting = b""

    def data_received(self, data: bytes) -> None:
        if self._parting:
            self._end_frame(data)
            return
        self.frames.feed(data)
        super().data_received(data)

    def part(self, last: bytes) -> bool:
        """`last` follows the frame that is under way, and nothing follows it. False when that
        cannot be said any more: this side has said its own, or the client hears nothing."""
        if self._parting or self.said_all or self.frames.said_close or self.other.is_over():
            return False
        self._parting = last
        self._end_frame(b"")
        return True

    def _end_frame(self, data: bytes) -> None:
        """What comes behind the frame under way is nobody's any more."""
        if not self.frames.is_between and data:
            end = self.frames.end(data)
            super().data_received(data[:end])
        if self.frames.is_between and not self.tunnel.has_parted:
            self.tunnel.has_parted = True
            if not self.frames.said_close:
                super().data_received(self._parting)


class Tunnel:
    """Joins two transports. `on_end` hears once both are closed. `ended_by` is who ended it, as far
    as is known: the first side to end its half, or the gateway."""

    def __init__(
        self,
        downstream: asyncio.Transport,
        upstream: asyncio.Transport,
        window: int,
        on_end: Callable[[], None],
        *,
        framed: bool = False,
    ) -> None:
        self._on_end = on_end
        self._open = 2
        self.is_framed = framed
        self.has_parted = False
        self.is_closing = False
        self.ended_by = ""
        self.down = Side(self, downstream, CLIENT)
        self.up = (FramedSide if framed else Side)(self, upstream, INSTANCE)
        self.down.other, self.up.other = self.up, self.down
        for side in (self.down, self.up):
            side.transport.set_write_buffer_limits(high=window)
            # whoever had the transport before may have been told, and nobody is told twice
            side.choked = side.transport.get_write_buffer_size() > window
            side.transport.set_protocol(cast(asyncio.BaseProtocol, side))

    def __repr__(self) -> str:
        ended = f", ended by {self.ended_by}" if self.ended_by else ""
        return f"Tunnel({self.down.bytes} bytes in, {self.up.bytes} out{ended})"

    @property
    def is_half(self) -> bool:
        """Whether one side has said all that it will say."""
        return self.down.said_all or self.up.said_all

    @property
    def moved(self) -> tuple[int, int]:
        """Changes whenever bytes move, also those that only leave a buffer."""
        waiting = sum(unsent(side.transport) for side in (self.down, self.up) if not side.ended)
        return self.down.bytes + self.up.bytes, waiting

    def start(self, to_upstream: bytes, to_downstream: bytes) -> None:
        """Passes on what each side had sent already, then reads both, unless that was too much."""
        if to_upstream:
            self.down.data_received(to_upstream)
        if to_downstream:
            self.up.data_received(to_downstream)
        for side in (self.down, self.up):
            waits = side.other.choked or side.transport.is_reading()
            if not waits and not side.transport.is_closing():
                side.transport.resume_reading()

    def part(self, code: int, reason: str) -> bool:
        """Tells the client so in a close frame, as soon as one may stand there; False where none
        ever may, and `close` is what remains."""
        self.note_end(GATEWAY)
        if not isinstance(self.up, FramedSide):
            return False
        return self.up.part(close_frame(code, reason.encode()))

    def note_end(self, by: str) -> None:
        self.ended_by = self.ended_by or by

    def close(self) -> None:
        """Ends both sides when what was written to them has left."""
        self.note_end(GATEWAY)
        self.is_closing = True
        self.down.transport.close()
        self.up.transport.close()

    def abort(self) -> None:
        """Ends both sides at once."""
        self.note_end(GATEWAY)
        for side in (self.down, self.up):
            if not side.ended:
                side.transport.abort()

    def side_ended(self) -> None:
        """A transport is closed for good."""
        self.is_closing = True
        self._open -= 1
        if self._open == 0:
            self._on_end()
