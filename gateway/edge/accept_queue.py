"""What the kernel keeps for a listener that has not accepted it yet, and what it turned away."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import NamedTuple

_COUNTERS = Path("/proc/self/net/netstat")
_UNACKED = 24
"""Where `tcpi_unacked` is in struct tcp_info of linux/tcp.h. Of a socket that listens it and the
field behind it are the length of the accept queue and its limit (tcp_get_info)."""


class Queue(NamedTuple):
    """Connections that wait, and how many may."""

    waiting: int
    most: int


def queue_of(listening: socket.socket) -> Queue | None:
    """None where the kernel does not tell, as of a unix socket."""
    try:
        told = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED + 8)
        return Queue(*struct.unpack_from("=II", told, _UNACKED))
    except (OSError, struct.error):
        return None


def overflows() -> int | None:
    """How often a full accept queue made the kernel turn a connection away since this network
    namespace began, of whatever listener in it: the client tries again a second later."""
    try:
        lines = _COUNTERS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        if names.startswith("TcpExt:"):
            found = dict(zip(names.split(), values.split(), strict=True))
            return int(found.get("ListenOverflows", 0))
    return None
