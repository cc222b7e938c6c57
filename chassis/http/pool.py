"""The connections to one address.

STUB: the shape is settled, the behaviour is being written.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from chassis.clock import SYSTEM, Clock
from chassis.http.connection import Connection


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Limits of one pool. Ages and uses are shortened by up to a fifth, drawn per connection."""

    connections: int = 1024
    idle: int = 256
    idle_s: float = 4.0
    age_s: float = 1200.0
    uses: int = 10_000
    waiters: int = 1024
    connect_s: float = 0.5
    wait_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Address:
    """Where an instance listens. With `tls` the connection is encrypted and checked for `host`."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


class Pool:
    """Idle connections are taken last in, first out; at the limit callers wait in a queue."""

    def __init__(
        self, address: Address, limits: PoolLimits | None = None, *, clock: Clock = SYSTEM
    ) -> None: ...

    def take(self) -> Connection | None:
        """An idle connection, or None: then `await connect()`."""
        raise NotImplementedError

    async def connect(
        self, *, connect_s: float | None = None, wait_s: float | None = None
    ) -> Connection:
        """A connection that nobody else has: a new one, or at the limit one that was given back.

        Raises `ConnectFailed` (nothing was sent; its cause is a TimeoutError when time ran out), or
        `BulkheadFull` when every connection stayed in use. Cancelling gives the place back.
        """
        raise NotImplementedError

    def give(self, connection: Connection) -> None:
        """Takes a connection back: idle when it is reusable, else closed. Once per take or connect."""
        raise NotImplementedError

    async def close(self) -> None:
        """Closes the idle ones now, the others when they are given back."""
        raise NotImplementedError
