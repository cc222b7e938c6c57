"""ROOT: settings in, a runnable gateway out."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack

import uvloop

from chassis import config, discovery
from chassis.clock import SYSTEM, Clock
from chassis.discovery import Registry
from chassis.discovery.directory import Directory
from chassis.discovery.lookup import addresses
from chassis.discovery.names import Names, Resolve
from chassis.http.client import Client
from chassis.telemetry import Telemetry
from gateway.admin import admin_app
from gateway.admission import InFlight, Sharing
from gateway.core import Gateway
from gateway.edge.listeners import Listeners
from gateway.filters import Filter
from gateway.filters.passport import signer
from gateway.observer import Observer
from gateway.origins import NoDirectory, Origins, static_only
from gateway.rules.live import LiveRules, anything
from gateway.settings import Settings
from gateway.streams import Streams
from gateway.verifiers import Verifiers
from gateway.worker import Worker, version

Ready = Callable[[Worker], object]


async def build(
    settings: Settings,
    *,
    clock: Clock = SYSTEM,
    registry: Registry | None = None,
    resolve: Resolve = addresses,
    filters: Sequence[Filter] = (),
) -> Worker:
    """A gateway that has not started. Raises `ConfigurationFault` when it cannot be built."""
    async with AsyncExitStack() as stack:
        telemetry = Telemetry.open("gateway", settings.instance, clock, settings.root)
        stack.callback(telemetry.close)
        if registry is None and settings.registry:
            registry = discovery.open(settings.registry, client=Client(clock=clock), clock=clock)
        directory = None
        if registry is not None:
            stack.push_async_callback(registry.close)
            directory = Directory(registry, clock, state=settings.root / "gateway" / "instances")
            stack.push_async_callback(directory.close)
        client = Client(clock=clock)
        stack.push_async_callback(client.close)
        names = Directory(Names(clock, resolve), clock, state=settings.root / "gateway" / "names")
        stack.push_async_callback(names.close)
        origins = Origins(directory or NoDirectory(), names, clock)
        stack.push_async_callback(origins.close)
        in_flight = InFlight(settings.in_flight)
        observer = Observer(telemetry, in_flight, sampled_successes=settings.log_successes)
        sharing = Sharing.open(settings.cache, telemetry, directory) if settings.cache else None
        if sharing is not None:
            stack.push_async_callback(sharing.refills.close)
            await sharing.refills.check()
        gateway = Gateway(
            clock,
            observer,
            in_flight,
            origins,
            Verifiers(client, origins, clock, settings.rules.absolute().parent),
            Streams(clock, telemetry.metrics, settings.limits, settings.spread_s),
            signer=signer(settings.keyring, settings.root, clock),
            filters=filters,
            sharing=sharing,
            stall_s=settings.limits.stall_s,
            window=settings.limits.window,
        )
        listeners = Listeners(settings.listens(), gateway, clock, telemetry.log.say)
        listeners.register(telemetry.metrics)
        live = LiveRules(
            settings.rules,
            settings.root / "gateway" / "rules",
            clock,
            say=telemetry.log.say,
            accept=static_only if registry is None else anything,
        )
        close = stack.pop_all().aclose
        return Worker(settings, clock, telemetry, live, gateway, listeners, registry, close)
    raise AssertionError("the stack swallows nothing")


async def serve(settings: Settings, ready: Ready = bool, *, clock: Clock = SYSTEM) -> None:
    """Runs one gateway until SIGTERM or SIGINT, or a drain asked of its admin port; `hang_up` says
    what SIGHUP does. `ready` hears when it serves."""
    worker = await build(settings, clock=clock)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.drain)
    loop.add_signal_handler(signal.SIGHUP, worker.hang_up)
    try:
        await start(worker)
        ready(worker)
    except BaseException:
        await worker.close()
        raise
    await worker.stopping.wait()
    await worker.shut()


async def start(worker: Worker) -> None:
    """Starts a built gateway with its admin application."""
    await worker.start(admin_app(worker.live, worker.telemetry, worker, version()))
    worker.telemetry.watch_loop()


def run(settings: Settings, ready: Ready = bool) -> None:
    """`serve` on a loop of its own."""
    uvloop.run(serve(settings, ready))


def run_process(environ: Mapping[str, str]) -> None:
    """As one of the workers that a supervisor starts: settings from the environment."""
    settings = config.load(Settings, {**environ, "STAGEDOOR_REUSE_PORT": "true"})
    run(settings)
