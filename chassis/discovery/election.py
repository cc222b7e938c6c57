"""One of several processes does a piece of work: the one whose session holds a key.

```python
await lead(registry, "stagedoor/rollup", instance, roll_up, clock)
```

Two may overlap in one case only: a process that stood still for longer than its TTL does not know
yet that it lost. Work that must not happen twice compares and sets, or is idempotent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from chassis.clock import Clock
from chassis.discovery import background
from chassis.discovery.registry import LOCK_DELAY_S, SESSION_TTL_S, Registry, Session
from chassis.errors import StoreUnavailable

T = TypeVar("T")
_BACKOFF_S = 0.5
_LEAVE_S = 2.0


async def lead(
    registry: Registry,
    key: str,
    name: str,
    work: Callable[[], Awaitable[T]],
    clock: Clock,
    *,
    ttl_s: float = SESSION_TTL_S,
    lock_delay_s: float = LOCK_DELAY_S,
) -> T:
    """What `work` returns, run while this process holds `key`, whose value is then `name`.

    Waits for its turn; waits out a registry that is away. When the key is lost the work is
    cancelled, and begins anew when it is this process's turn again. What it raises passes.
    """
    while True:
        session = await _session(registry, name, clock, ttl_s, lock_delay_s)
        try:
            if await _won(registry, session, key, name, clock):
                return await _while_held(session, work)
        except _Lost:
            pass
        finally:
            await _leave(session)


class _Lost(Exception):
    """The session ended under us."""


async def _session(
    registry: Registry, name: str, clock: Clock, ttl_s: float, lock_delay_s: float
) -> Session:
    while True:
        with contextlib.suppress(StoreUnavailable):
            return await registry.session(name, ttl_s=ttl_s, lock_delay_s=lock_delay_s)
        await _pause(clock)


async def _won(registry: Registry, session: Session, key: str, name: str, clock: Clock) -> bool:
    """True once the session holds the key; False when the session was lost instead."""
    index = 0
    while not session.is_lost:
        with contextlib.suppress(StoreUnavailable):
            if await session.acquire(key, name.encode()):
                return True
            answered, held = await registry.kv_get(key, index=index)
            if held is not None and held.session:
                index = answered if answered >= index else 0
                continue
        index = 0  # away, or free and still nobody's for its lock delay
        await _pause(clock)
    return False


async def _pause(clock: Clock) -> None:
    await clock.sleep(_BACKOFF_S * (0.5 + clock.random() / 2))


async def _while_held(session: Session, work: Callable[[], Awaitable[T]]) -> T:
    working = asyncio.ensure_future(work())
    losing = asyncio.ensure_future(session.lost())
    try:
        await asyncio.wait([working, losing], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise _Lost
    finally:
        for task in (losing, working):
            await background.stop(task)


async def _leave(session: Session) -> None:
    """Where the registry cannot be told, the session ends by itself."""
    with contextlib.suppress(StoreUnavailable, TimeoutError):
        async with asyncio.timeout(_LEAVE_S):
            await session.close()
