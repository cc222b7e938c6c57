"""Redis, every write on disk before it is acknowledged."""

from __future__ import annotations

from urllib.parse import quote

from chassis.clock import Clock
from deploy.servers.debian import DebianPackage
from deploy.servers.server import Command, Instance, NotReady, Server, Setup, password
from deploy.servers.templates import write
from deploy.servers.wire import connected


class Redis(Server):
    name = "redis"
    installation = DebianPackage("redis", "redis-server", "redis-server")
    memory = 30 << 20
    takes_password = True

    def fresh_secrets(self, clock: Clock, *, auth: bool) -> dict[str, str]:
        return {"password": password(clock)} if auth else {}

    async def prepare(self, setup: Setup, instance: Instance, clock: Clock) -> None:
        write(instance.folder / "redis.conf", configuration(setup, instance))

    async def command(self, setup: Setup, instance: Instance) -> Command:
        return Command((str(setup.installed.path), "redis.conf"))

    async def probe(self, setup: Setup, instance: Instance) -> None:
        async with connected(instance) as wire:
            if secret := setup.secrets.get("password"):
                await wire.send(f"AUTH {secret}\r\n".encode())
                await wire.line()
            await wire.send(b"PING\r\n")
            answer = await wire.line()
        if answer != b"+PONG":
            raise NotReady(answer.decode(errors="replace"))

    def url(self, setup: Setup) -> str:
        secret = setup.secrets.get("password")
        return f"redis://{f':{quote(secret)}@' if secret else ''}{setup.first.authority}/0"


def configuration(setup: Setup, instance: Instance) -> str:
    """The text of redis.conf."""
    secret = setup.secrets.get("password")
    return "\n".join(
        [
            f"bind {instance.address}",
            f"port {instance.port}",
            "dir .",
            "daemonize no",
            "set-proc-title no",
            "appendonly yes",
            "appendfsync always",
            'save ""',
            *([f"requirepass {secret}"] if secret else []),
            "",
        ]
    )
