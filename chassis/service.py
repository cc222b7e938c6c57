"""The life of a service process: build -> serve -> drain.

A service's `app.py` offers `build(chassis) -> Service`. `serve` opens the chassis (telemetry,
registry, seal, calls to peers), builds, listens on two ports (traffic and admin), registers, and
waits for SIGTERM. Draining: fail readiness, deregister, keep serving for the discovery interval,
finish what is under way, then close everything in the reverse order of opening.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from chassis import config, discovery
from chassis.clock import SYSTEM, Clock
from chassis.contracts.wire import Ans, Call, Req
from chassis.discovery import Instance, Registry
from chassis.discovery.directory import Directory
from chassis.http.admin import admin_app
from chassis.http.api import Api
from chassis.http.peers import Peer, Peers
from chassis.http.serving import Listener, bind
from chassis.http.transport import Transport
from chassis.identity import Keyring, PassportVerifier, Seal
from chassis.resilience import TimerWheel
from chassis.telemetry import Telemetry
from chassis.telemetry.metrics import Labels

VERSION = "0.1.0"


class ProcessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every process reads from `STAGEDOOR_…`; empty URLs follow from `home`."""

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
    registry_ttl_s: float = 3.0
    discovery_interval_s: float = 0.3
    drain_s: float = 5.0

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
        return self.tables or f"sqlite://{self.root}/data/{service}.db"


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
        self.directory = Directory(registry, clock)
        self.peers = Peers(self.directory, self.wheel, telemetry, clock)
        self.verifier = PassportVerifier(seal, clock)
        tell_of_policies(self.peers, telemetry)

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


_RESULTS = (
    "success",
    "failure",
    "timeout",
    "short_circuited",
    "rejected",
    "expired",
    "ignored",
    "abandoned",
)

Build = Callable[[Chassis], Awaitable[Service]]


def run(name: str, build: Build, environ: Mapping[str, str]) -> None:
    """A whole process: settings from `environ`, an event loop, `serve`."""
    settings = config.load(ProcessSettings, environ)
    uvloop.run(serve(name, build, settings))


async def serve(name: str, build: Build, settings: ProcessSettings, clock: Clock = SYSTEM) -> None:
    """Runs one service until SIGTERM or SIGINT; returns when it has drained."""
    stopping = _stop_on_signals()
    traffic = bind(settings.host, settings.port)
    admin = bind(settings.host, settings.admin_port)
    async with AsyncExitStack() as stack:
        chassis = await open_chassis(name, settings, clock, stack)
        service = await build(chassis)
        for close in service.closing:
            stack.push_async_callback(close)
        state = _State()
        main = Listener(service.app, traffic)
        side = Listener(admin_app(chassis.telemetry, state.is_ready, VERSION), admin)
        await side.start()
        stack.push_async_callback(side.drain, 0.1)
        await main.start()
        registration = await chassis.registry.register(
            _instance(chassis, main.port, side.port, service.meta), ttl_s=settings.registry_ttl_s
        )
        state.ready = True
        chassis.telemetry.log.say("serving", port=main.port, admin=side.port)
        await _run_beside(service.background, stopping)
        state.ready = False
        chassis.telemetry.log.say("draining")
        await registration.deregister()
        await clock.sleep(settings.discovery_interval_s)
        await main.drain(settings.drain_s)


async def open_chassis(
    name: str, settings: ProcessSettings, clock: Clock, stack: AsyncExitStack
) -> Chassis:
    """The chassis of one process; `stack` closes it."""
    instance = settings.instance or f"{name}-{clock.entropy(4).hex()}"
    log_file = settings.root / "log" / f"{instance}.jsonl"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    telemetry = Telemetry(name, instance, clock, log_file=log_file)
    stack.callback(telemetry.close)
    telemetry.watch_loop()
    seal = Seal(Keyring.load(settings.keyring_file), clock)
    transport = Transport(clock=clock)
    registry = discovery.open(settings.registry, transport=transport, clock=clock)
    stack.push_async_callback(registry.close)
    chassis = Chassis(name, settings, registry, seal, telemetry, clock)
    stack.push_async_callback(chassis.close)
    return chassis


class _State:
    def __init__(self) -> None:
        self.ready = False

    def is_ready(self) -> bool:
        return self.ready


def _instance(chassis: Chassis, port: int, admin: int, meta: Mapping[str, str]) -> Instance:
    host = chassis.settings.host
    shown = {"admin": f"{host}:{admin}", "version": VERSION, **meta}
    return Instance(chassis.telemetry.instance, chassis.name, host, port, shown)


def _stop_on_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


async def _run_beside(
    background: Sequence[Callable[[], Awaitable[None]]], stopping: asyncio.Event
) -> None:
    """Waits for the stop; a background function that ends earlier is an error."""
    running = [asyncio.ensure_future(function()) for function in background]
    stop = asyncio.ensure_future(stopping.wait())
    try:
        done, _ = await asyncio.wait([stop, *running], return_when=asyncio.FIRST_COMPLETED)
        for ended in done - {stop}:
            ended.result()
            raise RuntimeError(f"a background task of this service ended by itself: {ended!r}")
    finally:
        for task in (stop, *running):
            task.cancel()
        await asyncio.gather(stop, *running, return_exceptions=True)


def tell_of_policies(peers: Peers, telemetry: Telemetry) -> None:
    """The isolation metrics, read from the policies' own counters at scrape."""

    def calls() -> Iterable[tuple[Labels, float]]:
        for one in peers.policies:
            counts = one.snapshot()
            for result in _RESULTS:
                yield (one.name, result), getattr(counts, result)

    def states() -> Iterable[tuple[Labels, float]]:
        for one in peers.policies:
            current = one.snapshot().state
            for state in {current, "closed", "open", "half-open"}:
                yield (one.name, state), float(state == current)

    def in_flight() -> Iterable[tuple[Labels, float]]:
        return [((one.name,), one.snapshot().in_flight) for one in peers.policies]

    metrics = telemetry.metrics
    metrics.counted("breaker_calls_total", "Calls by result.", ("command", "result"), read=calls)
    metrics.gauge("breaker_state", "1 for the present state.", ("command", "state"), read=states)
    metrics.gauge("breaker_inflight", "Calls under way.", ("command",), read=in_flight)
