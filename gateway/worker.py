"""One running gateway: starts, tells how it is, drains."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from chassis.clock import Clock
from chassis.discovery import Instance, Registry, background
from chassis.discovery.presence import stay
from chassis.http.serving import Listener as AdminListener
from chassis.http.serving import bind
from chassis.telemetry import Telemetry
from gateway.core import Gateway
from gateway.edge import connection as hot
from gateway.edge.listener import Listener
from gateway.edge.listeners import Listeners
from gateway.origins import Origin
from gateway.rules.live import LiveRules
from gateway.settings import Settings, address

VERSION = "0.1.0"
RESOLVE_S = 1.0
"""How long a start waits for names; without them their clusters answer 503."""


def version() -> str:
    """With how this process came by its hot path: `0.1.0+compiled`, or `0.1.0+pure`."""
    return f"{VERSION}+{'pure' if str(hot.__file__).endswith('.py') else 'compiled'}"


class Worker:
    """What `app.build` composed. `start`, then `drain`; `stopping` is set when it should drain."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        telemetry: Telemetry,
        live: LiveRules,
        gateway: Gateway,
        listeners: Listeners,
        registry: Registry | None,
        close: Callable[[], Any],
    ) -> None:
        self.settings = settings
        self.gateway = gateway
        self.listeners = listeners
        self.live = live
        self.telemetry = telemetry
        self.stopping = asyncio.Event()
        self.port = 0
        self.admin_port = 0
        self._clock = clock
        self._registry = registry
        self._presence: asyncio.Task[None] | None = None
        self._admin: AdminListener | None = None
        self._close = close
        self._is_ready = False
        self._hands_over = False
        self._has_terminal = os.isatty(0)

    def __repr__(self) -> str:
        return f"Worker({self.telemetry.instance}, {self.gateway!r}, ready={self._is_ready})"

    @property
    def listener(self) -> Listener:
        """The first one, which the registry is told of."""
        return self.listeners.first

    @property
    def admin_address(self) -> str:
        host, _ = address(self.settings.admin, "the admin address")
        return f"{f'[{host}]' if ':' in host else host}:{self.admin_port}"

    # -- what the admin application asks

    def ready(self) -> bool:
        return self._is_ready

    def clusters(self) -> Sequence[Mapping[str, Any]]:
        return [_told(origin) for origin in self.gateway.origins.values()]

    def drain(self) -> None:
        self.stopping.set()

    def hand_over(self) -> None:
        """Begins to drain; a successor has the listening sockets, and who waits there."""
        self._hands_over = True
        self.stopping.set()

    def hang_up(self) -> None:
        """Beside other workers a successor is there. Alone, the terminal that it was started at is
        gone; or somebody wants the files read again, which happens by itself."""
        if self.settings.reuse_port or self.settings.held():
            self.hand_over()
        elif self._has_terminal:
            self.drain()

    # -- life

    async def start(self, admin_app: Any) -> None:
        """Rules and the names in them, then both ports, then the registry: nobody hears of us
        before we can serve.

        It serves without the registry too, and enters it when it can be reached.
        """
        settings = self.settings
        await self.live.start()
        self.gateway.adopt(self.live.snapshot)
        self.live.subscribe(self.gateway.adopt)
        await self.gateway.origins.resolve(RESOLVE_S)
        self._admin = AdminListener(admin_app, bind(*address(settings.admin, "the admin address")))
        await self._admin.start()
        self.admin_port = self._admin.port
        await self.listeners.start(reuse_port=settings.reuse_port, held=settings.held())
        self.port = self.listeners.ports[0]
        self._presence = self._be_found()
        self._is_ready = True
        self.telemetry.log.say("serving", ports=self.listeners.ports, admin=self.admin_port)

    def _be_found(self) -> asyncio.Task[None] | None:
        host = self.listener.listen.host
        if self._registry is None or not host:
            return None
        meta = {"admin": self.admin_address, "version": VERSION, "pid": str(os.getpid())}
        staying = stay(
            self._registry,
            Instance(self.telemetry.instance, "gateway", host, self.port, meta),
            self._clock,
            ttl_s=self.settings.registry_ttl_s,
            refused=lambda fault: self.telemetry.log.say("registry_away", why=str(fault)),
        )
        return background.start(staying, "the gateway's presence in the registry")

    async def shut(self) -> None:
        """Drains, in this order:

        1. it is not ready any more;
        2. it leaves the registry;
        3. it serves as before, for as long as others take to notice;
        4. it accepts nobody new, and every answer ends its connection;
        5. connections that stay idle are closed;
        6. requests under way have until the deadline;
        7. streams are ended one by one, with a reason;
        8. what is left is cut, then logs are written and everything is closed.
        """
        settings, listeners = self.settings, self.listeners
        self._is_ready = False
        self.telemetry.log.say("draining", connections=listeners.connections)
        if self._presence is not None:
            await background.stop(self._presence)
        await self._clock.sleep(settings.discovery_interval_s)
        listeners.stop_accepting(hand_over=self._hands_over)
        listeners.close_idle(settings.quiet_s)
        if not await listeners.wait_empty(settings.drain_s):
            streams = len(self.gateway.streams)
            await listeners.wait_empty(self.gateway.streams.drain() if streams else 0.0)
            left = listeners.connections
            self.telemetry.log.say("drain_deadline", streams=streams, cut=left)
        await self.close()

    async def close(self) -> None:
        """Ends everything now, in the reverse order of opening."""
        if self._presence is not None:
            await background.stop(self._presence)
        await self.listeners.close()
        if self._admin is not None:
            await self._admin.drain(0.1)
        await self.live.close()
        await self._close()


def _told(origin: Origin) -> dict[str, Any]:
    standings = origin.balancer.standings()
    return {
        "cluster": origin.name,
        "service": origin.cluster.service,
        "dns": origin.cluster.dns,
        "instances": [
            {
                "id": instance.id,
                "address": instance.address,
                "standing": msgspec.to_builtins(standings.get(instance.id)),
            }
            for instance in origin.instances()
        ],
        "pools": {
            name: {"open": pool.open, "idle": pool.idle, "waiting": pool.waiting}
            for name, pool in origin.pools.items()
        },
    }
