"""A connection's end as a reset: what the kernel still holds for the other side is thrown away."""

from __future__ import annotations

import asyncio
import socket
import struct

_AT_ONCE = struct.pack("ii", 1, 0)


def abort_by_reset(transport: asyncio.Transport) -> None:
    """Where an orderly end would wait behind what is unsent, or would look like the end of an
    answer. Not for a transport that may have closed its socket by now."""
    raw: socket.socket | None = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    transport.abort()
