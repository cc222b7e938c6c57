"""Being in the registry, from as soon as it can be reached until told to leave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from chassis.clock import Clock
from chassis.discovery.registry import DEFAULT_TTL_S, Instance, Registration, Registry
from chassis.errors import StoreUnavailable

_FIRST_BACKOFF_S = 0.1
_LAST_BACKOFF_S = 2.0
_LEAVE_S = 2.0


async def stay(
    registry: Registry,
    instance: Instance,
    clock: Clock,
    *,
    ttl_s: float = DEFAULT_TTL_S,
    entered: Callable[[], None] = lambda: None,
    refused: Callable[[StoreUnavailable], None] = lambda fault: None,
) -> None:
    """Registers `instance`, trying until the registry takes it, and waits to be cancelled; then
    takes it out again. `refused` hears each failure to enter or to leave; where it cannot be taken
    out its lease ends by itself."""
    registration = await _enter(registry, instance, clock, ttl_s, refused)
    entered()
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await _leave(registration, refused)


async def _enter(
    registry: Registry,
    instance: Instance,
    clock: Clock,
    ttl_s: float,
    refused: Callable[[StoreUnavailable], None],
) -> Registration:
    backoff = _FIRST_BACKOFF_S
    while True:
        try:
            return await registry.register(instance, ttl_s=ttl_s)
        except StoreUnavailable as fault:
            refused(fault)
        await clock.sleep(backoff * (0.5 + clock.random() / 2))
        backoff = min(_LAST_BACKOFF_S, backoff * 2)


async def _leave(registration: Registration, refused: Callable[[StoreUnavailable], None]) -> None:
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await registration.deregister()
    except StoreUnavailable as fault:
        refused(fault)
