"""The life of a service process: build -> serve -> drain.

A service's `app.py` offers `build(chassis) -> Service`. `serve` opens the chassis (telemetry,
registry, seal, calls to peers), builds, listens on two ports (traffic and admin), registers as
soon as the registry can be reached, and waits for SIGTERM. Draining: fail readiness, deregister,
keep serving for the discovery interval, finish what is under way, then close everything in the
reverse order of opening.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import uvloop

from chassis import config, discovery
from chassis.clock import SYSTEM, Clock
from chassis.contracts.wire import Ans, Call, Req
from chassis.discovery import Instance, Registry
from chassis.discovery.directory import Directory
from chassis.discovery.presence import stay
from chassis.http.admin import AdminPort
from chassis.http.api import Api
from chassis.http.client import Client
from chassis.http.isolation import Isolation
from chassis.http.peers import Peer, Peers
from chassis.http.serving import Listener, bind
from chassis.identity import Keyring, PassportVerifier, Seal
from chassis.resilience import TimerWheel
from chassis.telemetry import RING, Telemetry

VERSION = "0.1.0"
_ADMIN_DRAIN_S = 0.1
_QUIET_S = 0.2
"""Connections that were idle for so long are closed at a drain: their callers know of it by now."""


class ProcessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every process reads from `STAGEDOOR_…`; empty URLs follow from `home`.

    `spans` is how many finished spans are kept for whoever asks for a trace.
    """

    home: Path = Path("var")
    host: str = "127.0.0.1"
    port: int = 0
    admin_port: int = 0
    instance: str = ""
    registry: str = "consul://127.0.0.1:8500"
    keyring: Path | None = None
    log: str = ""
    tables: str = ""
    views: str = ""
    objects: str = ""
    cache: str = ""
    registry_ttl_s: float = 3.0
    discovery_interval_s: float = 0.3
    drain_s: float = 5.0
    spans: Annotated[int, msgspec.Meta(ge=1)] = RING

    @property
    def root(self) -> Path:
        return self.home.absolute()

    @property
    def keyring_file(self) -> Path:
        return self.keyring or self.root / "keys" / "inside.json"

    @property
    def log_url(self) -> str:
        return self.log or f"log://{self.root}/events"

    @property
    def views_url(self) -> str:
        return self.views or f"sqlite://{self.root}/data/views.db"

    @property
    def objects_url(self) -> str:
        return self.objects or f"file://{self.root}/archive"

    def tables_url(self, service: str) -> str:
        """Each service has tables of its own: `{service}` in the URL stands for its name."""
        if self.tables:
            return self.tables.replace("{service}", service)
        return f"sqlite://{self.root}/data/{service}.db"


class Chassis:
    """What a service is built on. Everything here is opened and closed by `serve`."""

    def __init__(
        self,
        name: str,
        settings: ProcessSettings,
        registry: Registry,
        seal: Seal,
        telemetry: Telemetry,
        clock: Clock,
    ) -> None:
        self.name = name
        self.settings = settings
        self.registry = registry
        self.seal = seal
        self.telemetry = telemetry
        self.clock = clock
        self.wheel = TimerWheel(clock)
        lists = settings.root / "registry" / telemetry.instance
        self.directory = Directory(registry, clock, state=lists)
        self.peers = Peers(self.directory, self.wheel, telemetry, clock)
        self.verifier = PassportVerifier(seal, clock)
        Isolation(self.peers.policies, telemetry.metrics)

    def api(self) -> Api:
        return Api(self.name, verifier=self.verifier, telemetry=self.telemetry)

    def peer(self, call: Call[Req, Ans], *, timeout_s: float, bulkhead: int = 64) -> Peer[Req, Ans]:
        return self.peers.to(call, timeout_s=timeout_s, bulkhead=bulkhead)

    async def close(self) -> None:
        await self.directory.close()
        await self.peers.close()


@dataclass(slots=True)
class Service:
    """A built service: what it serves, what runs beside it, what to close in the end.

    `background` functions run until the drain; one that ends or fails ends the process, so that
    the supervisor starts it anew. `closing` is called in reverse order.
    """

    app: Any
    background: Sequence[Callable[[], Awaitable[None]]] = ()
    closing: Sequence[Callable[[], Awaitable[None]]] = ()
    meta: Mapping[str, str] = field(default_factory=dict)


Build = Callable[[Chassis], Awaitable[Service]]


def run(name: str, build: Build, environ: Mapping[str, str]) -> None:
    """A whole process: settings from `environ`, an event loop, `serve`."""
    settings = config.load(ProcessSettings, environ)
    uvloop.run(serve(name, build, settings))


