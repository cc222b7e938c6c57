"""The launcher: installs, starts, asks and stops the real servers of one state directory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from chassis.clock import SYSTEM, Clock
from chassis.errors import ConfigurationFault, NotFound
from deploy.servers import processes
from deploy.servers.arrange import Asked, arrange
from deploy.servers.folders import Folders
from deploy.servers.installed import Installed
from deploy.servers.installer import Installer, Progress
from deploy.servers.kinds import NAMES, servers
from deploy.servers.rehearsing import end_left
from deploy.servers.running import Running, Status, without_password
from deploy.servers.server import NotReady, Server, Setup
from deploy.servers.start import Starter
from deploy.servers.state import ServerState
from deploy.servers.together import together

AS_LAST_TIME = Asked({}, {}, frozenset())


def _silent(name: str, line: str) -> None:
    pass


def _quiet(line: str) -> None:
    pass


class Servers:
    """The servers in `home`/servers, installed in `cache`. They outlive this object."""

    def __init__(self, home: Path, cache: Path, clock: Clock = SYSTEM) -> None:
        self._folders = Folders(home.resolve())
        self._cache = cache.absolute()
        self._installer = Installer(self._cache, clock)
        self._clock = clock

    async def install(
        self, names: Iterable[str] = NAMES, tell: Progress = _silent
    ) -> dict[str, Installed]:
        """Installs those that are not; `InstallFailed` tells everything that could not be."""
        return await self._installer.install(servers(names), tell)

    def installed(self, names: Iterable[str] = NAMES) -> dict[str, Installed | None]:
        return self._installer.find(servers(names))

    async def up(
        self,
        names: Iterable[str] = NAMES,
        *,
        ports: Mapping[str, int] | None = None,
        sizes: Mapping[str, int] | None = None,
        auth: Collection[str] = (),
        tell: Progress = _silent,
        say: Callable[[str], None] = _quiet,
    ) -> dict[str, Running]:
        """Starts those that do not run and returns when all truly answer; `say` hears when it has
        to wait for another command first.

        Ports are those of last time unless `ports` says otherwise; `sizes` is the number of
        instances; servers in `auth` want a password. `NotInstalled`; `ConfigurationFault` with
        everything that is in the way, before anything starts; `StagedoorError` when one does not
        come up: then what this call started is stopped, and what ran before goes on.
        """
        kinds = servers(names)
        found = self._installer.require(kinds)
        asked = Asked(ports or {}, sizes or {}, frozenset(auth))
        async with self._folders.in_turn(self._clock, say):
            return await self._up(kinds, found, asked, tell)

    async def _up(
        self,
        kinds: Mapping[str, Server],
        found: Mapping[str, Installed],
        asked: Asked,
        tell: Progress,
    ) -> dict[str, Running]:
        arranged = arrange(kinds, found, self._folders, asked, self._clock)
        await Starter(self._folders, self._clock, tell).start(arranged)
        return {one.kind.name: self._running(one.kind, one.setup) for one in arranged}

    def running(self, names: Iterable[str] = NAMES) -> dict[str, Running]:
        """What runs, answering or not; `NotFound` when one of them does not, or not whole."""
        wanted = servers(names)
        found = self.those_running(wanted)
        if missing := [name for name in wanted if name not in found]:
            raise NotFound(
                f"not running in {self._folders.home}: {', '.join(missing)}: start what is missing"
                f" with `stagedoor servers up {' '.join(missing)}`"
            )
        return found

    def those_running(self, names: Iterable[str] = NAMES) -> dict[str, Running]:
        """Those whose instances all run, answering or not."""
        states, found = self._folders.known(), {}
        for name, kind in servers(names).items():
            state = states.get(name)
            if state and len(self._alive(state)) == len(state.instances):
                installed = self._installer.require({name: kind})[name]
                setup = self._folders.setup(name, state, installed)
                found[name] = self._running(kind, setup)
        return found

    def _running(self, kind: Server, setup: Setup) -> Running:
        state = self._folders.known()[kind.name]
        return Running(
            kind.name,
            setup.installed.version,
            kind.url(setup),
            [self._folders.process(instance) for instance in state.instances],
            kind.environ(setup),
        )

    async def status(self, names: Iterable[str] = NAMES) -> list[Status]:
        """Every instance that was ever started here and has not been removed, asked just now."""
        states = self._folders.known()
        listed: dict[tuple[str, str], Status] = {}
        kinds = [kind for name, kind in servers(names).items() if name in states]
        await together(self._ask(kind, states[kind.name], listed) for kind in kinds)
        order = [(kind.name, one.name) for kind in kinds for one in states[kind.name].instances]
        return [listed[key] for key in order]

    async def _ask(
        self, kind: Server, state: ServerState, listed: dict[tuple[str, str], Status]
    ) -> None:
        found = self._installer.find({kind.name: kind})[kind.name] or Installed("?", Path())
        setup = self._folders.setup(kind.name, state, found)
        url = without_password(kind.url(setup))
        for instance, kept in zip(setup.instances, state.instances, strict=True):
            shown = self._folders.process(kept)
            status, why = "down", ""
            if shown.pid:
                status = "up"
                try:
                    await kind.probe(setup, instance)
                except (NotReady, OSError) as fault:
                    status, why = "unready", str(fault)
            listed[kind.name, kept.name] = Status(
                kind.name,
                kept.name,
                found.version,
                status,
                kept.ports["main"],
                shown.pid,
                shown.rss,
                kept.ready_s,
                url,
                why,
            )

    async def down(self, names: Iterable[str] = NAMES) -> list[str]:
        """Stops them, the last one first; the names of the instances that ran. They are known by
        their mark: what is remembered of them may be damaged or gone.

        Without names also whatever else was started as a server of this state directory, and what
        an installation that was killed has left.
        """
        wanted = servers(names)
        if not self._folders.exist():
            return []
        with self._folders.only_one():
            stopped: list[str] = []
            for kind in reversed(wanted.values()):
                running = self._folders.running(kind.name)
                await self._end(kind, running.values())
                stopped += running
            if len(wanted) == len(NAMES):
                left = list(processes.marked(self._folders.home))
                await together(processes.end(one, self._clock, 10.0) for one in left)
                await end_left(self._cache, self._clock)
            return stopped

    async def kill(self, name: str) -> list[int]:
        """SIGKILL for a server, or one instance of it such as `kafka-2`; the pids that ran."""
        running = self._alive(self._named(name)[1])
        await asyncio.gather(*(processes.kill(one, self._clock) for one in running.values()))
        return [process.pid for process in running.values()]

    async def restart(self, name: str, tell: Progress = _silent) -> Running:
        """Stops a server, or one instance of it, and starts it on the same ports and data."""
        server, _ = self._named(name)
        kinds = servers([server])
        found = self._installer.require(kinds)
        with self._folders.only_one():
            _, state = self._named(name)
            await self._end(kinds[server], self._alive(state).values())
            return (await self._up(kinds, found, AS_LAST_TIME, tell))[server]

    async def _end(self, kind: Server, running: Iterable[processes.Identity]) -> None:
        await together(processes.end(one, self._clock, kind.stop_s) for one in running)

    def damage(self) -> str:
        """Why what is remembered of the servers cannot be read; empty when it can."""
        try:
            self._folders.state.read()
        except ConfigurationFault as fault:
            return str(fault)
        return ""

    def log_files(self, name: str) -> list[Path]:
        """The log of each instance of a server, or of one instance."""
        server, state = self._named(name)
        return [self._folders.log(server, one.name) for one in state.instances]

    def _named(self, name: str) -> tuple[str, ServerState]:
        """The server that `name` is or belongs to, with the instances that it means."""
        states = self._folders.known()
        if name in states:
            return name, states[name]
        for server, state in states.items():
            for one in state.instances:
                if one.name == name:
                    return server, ServerState([one], state.auth)
        server = name.rpartition("-")[0] or name
        servers([server])
        if server in states:
            there = ", ".join(one.name for one in states[server].instances)
            raise NotFound(f"there is no {name} in {self._folders.home}, but {there}")
        raise NotFound(
            f"{server} was never started in {self._folders.home}: start it with `stagedoor servers"
            f" up {server}`"
        )

    @staticmethod
    def _alive(state: ServerState) -> dict[str, processes.Identity]:
        listed = {one.name: one.process for one in state.instances}
        return {name: one for name, one in listed.items() if processes.is_alive(one)}
