"""The whole system on this machine: the supervisor that `make run` starts.

It owns the embedded registry, has the zygote fork every process, writes the scrape targets,
starts anew what ends, and drains everything in order when it is told to stop.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from chassis import discovery
from chassis.clock import Clock
from chassis.discovery import Instance, Registry, background
from chassis.discovery.directory import Directory
from chassis.discovery.embedded import RegistryServer
from chassis.disk.files import replace_file
from chassis.errors import ConfigurationFault
from chassis.http.admin import AdminPort
from chassis.http.client import Client
from chassis.http.serving import Listener, bind, bind_unix
from chassis.service import VERSION
from chassis.telemetry import Telemetry
from deploy.backing import FILE, Backing, settings_of
from deploy.control import control_app
from deploy.fleet import Fleet, Running
from deploy.home import Home
from deploy.leftovers import deliver_leftovers
from deploy.processes import SERVICES, ProcessSpec, fleet
from deploy.restarts import RestartPolicy
from deploy.rolling import Rolling
from deploy.rules_news import RulesNews
from deploy.sockets import reserve
from deploy.starting import whole
from deploy.targets import Targets

Say = Callable[[str], None]
RULES = Path(__file__).with_name("rules.yaml")


class LocalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to run the system here. A port of 0 picks a free one."""

    home: Path = Path("var")
    host: str = "127.0.0.1"
    port: int = 8080
    registry_port: int = 8500
    admin_port: int = 9900
    instances: Mapping[str, int] = {}
    backing: Backing = Backing()


class Ready(msgspec.Struct, frozen=True):
    """Where the running system is."""

    pid: int
    gateway: str
    registry: str
    admin: str
    control: str
    home: str
    rules: str


def check(settings: LocalSettings, clock: Clock) -> None:
    """`ConfigurationFault` when the directory or a port is in use, or a flag makes no sense: before
    servers are started that would be for nothing. Holds nothing."""
    _specs(settings.instances)
    home = Home(settings.home)
    home.prepare(clock)
    try:
        for port in filter(None, (settings.port, settings.admin_port)):
            bind(settings.host, port).close()
    finally:
        home.close()


async def up(
    settings: LocalSettings,
    channel: socket.socket,
    clock: Clock,
    say: Say,
    ready: Callable[[Ready], None],
) -> None:
    """Runs the system until SIGTERM, SIGINT or `stagedoor down`; returns when it has drained.

    `channel` leads to the zygote. `ConfigurationFault`, before anything is started, when a port,
    flag or directory is unusable.
    """
    specs = _specs(settings.instances)
    home = Home(settings.home)
    home.prepare(clock)
    async with AsyncExitStack() as stack:
        stack.callback(home.close)
        edge = stack.enter_context(reserve(settings.host, settings.port))
        port = edge.getsockname()[1]
        supervisor = Supervisor(settings, specs, channel, home, port, clock, say)
        await supervisor.run(stack, ready)