async def serve(name: str, build: Build, settings: ProcessSettings, clock: Clock = SYSTEM) -> None:
    """`live` until SIGTERM, SIGINT or SIGHUP."""
    await live(name, build, settings, clock, _stop_on_signals())


async def live(
    name: str, build: Build, settings: ProcessSettings, clock: Clock, stopping: asyncio.Event
) -> None:
    """Runs one service until `stopping` is set; returns when it has drained.

    Raises what a background function ended with, after draining as well.
    """
    async with AsyncExitStack() as stack:
        traffic = stack.enter_context(bind(settings.host, settings.port))
        admin = stack.enter_context(bind(settings.host, settings.admin_port))
        chassis = await open_chassis(name, settings, clock, stack)
        service = await build(chassis)
        for close in service.closing:
            stack.push_async_callback(close)
        life = _Life(chassis, service, traffic, admin)
        await life.start(stack)
        await life.run(stopping)


class _Life:
    """A built service, from its first request to its last."""

    def __init__(
        self, chassis: Chassis, service: Service, traffic: socket.socket, admin: socket.socket
    ) -> None:
        self._chassis = chassis
        self._service = service
        self._log = chassis.telemetry.log
        self._main = Listener(service.app, traffic)
        self._side = Listener(AdminPort(chassis.telemetry, self._is_ready, VERSION), admin)
        self._beside: list[asyncio.Task[None]] = []
        self._ready = False

    def _is_ready(self) -> bool:
        return self._ready

    async def start(self, stack: AsyncExitStack) -> None:
        """Serves; `stack` drains: traffic first, then what runs beside it, the admin port last."""
        await self._side.start()
        stack.push_async_callback(self._side.drain, _ADMIN_DRAIN_S)
        self._beside = [asyncio.ensure_future(work()) for work in self._service.background]
        stack.push_async_callback(_end, self._beside)
        await self._main.start()
        stack.push_async_callback(self._main.drain, self._chassis.settings.drain_s, _QUIET_S)

    async def run(self, stopping: asyncio.Event) -> None:
        """Registered until told to stop, or until something beside it ends; then left alone for
        as long as others take to notice."""
        presence = asyncio.ensure_future(self._be_found())
        try:
            await _until(stopping, [presence, *self._beside])
        except Exception as fault:
            self._log.say("failed", fault=f"{type(fault).__name__}: {fault}")
            raise
        finally:
            self._ready = False
            self._log.say("draining")
            await _end([presence])
            await self._chassis.clock.sleep(self._chassis.settings.discovery_interval_s)

    async def _be_found(self) -> None:
        chassis, settings = self._chassis, self._chassis.settings
        shown = {
            "admin": f"{settings.host}:{self._side.port}",
            "version": VERSION,
            "pid": str(os.getpid()),
            **self._service.meta,
        }
        await stay(
            chassis.registry,
            Instance(
                chassis.telemetry.instance, chassis.name, settings.host, self._main.port, shown
            ),
            chassis.clock,
            ttl_s=settings.registry_ttl_s,
            entered=self._entered,
            refused=lambda fault: self._log.say("registry_away", why=str(fault)),
        )

    def _entered(self) -> None:
        self._ready = True
        self._log.say("serving", port=self._main.port, admin=self._side.port)


async def open_chassis(
    name: str, settings: ProcessSettings, clock: Clock, stack: AsyncExitStack
) -> Chassis:
    """The chassis of one process; `stack` closes it."""
    telemetry = Telemetry.open(name, settings.instance, clock, settings.root, spans=settings.spans)
    stack.callback(telemetry.close)
    telemetry.watch_loop()
    seal = Seal(Keyring.load(settings.keyring_file), clock)
    registry = discovery.open(settings.registry, client=Client(clock=clock), clock=clock)
    stack.push_async_callback(registry.close)
    chassis = Chassis(name, settings, registry, seal, telemetry, clock)
    stack.push_async_callback(chassis.close)
    return chassis


def _stop_on_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stopping.set)
    return stopping


async def _until(stopping: asyncio.Event, running: Sequence[asyncio.Task[None]]) -> None:
    """Waits for the stop; what ends earlier than that is an error."""
    stop = asyncio.ensure_future(stopping.wait())
    try:
        done, _ = await asyncio.wait([stop, *running], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
    for ended in done - {stop}:
        ended.result()
        raise RuntimeError(f"a background task of this service ended by itself: {ended!r}")


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
