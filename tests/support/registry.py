"""The embedded registry behind a real socket, in the test's own loop; waiting for any registry."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from chassis import discovery
from chassis.clock import SYSTEM
from chassis.discovery import Registry
from chassis.discovery.embedded import RegistryServer
from chassis.http.client import Client
from chassis.http.pool import PoolLimits
from chassis.http.serving import Listener, bind
from tests.support.ports import free_port

T = TypeVar("T")
PATIENCE_S = 5.0


def opened(address: str) -> Registry:
    """The registry at a `consul://` address, asked over real sockets. It is in no hurry: server and
    test often share one loop, and the machine does other work."""
    patient = PoolLimits(connect_s=PATIENCE_S, wait_s=PATIENCE_S)
    return discovery.open(address, client=Client(limits=patient))


@contextlib.asynccontextmanager
async def serving(state: Path | None = None, port: int | None = None) -> AsyncIterator[str]:
    """A listening `RegistryServer`; yields its `consul://` address."""
    port = port or free_port()
    registry = RegistryServer(SYSTEM, state)
    listener = Listener(registry.asgi, bind("127.0.0.1", port))
    await listener.start()
    try:
        yield f"consul://127.0.0.1:{port}"
    finally:
        registry.close()
        await listener.drain(1.0)


async def until(
    read: Callable[[], Awaitable[T]], wanted: Callable[[T], bool], within_s: float = 5.0
) -> T:
    """What `read` says once it is what is wanted."""
    async with asyncio.timeout(within_s):
        while not wanted(value := await read()):  # noqa: ASYNC110  # nobody here to signal
            await asyncio.sleep(0.01)
    return value
