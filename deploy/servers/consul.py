"""Consul: one server with its data on disk."""

from __future__ import annotations

from deploy.apart import apart
from deploy.servers.golang import GoProgram
from deploy.servers.http import ask
from deploy.servers.server import Command, Instance, NotReady, Server, Setup
from deploy.servers.templates import DATA

_LISTENS = ("dns", "server", "serf-lan", "serf-wan", "grpc", "grpc-tls")


class Consul(Server):
    name = "consul"
    installation = GoProgram("consul", "1.19.2", DATA / "consul", "github.com/hashicorp/consul")
    ports = ("main", *_LISTENS)
    memory = 120 << 20

    async def command(self, setup: Setup, instance: Instance) -> Command:
        listens = [f"-{use}-port={instance.ports[use]}" for use in _LISTENS]
        return Command(
            (
                *(str(setup.installed.path), "agent", "-server", "-bootstrap-expect=1"),
                *(f"-data-dir={instance.folder / 'data'}", "-node=stagedoor"),
                *("-bind=127.0.0.1", "-client=127.0.0.1", "-log-level=warn"),
                *("-disable-host-node-id", f"-http-port={instance.port}", *listens),
                "-hcl=performance { raft_multiplier = 1 } disable_update_check = true",
                # All processes come from one address: the default of 200 is soon used by watches.
                "-hcl=limits { http_max_conns_per_client = 2000 }",
            )
        )

    async def probe(self, setup: Setup, instance: Instance) -> None:
        answer = await ask(f"http://{instance.authority}/v1/status/leader")
        if answer.status_code != 200 or answer.text.strip() in ("", '""'):
            raise NotReady("no leader yet")
        # The leader is elected before it serves.
        listed = await ask(f"http://{instance.authority}/v1/catalog/services")
        if listed.status_code != 200:
            raise NotReady(f"the catalogue answers {listed.status_code}")

    def url(self, setup: Setup) -> str:
        return apart(f"consul://{setup.first.authority}", setup.home)
