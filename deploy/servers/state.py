"""What the launcher remembers of a state directory: ports stay the same from start to start."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from chassis.disk.files import replace_file
from chassis.errors import ConfigurationFault
from deploy.servers.processes import NOBODY, Identity, is_alive


class InstanceState(msgspec.Struct, frozen=True):
    """One process, or where it ran last. `ready_s` is how long it took to answer, 0.0 unknown."""

    name: str
    address: str
    ports: dict[str, int]
    process: Identity = NOBODY
    ready_s: float = 0.0


class ServerState(msgspec.Struct, frozen=True):
    """One server; `auth` says whether it wants a password."""

    instances: list[InstanceState]
    auth: bool = False

    def with_instance(self, changed: InstanceState) -> ServerState:
        listed = [changed if one.name == changed.name else one for one in self.instances]
        return msgspec.structs.replace(self, instances=listed)

    def joined_by(self, running: Mapping[str, Identity]) -> ServerState:
        """Instances that do not run as far as is known here are those of `running`."""
        listed = [
            one if is_alive(one.process) or one.name not in running else _found(one, running)
            for one in self.instances
        ]
        return msgspec.structs.replace(self, instances=listed)


def _found(one: InstanceState, running: Mapping[str, Identity]) -> InstanceState:
    return msgspec.structs.replace(one, process=running[one.name])


class Busy(ConfigurationFault):
    """Another command starts or stops servers of this state directory."""


class StateFile:
    """`servers/state.json` of one state directory; every change replaces it whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "state.json"

    def read(self) -> dict[str, ServerState]:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=dict[str, ServerState])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as fault:
            todo = "stop its servers with `stagedoor servers down` and remove it"
            raise ConfigurationFault(
                [f"{self._file}: {fault}: {todo}"], what="the servers' state"
            ) from None

    def write(self, name: str, state: ServerState) -> None:
        content = msgspec.json.format(msgspec.json.encode({**self.read(), name: state}))
        replace_file(self._file, content)

    @contextmanager
    def only_one(self) -> Iterator[None]:
        """Only one command at a time starts or stops servers of a state directory."""
        try:
            lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as fault:
            raise ConfigurationFault(
                [f"{fault.filename}: {fault.strerror}: make it a file that can be written"],
                what="the servers",
            ) from None
        try:
            self._take(lock)
            yield
        finally:
            os.close(lock)

    def _take(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(
                [f"{self._folder}: another command is starting or stopping them: wait for it"],
                what="the servers",
            ) from None
