"""Prometheus, scraping the processes of the system that runs in the same state directory."""

from __future__ import annotations

from chassis.clock import Clock
from deploy.servers.debian import DebianPackage
from deploy.servers.http import ask
from deploy.servers.server import Command, Instance, NotReady, Server, Setup
from deploy.servers.templates import fill, write


class Prometheus(Server):
    name = "prometheus"
    installation = DebianPackage("prometheus", "prometheus", "prometheus")
    memory = 80 << 20
    optional = True

    async def prepare(self, setup: Setup, instance: Instance, clock: Clock) -> None:
        text = fill("prometheus/prometheus.yml", targets=setup.home / "prometheus")
        write(instance.folder / "prometheus.yml", text)

    async def command(self, setup: Setup, instance: Instance) -> Command:
        return Command(
            (
                *(str(setup.installed.path), "--config.file=prometheus.yml"),
                *("--storage.tsdb.path=data", f"--web.listen-address={instance.authority}"),
                *("--storage.tsdb.retention.size=1GB", "--log.level=warn"),
            )
        )

    async def probe(self, setup: Setup, instance: Instance) -> None:
        answer = await ask(f"http://{instance.authority}/-/ready")
        if answer.status_code != 200:
            raise NotReady(f"/-/ready answers {answer.status_code}")

    def url(self, setup: Setup) -> str:
        return f"http://{setup.first.authority}"
