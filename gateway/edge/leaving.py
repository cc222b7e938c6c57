"""Whether the other side of a socket has left, told without reading what it may have sent."""

from __future__ import annotations

import select
import socket

_LEFT = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)


def has_left(side: socket.socket) -> bool:
    """Whether it was reset or closed, or its half ended. Where the system cannot tell of a half
    that has ended (POLLRDHUP is Linux's), only the first two."""
    question = select.poll()
    question.register(side.fileno(), _LEFT)
    return bool(question.poll(0))
