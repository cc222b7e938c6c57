"""What every server is to the launcher: how it is installed, configured, started and asked.

A server runs as one instance or several (three Kafka brokers); a `Setup` is one such arrangement
in one state directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chassis.clock import Clock
from chassis.errors import StagedoorError
from deploy.servers.installed import Installation, Installed


class NotReady(StagedoorError):
    """It does not answer as it should yet; says what it answered."""

    code = "not_ready"


@dataclass(frozen=True, slots=True)
class Instance:
    """One process: its address, the ports it listens on by their use, and where its data is."""

    name: str
    number: int
    address: str
    ports: Mapping[str, int]
    folder: Path

    @property
    def port(self) -> int:
        """The port that clients use."""
        return self.ports["main"]

    @property
    def temporary(self) -> Path:
        """For files that mean nothing to the next process; empty when one starts."""
        return self.folder / "tmp"

    @property
    def authority(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Setup:
    """One server as it runs in `home`. `secrets` never leave it but through `environ` and `url`. In
    a rehearsal `writes` is where it leaves the classes that it has used."""

    installed: Installed
    home: Path
    instances: tuple[Instance, ...]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    writes: Path | None = None

    @property
    def first(self) -> Instance:
        return self.instances[0]


@dataclass(frozen=True, slots=True)
class Command:
    arguments: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)


class Server:
    """One kind of server; the defaults suit the small ones."""

    name: str
    installation: Installation
    ports: tuple[str, ...] = ("main",)
    """The uses of its ports; `main` is the one for clients."""
    memory: int = 100 << 20
    """Bytes that one instance comes to use."""
    most_instances: int = 1
    own_addresses: bool = False
    """Whether each instance has a loopback address of its own, on equal ports."""
    in_turn: bool = False
    """Whether, the first time, an instance starts only when those before it answer."""
    takes_password: bool = False
    """Whether it can be told to want a password that it does not always want."""
    optional: bool = False
    """Whether `up` without names goes on without it."""
    ready_s: float = 30.0
    stop_s: float = 10.0

    def fresh_secrets(self, clock: Clock, *, auth: bool) -> dict[str, str]:
        """Made once, at the first start; `auth` asks for a password where it is not always so."""
        return {}

    async def prepare(self, setup: Setup, instance: Instance, clock: Clock) -> None:
        """Writes what the instance reads when it starts."""

    async def command(self, setup: Setup, instance: Instance) -> Command:
        raise NotImplementedError

    async def archive(self, installed: Installed) -> Path | None:
        """Where the classes that it starts with belong; None where none are kept."""
        return None

    async def probe(self, setup: Setup, instance: Instance) -> None:
        """Asks what only a server that truly works can answer; `NotReady` or `OSError` if not."""
        raise NotImplementedError

    async def finish(self, setup: Setup) -> None:
        """What has to be done once all instances answer; harmless when repeated."""

    def url(self, setup: Setup) -> str:
        """As Stagedoor's settings want it; carries a password where there is one."""
        raise NotImplementedError

    def environ(self, setup: Setup) -> dict[str, str]:
        """Credentials that clients read from their environment."""
        return {}


def password(clock: Clock) -> str:
    """144 random bits as hexadecimal digits."""
    return clock.entropy(18).hex()
