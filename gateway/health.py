"""Active health checks: each instance of a cluster is asked, and left out while it answers badly.

Asked over a connection of its own, so that neither a full pool nor a kept connection hides what a
new caller would meet. An instance is fit until it has proved otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from chassis.clock import Clock
from chassis.discovery import Instance
from chassis.discovery.balancer import Balancer
from chassis.errors import StagedoorError
from chassis.http.attempt import Attempt
from chassis.http.framing import request_head
from chassis.http.pool import Address, Pool, PoolLimits
from gateway.rules.model import HealthCheck

_AGENT = b"stagedoor-health"


class Pulse:
    """What the checks of one instance say. Pure: answers in, fit or not out."""

    __slots__ = ("_against", "_check", "is_healthy")

    def __init__(self, check: HealthCheck) -> None:
        self._check = check
        self._against = 0
        self.is_healthy = True

    def heard(self, good: bool) -> bool:
        """Takes one answer; whether the instance is fit."""
        self._against = 0 if good is self.is_healthy else self._against + 1
        check = self._check
        if self._against >= (check.unhealthy_after if self.is_healthy else check.healthy_after):
            self.is_healthy, self._against = good, 0
        return self.is_healthy

    def __repr__(self) -> str:
        return f"Pulse({'healthy' if self.is_healthy else 'unhealthy'}, {self._against} against)"


class HealthChecks:
    """The checks of one cluster; `run` until it is cancelled."""

    def __init__(
        self,
        check: HealthCheck,
        instances: Callable[[], Sequence[Instance]],
        balancer: Balancer,
        clock: Clock,
    ) -> None:
        self._check = check
        self._instances = instances
        self._balancer = balancer
        self._clock = clock
        self._pulses: dict[tuple[str, str], Pulse] = {}

    def __repr__(self) -> str:
        return f"HealthChecks({self._check.path}, {self._pulses!r})"

    async def run(self) -> None:
        while True:
            await asyncio.gather(*(self._look(instance) for instance in self._instances()))
            wait_s = self._check.interval_s * (0.9 + self._clock.random() / 5)
            await self._clock.sleep(wait_s)

    async def _look(self, instance: Instance) -> None:
        key = (instance.id, instance.address)
        pulse = self._pulses.get(key)
        if pulse is None:
            self._forget()
            pulse = self._pulses[key] = Pulse(self._check)
        self._balancer.checked(instance.id, pulse.heard(await self._asks(instance)))

    def _forget(self) -> None:
        """Those that are gone."""
        known = {(instance.id, instance.address) for instance in self._instances()}
        self._pulses = {key: pulse for key, pulse in self._pulses.items() if key in known}

    async def _asks(self, instance: Instance) -> bool:
        check = self._check
        limits = PoolLimits(connections=1, idle=0, connect_s=check.timeout_s)
        pool = Pool(Address(instance.host, instance.port), limits, clock=self._clock)
        attempt: Attempt | None = None
        try:
            async with asyncio.timeout(check.timeout_s):
                attempt = Attempt(pool, await pool.connect())
                attempt.start(b"GET", self._head(instance))
                await attempt.head()
                return 200 <= attempt.status < 400
        except (StagedoorError, TimeoutError):
            return False
        finally:
            if attempt is not None:
                attempt.leave()
            await pool.close()

    def _head(self, instance: Instance) -> bytes:
        host = (self._check.host or instance.address).encode()
        fields = [(b"host", host), (b"user-agent", _AGENT), (b"connection", b"close")]
        return request_head(b"GET", self._check.path.encode(), fields)
