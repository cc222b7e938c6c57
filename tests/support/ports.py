"""Ports for what must know its own before it listens, and for what never will listen."""

from __future__ import annotations

from chassis.clock import SYSTEM
from deploy.servers.ports import any_free

_given = set[int]()


def free_port() -> int:
    """A loopback port that nobody listens on, that no outgoing connection is given, and that this
    process was not told of before."""
    port = any_free(["127.0.0.1"], SYSTEM, _given)
    _given.add(port)
    return port