class Supervisor:
    def __init__(
        self,
        settings: LocalSettings,
        specs: list[ProcessSpec],
        channel: socket.socket,
        home: Home,
        port: int,
        clock: Clock,
        say: Say,
    ) -> None:
        self._settings = settings
        self._specs = specs
        self._channel = channel
        self._home = home
        self._port = port
        self._clock = clock
        self._say = say
        self._stopping = asyncio.Event()
        self._ready = False

    async def run(self, stack: AsyncExitStack, ready: Callable[[Ready], None]) -> None:
        self._heed_signals()
        settings, home = self._settings, self._home
        telemetry = Telemetry(
            "supervisor", "supervisor", self._clock, log_file=home.root / "log/supervisor.jsonl"
        )
        stack.callback(telemetry.close)
        admin_port = await self._serve_admin(stack, telemetry)
        registry_url = settings.backing.registry or await self._serve_registry(stack)
        replace_file(home.root / FILE, msgspec.json.encode(settings.backing), mode=0o600)
        registry = self._registry(registry_url, stack)
        directory = Directory(registry, self._clock)
        stack.push_async_callback(directory.close)
        fleet_ = Fleet(
            self._specs,
            self._channel,
            self._environ(registry_url),
            home.root / "log",
            self._clock,
            telemetry,
            RestartPolicy(),
        )
        await self._serve_control(fleet_, directory, stack)
        stack.push_async_callback(self._drain, fleet_)
        if not await self._unless_stopping(self._prepare(fleet_)):
            return
        await fleet_.start()
        supervisor = self._itself(admin_port)
        Targets(directory, SERVICES, home.root / "prometheus", replace_file, [supervisor]).start()
        where = self._where(registry_url, admin_port)
        home.write_state({**msgspec.to_builtins(where), "status": "starting"})
        services = [spec.service for spec in self._specs]
        log = home.root / "log"
        if not await self._unless_stopping(
            whole(fleet_, services, directory, registry, self._clock, log)
        ):
            return
        self._ready = True
        self._follow_rules(directory, stack)
        home.write_state({**msgspec.to_builtins(where), "status": "ready"})
        ready(where)
        await self._stopping.wait()

    async def _prepare(self, fleet_: Fleet) -> None:
        await self._fill_catalogue(fleet_)
        await self._deliver_leftovers(fleet_)

    async def _unless_stopping(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether it came to its end before we were told to stop."""
        tasks = asyncio.ensure_future(work), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                await tasks[0]
            return tasks[0].done()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stopping.set)

    async def _serve_registry(self, stack: AsyncExitStack) -> str:
        """The embedded registry; its URL."""
        listening = bind(self._settings.host, self._settings.registry_port)
        server = RegistryServer(self._clock, self._home.root / "registry")
        stack.callback(server.close)
        listener = Listener(server.asgi, listening)
        await listener.start()
        stack.push_async_callback(listener.drain, 0.1)
        return f"consul://{self._settings.host}:{listener.port}"

    async def _serve_admin(self, stack: AsyncExitStack, telemetry: Telemetry) -> int:
        listening = bind(self._settings.host, self._settings.admin_port)
        listener = Listener(AdminPort(telemetry, lambda: self._ready, VERSION), listening)
        await listener.start()
        stack.push_async_callback(listener.drain, 0.1)
        return listener.port

    async def _serve_control(
        self, fleet_: Fleet, directory: Directory, stack: AsyncExitStack
    ) -> None:
        def is_found(running: Running, pid: int) -> bool:
            found = directory.instances(running.spec.service)
            return any(
                (one.id, one.meta.get("pid")) == (running.spec.instance, str(pid)) for one in found
            )

        listening = bind_unix(self._home.control_socket)
        rolling = Rolling(fleet_, is_found, self._clock)
        listener = Listener(control_app(fleet_, rolling, self._stopping.set), listening)
        await listener.start()
        stack.push_async_callback(listener.drain, 0.1)

    async def _fill_catalogue(self, fleet_: Fleet) -> None:
        said = await fleet_.job("catalogue", "deploy.catalogue")
        if said:
            self._say(said)

    async def _deliver_leftovers(self, fleet_: Fleet) -> None:
        root = self._home.root
        log_url = settings_of(root).log_url
        await deliver_leftovers(root, log_url, fleet_.processes, self._clock, self._say)

    def _registry(self, url: str, stack: AsyncExitStack) -> Registry:
        client = Client(clock=self._clock)
        registry = discovery.open(url, client=client, clock=self._clock)
        stack.push_async_callback(registry.close)
        return registry

    def _environ(self, registry_url: str) -> dict[str, str]:
        return {
            **self._settings.backing.environ(),
            "STAGEDOOR_HOME": str(self._home.root),
            "STAGEDOOR_HOST": self._settings.host,
            "STAGEDOOR_REGISTRY": registry_url,
            "STAGEDOOR_RULES": str(self._rules()),
            "STAGEDOOR_LISTEN": f"{self._settings.host}:{self._port}",
        }

    def _rules(self) -> Path:
        """The live rules document: the user's own copy, made at the first start."""
        rules = self._home.root / "rules.yaml"
        if not rules.exists():
            replace_file(rules, RULES.read_bytes())
        return rules

    def _follow_rules(self, directory: Directory, stack: AsyncExitStack) -> None:
        def gateways() -> Sequence[Instance]:
            return directory.instances("gateway")

        client = Client(clock=self._clock)
        stack.push_async_callback(client.close)
        news = RulesNews(self._rules(), gateways, client, self._clock, self._say)
        stack.push_async_callback(background.stop, background.start(news.run(), "rules news"))

    def _itself(self, admin_port: int) -> Instance:
        meta = {"admin": f"{self._settings.host}:{admin_port}", "version": VERSION}
        return Instance("supervisor", "supervisor", self._settings.host, admin_port, meta)

    def _where(self, registry_url: str, admin_port: int) -> Ready:
        return Ready(
            pid=os.getpid(),
            gateway=f"http://{self._settings.host}:{self._port}",
            registry=registry_url,
            admin=f"http://{self._settings.host}:{admin_port}",
            control=str(self._home.control_socket),
            home=str(self._home.root),
            rules=str(self._rules()),
        )

    async def _drain(self, fleet_: Fleet) -> None:
        self._ready = False
        if any(one.starts for one in fleet_.processes.values()):
            self._say("draining: the edge first, then what it asks, the stream last")
        await fleet_.drain()


def _specs(instances: Mapping[str, int]) -> list[ProcessSpec]:
    try:
        return fleet(instances)
    except ValueError as fault:
        raise ConfigurationFault([str(fault)], what="--instances") from None
