"""Kafka in KRaft mode: one broker or three, each also a controller."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from urllib.parse import quote

from chassis.clock import Clock
from deploy.servers import java, kafka_wire, tools
from deploy.servers.installed import Installed
from deploy.servers.maven import MavenJars
from deploy.servers.server import Command, Instance, Server, Setup, password
from deploy.servers.templates import DATA, extra, fill, write

JAVA = range(17, 100)
USER = "stagedoor"


class Kafka(Server):
    name = "kafka"
    installation = MavenJars("kafka", "4.1.1", DATA / "kafka", JAVA)
    ports = ("main", "controller")
    memory = 400 << 20
    most_instances = 3
    takes_password = True
    ready_s = 60.0

    def fresh_secrets(self, clock: Clock, *, auth: bool) -> dict[str, str]:
        cluster = base64.urlsafe_b64encode(b"S" + clock.entropy(15)).decode()
        return {"cluster": cluster, **({"password": password(clock)} if auth else {})}

    async def prepare(self, setup: Setup, instance: Instance, clock: Clock) -> None:
        write(instance.folder / "server.properties", properties(setup, instance))
        write(instance.folder / "log4j2.properties", fill("kafka/log4j2.properties"))
        formatted = instance.folder / "formatted"
        if not formatted.exists():
            shutil.rmtree(instance.folder / "data", ignore_errors=True)
            tool = await self._java(setup, instance, "kafka.tools.StorageTool")
            tool += ["format", "-t", setup.secrets["cluster"], "-c", "server.properties"]
            await tools.run(tool, _quiet, what="formatting Kafka's data", cwd=instance.folder)
            write(formatted, "")

    async def command(self, setup: Setup, instance: Instance) -> Command:
        own = java.own_options(setup, instance)
        return Command(
            (*await self._java(setup, instance, *own, "kafka.Kafka"), "server.properties")
        )

    async def archive(self, installed: Installed) -> Path | None:
        return java.archive(await java.find(self.name, JAVA), installed)

    async def _java(self, setup: Setup, instance: Instance, *main: str) -> list[str]:
        found = await java.find(self.name, JAVA)
        return [
            found.path,
            *("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC"),
            *java.options(found, setup, instance),
            "-Dlog4j2.configurationFile=log4j2.properties",
            *("-cp", f"{setup.installed.path}/*", *main),
        ]

    async def probe(self, setup: Setup, instance: Instance) -> None:
        secret = setup.secrets.get("password", "")
        await kafka_wire.check(instance, len(setup.instances), secret)

    def url(self, setup: Setup) -> str:
        brokers = ",".join(one.authority for one in setup.instances)
        secret = setup.secrets.get("password")
        return f"kafka://{USER}:{quote(secret)}@{brokers}" if secret else f"kafka://{brokers}"


def properties(setup: Setup, instance: Instance) -> str:
    """The text of server.properties; what is in `extra.properties` overrides it."""
    brokers = len(setup.instances)
    secret = setup.secrets.get("password")
    places = {
        "address": instance.address,
        "port": instance.port,
        "controller": instance.ports["controller"],
    }
    text = fill(
        "kafka/server.properties",
        number=instance.number,
        voters=",".join(_voter(one) for one in setup.instances),
        protocol="SASL_PLAINTEXT" if secret else "PLAINTEXT",
        brokers=brokers,
        in_sync=min(2, brokers),
        **places,
    )
    if secret:
        text += fill("kafka/sasl.properties", password=secret)
    return text + extra(instance.folder / "extra.properties", **places)


def _voter(one: Instance) -> str:
    return f"{one.number}@{one.address}:{one.ports['controller']}"


def _quiet(line: str) -> None:
    pass
