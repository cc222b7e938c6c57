"""The launcher's part of a state directory: `servers/<name>/<instance>`, secrets and logs."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import msgspec

from chassis.clock import Clock
from chassis.disk.files import replace_file
from chassis.errors import ConfigurationFault
from deploy.servers import processes
from deploy.servers.installed import Installed
from deploy.servers.placement import instances_of
from deploy.servers.processes import Identity
from deploy.servers.running import Process
from deploy.servers.server import Instance, Setup
from deploy.servers.state import Busy, InstanceState, ServerState, StateFile

PATIENCE_S = 180.0
"""Longer than any server takes to start."""
_LOOK_AGAIN_S = 0.1


class Folders:
    """Everything of the servers below `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.root = home / "servers"
        self.state = StateFile(self.root)

    def exist(self) -> bool:
        return self.root.is_dir()

    @contextmanager
    def only_one(self) -> Iterator[None]:
        """Makes the folder and keeps other commands out while they would be in the way."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise unusable(self.home, fault) from None
        with self.state.only_one():
            yield

    @asynccontextmanager
    async def in_turn(self, clock: Clock, say: Callable[[str], None]) -> AsyncIterator[None]:
        """`only_one`, after whoever is at work now; `Busy` when that takes too long."""
        give_up, told = clock.monotonic() + PATIENCE_S, False
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(self.only_one())
                    break
                except Busy:
                    if clock.monotonic() > give_up:
                        raise
                if not told:
                    say(f"{self.root}: another command is starting or stopping servers: waiting")
                    told = True
                await clock.sleep(_LOOK_AGAIN_S)
            yield

    def known(self) -> dict[str, ServerState]:
        """What is remembered of each server, and the processes that a launcher started and did not
        live to remember."""
        states = self.state.read()
        if all(
            processes.is_alive(one.process) for state in states.values() for one in state.instances
        ):
            return states
        running = processes.instances(self.home)
        return {name: state.joined_by(running) for name, state in states.items()}

    def running(self, server: str) -> dict[str, Identity]:
        """Its instances that run: those that carry their mark, and those that are remembered, where
        that can be read."""
        found = processes.instances(self.home)
        with suppress(ConfigurationFault):
            remembered = self.state.read().get(server, ServerState([])).instances
            found |= {
                one.name: one.process for one in remembered if processes.is_alive(one.process)
            }
        ours = sorted(name for name in found if (name.rpartition("-")[0] or name) == server)
        return {name: found[name] for name in ours}

    def make(self, server: str, instance: Instance) -> None:
        """The instance's folder; what was temporary to a process that ended is gone."""
        (self.root / server).mkdir(exist_ok=True, mode=0o700)
        instance.folder.mkdir(exist_ok=True)
        shutil.rmtree(instance.temporary, ignore_errors=True)
        instance.temporary.mkdir()

    def log(self, server: str, instance: str) -> Path:
        return self.root / server / instance / "log"

    def secrets(self, server: str) -> dict[str, str]:
        try:
            return msgspec.json.decode(self._secrets(server).read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as fault:
            raise ConfigurationFault(
                [
                    f"{self._secrets(server)}: {fault}: bring it back, or remove"
                    f" {self.root / server}, and the server starts anew with neither data nor keys"
                ],
                what=f"the secrets of {server}",
            ) from None

    def keep_secrets(self, server: str, secrets: dict[str, str]) -> None:
        (self.root / server).mkdir(exist_ok=True, mode=0o700)
        replace_file(self._secrets(server), msgspec.json.encode(secrets), mode=0o600)

    def setup(self, server: str, state: ServerState, installed: Installed) -> Setup:
        instances = instances_of(state, self.root / server)
        return Setup(installed, self.home, instances, self.secrets(server))

    def process(self, one: InstanceState) -> Process:
        """The instance as it is now; pid 0 when it does not run."""
        pid = one.process.pid if processes.is_alive(one.process) else 0
        memory = processes.rss(one.process)
        return Process(one.name, one.address, one.ports["main"], pid, memory, one.ready_s)

    def _secrets(self, server: str) -> Path:
        return self.root / server / "secrets.json"


def unusable(home: Path, fault: OSError) -> ConfigurationFault:
    message = (
        f"{fault.filename or home}: {fault.strerror}: make {home} a directory that can be written,"
        " or set STAGEDOOR_HOME to one"
    )
    return ConfigurationFault([message], what="the state directory")
