"""Listening sockets that outlive the process that serves them.

A process and its successor accept from one socket, so that no connection is lost between them: the
kernel resets what waits in the accept queue of a socket that is closed, also where others listen on
the same port.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from chassis.http.serving import bind


def reserve(host: str, port: int) -> socket.socket:
    """Holds a port for those who share it; refuses one that is taken.

    Bound with SO_REUSEPORT but never listening, so that it takes no connection itself.
    """
    if port:
        bind(host, port).close()
    return _bound(host, port)


def _bound(host: str, port: int) -> socket.socket:
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host, port))
    except BaseException:
        held.close()
        raise
    return held


@dataclass(slots=True)
class _Held:
    """The sockets of one instance, by `host:port`, and the processes that have them too."""

    sockets: dict[str, socket.socket] = field(default_factory=dict)
    users: set[int] = field(default_factory=set)


class HeldSockets:
    """Of every instance that somebody serves. An instance's are closed when the last of its
    processes has gone, so that the kernel gives what comes to the other instances."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}

    def __repr__(self) -> str:
        return f"HeldSockets({', '.join(self._held) or 'none'})"

    def of(self, instance: str, places: Sequence[str]) -> str:
        """`host:port=DESCRIPTOR` for each of `places`, with blanks between. One that cannot be
        bound is left out: the process that tries it itself then says why."""
        held = self._held.setdefault(instance, _Held())
        for place in places:
            if place not in held.sockets:
                host, _, port = place.rpartition(":")
                with contextlib.suppress(OSError):
                    held.sockets[place] = _bound(host.strip("[]"), int(port))
        return " ".join(f"{place}={one.fileno()}" for place, one in held.sockets.items())

    def used(self, instance: str, pid: int) -> None:
        """A process has them from now on."""
        self._held[instance].users.add(pid)

    def keep_only(self, instance: str) -> None:
        """In a new process: closes those of all others."""
        for name, held in self._held.items():
            if name != instance:
                _close(held)

    def gone(self, pid: int) -> None:
        """A process has ended."""
        for instance, held in list(self._held.items()):
            held.users.discard(pid)
            if not held.users:
                _close(held)
                del self._held[instance]


def _close(held: _Held) -> None:
    for one in held.sockets.values():
        one.close()
