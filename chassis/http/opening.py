"""Where an instance listens, and how a connection to it is opened: the one place that waits for it.

What goes wrong on the way is told as `ConnectFailed`: nothing has been sent by then.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from chassis.errors import ConnectFailed
from chassis.http.connection import Connection


@dataclass(frozen=True, slots=True)
class Address:
    """Where an instance listens. With `tls` the connection is encrypted and its name checked."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    """The name to check the certificate for, when it is not `host`."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


async def opened(address: Address, make: Callable[[], Connection], connect_s: float) -> Connection:
    """A connection that `make` made, connected within `connect_s` seconds.

    Raises `ConnectFailed`; its cause is a TimeoutError when time ran out.
    """
    name = (address.server_name or address.host) if address.tls is not None else None
    try:
        async with asyncio.timeout(finite(connect_s)):
            _, protocol = await asyncio.get_running_loop().create_connection(
                lambda: cast(asyncio.Protocol, make()),
                address.host,
                address.port,
                ssl=address.tls,
                server_hostname=name,
            )
    except TimeoutError as cause:
        raise ConnectFailed(f"{address} did not accept within {connect_s:g} s") from cause
    except (OSError, UnicodeError) as cause:  # the latter for a name that cannot be one
        raise ConnectFailed(f"{address} cannot be reached: {cause}") from cause
    connection = cast(Connection, protocol)
    if not connection.reusable:
        raise ConnectFailed(f"{address} closed the connection at once")
    return connection


def finite(seconds: float) -> float | None:
    """As asyncio wants it: no end at all is None."""
    return None if seconds == math.inf else seconds
