"""What must be renewed at a Consul agent: the entry of an instance, and sessions that hold keys."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from consul.check import Check
from consul.exceptions import ConsulException, NotFound

from chassis.clock import Clock, Timer
from chassis.discovery import background
from chassis.discovery.registry import LARGEST_VALUE, Instance
from chassis.errors import Faulty, StoreUnavailable

if TYPE_CHECKING:
    from chassis.discovery.consul import ConsulRegistry

_REAP_AFTER = "1m"  # the shortest that Consul accepts
_UNKNOWN_CHECK = re.compile("unknown check|does not have associated TTL", re.IGNORECASE)
_NO_SESSION = re.compile("invalid session", re.IGNORECASE)


class ConsulRegistration:
    """A service under a TTL check, renewed every third of it."""

    def __init__(
        self, registry: ConsulRegistry, instance: Instance, ttl_s: float, clock: Clock
    ) -> None:
        self.instance = instance
        self._registry = registry
        self._ttl_s = ttl_s
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._gone = False

    async def enter(self) -> None:
        """Writes the whole registration, its check passing."""
        instance = self.instance
        check = Check.ttl(duration(self._ttl_s)) | {
            "checkid": self._check,
            "name": f"lease of {instance.id}",
            "status": "passing",
            "DeregisterCriticalServiceAfter": _REAP_AFTER,
        }
        with self._registry.translated():
            await self._registry.consul.agent.service.register(
                self._registry.prefix + instance.service,
                service_id=self._id,
                address=instance.host,
                port=instance.port,
                meta=instance.meta,
                check=check,
                replace_existing_checks=True,
            )

    def start(self, ended: Callable[[ConsulRegistration], None]) -> None:
        self._task = background.start(self._renew(), f"the lease of {self.instance.id}")
        self._task.add_done_callback(lambda _: ended(self))

    async def deregister(self) -> None:
        """When the registry cannot be told (`StoreUnavailable`), the lease ends by itself. A
        successor, who has registered under the same id since, is left alone."""
        await self.stop()
        if not self._gone:
            if not await self._has_successor():
                with self._registry.translated():
                    await self._registry.consul.agent.service.deregister(self._id)
            self._gone = True

    async def _has_successor(self) -> bool:
        mine = self.instance
        _, found = await self._registry.instances(mine.service)
        return any(one.id == mine.id and one != mine for one in found)

    async def stop(self) -> None:
        """Ends the heartbeats only."""
        if self._task is not None:
            await background.stop(self._task)

    @property
    def _id(self) -> str:
        return self._registry.prefix + self.instance.id

    @property
    def _check(self) -> str:
        return f"service:{self._id}"

    async def _renew(self) -> None:
        while True:
            await self._clock.sleep(third(self._ttl_s, self._clock))
            with contextlib.suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(self._ttl_s / 3):
                    if not await self._known():
                        await self.enter()

    async def _known(self) -> bool:
        """Renews the lease; False when the registry answers that it knows no such check.

        It says so with 404, older versions with 500. Any other failure is the registry's own:
        to register again would only burden it more.
        """
        with self._registry.translated():
            try:
                return bool(await self._registry.consul.agent.check.ttl_pass(self._check))
            except ConsulException as fault:
                if _UNKNOWN_CHECK.search(str(fault)):
                    return False
                raise

    def __repr__(self) -> str:
        state = "gone" if self._gone else "registered"
        return f"ConsulRegistration({self.instance.id}, {state})"


class ConsulSession:
    """A session with a TTL, renewed every third of it.

    It counts as lost a whole TTL after the last renewal that the registry is known to have taken,
    reckoned from when that was sent: the registry itself waits longer.
    """

    def __init__(
        self, registry: ConsulRegistry, session_id: str, ttl_s: float, asked: float, clock: Clock
    ) -> None:
        self.id = session_id
        self._registry = registry
        self._ttl_s = ttl_s
        self._clock = clock
        self._held: dict[str, bytes] = {}
        self._lost = asyncio.Event()
        self._ended = False
        self._timer: Timer | None = None
        self._live_from(asked)
        self._task = background.start(self._renew(), f"the session {session_id}")

    @property
    def is_lost(self) -> bool:
        return self._lost.is_set()

    async def lost(self) -> None:
        await self._lost.wait()

    async def acquire(self, key: str, value: bytes = b"") -> bool:
        if self.is_lost:
            return False
        self._held.setdefault(key, value)  # from before: a cancelled call may have taken it
        if not await self._put(key, value, acquire=self.id):
            del self._held[key]
            return False
        self._held[key] = value
        return not self.is_lost

    async def release(self, key: str, value: bytes = b"") -> bool:
        if not await self._put(key, value, release=self.id):
            return False
        self._held.pop(key, None)
        return True

    async def close(self) -> None:
        """What is still held is released first, as it is: its lock delay is for lost sessions."""
        await self.stop()
        if self._ended:
            return
        for key, value in (*self._held.items(),):
            await self.release(key, value)
        with self._registry.translated():
            await self._registry.consul.session.destroy(self.id)
        self._ended = True

    async def stop(self) -> None:
        """Ends the renewals only."""
        self._lose()
        await background.stop(self._task)

    async def _put(self, key: str, value: bytes, **how: str) -> bool:
        with self._registry.translated():
            try:
                name = self._registry.prefix + checked(key, value)
                return bool(await self._registry.consul.kv.put(name, value, **how))
            except ConsulException as fault:
                if not _NO_SESSION.search(str(fault)):
                    raise
        self._ended = True
        self._lose()
        return False

    async def _renew(self) -> None:
        while not self.is_lost:
            await self._clock.sleep(third(self._ttl_s, self._clock))
            asked = self._clock.monotonic()
            with contextlib.suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(self._ttl_s / 3):
                    if await self._renewed():
                        self._live_from(asked)
                    else:
                        self._ended = True
                        self._lose()

    async def _renewed(self) -> bool:
        with self._registry.translated():
            try:
                await self._registry.consul.session.renew(self.id)
            except NotFound:
                return False
            return True

    def _live_from(self, asked: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        left = asked + self._ttl_s - self._clock.monotonic()
        self._timer = self._clock.call_later(left, self._lose)

    def _lose(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._lost.set()

    def __repr__(self) -> str:
        state = "lost" if self.is_lost else f"holds {', '.join(self._held) or 'nothing'}"
        return f"ConsulSession({self.id}, {state})"


def checked(key: str, value: bytes = b"") -> str:
    """The key. URLs cannot carry a leading slash or dot segments: they would name another one."""
    if key.startswith("/") or {".", ".."} & set(key.split("/")):
        raise Faulty(f"a registry key has no leading slash and no dot segments: {key!r}")
    if len(value) > LARGEST_VALUE:
        raise Faulty(
            f"the value of {key!r} has {len(value)} bytes; the registry takes {LARGEST_VALUE}"
        )
    return key


def duration(seconds: float) -> str:
    """As Go reads it."""
    return f"{max(1, round(seconds * 1000))}ms"


def third(ttl_s: float, clock: Clock) -> float:
    """When to renew next: a third of the TTL, a little less so that many fall out of step."""
    return ttl_s / 3 * (0.9 + 0.1 * clock.random())
