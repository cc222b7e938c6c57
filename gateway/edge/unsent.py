"""What was written to a connection and the other side has not taken yet.

Most of it is not in the loop's buffer but in the kernel's, of megabytes: the loop may write again
only when a third of that has gone, so to look at the loop's alone is not to see a slow reader read.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios

_NONE = bytes(4)


def unsent(transport: asyncio.WriteTransport) -> int:
    """Bytes, in the loop's buffer and, where the system tells (SIOCOUTQ), in the kernel's."""
    side: socket.socket | None = transport.get_extra_info("socket")
    return transport.get_write_buffer_size() + (0 if side is None else _in_kernel(side))


def _in_kernel(side: socket.socket) -> int:
    try:
        told = fcntl.ioctl(side.fileno(), termios.TIOCOUTQ, _NONE)
    except (OSError, ValueError):  # closed by now, or another system
        return 0
    return int.from_bytes(told, sys.byteorder)
