"""Cassandra: one node, or up to three on loopback addresses of their own."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from chassis.clock import Clock
from deploy.servers import cql, java
from deploy.servers.installed import Installed
from deploy.servers.maven import MavenJars
from deploy.servers.removals import finish_removals
from deploy.servers.server import Command, Instance, NotReady, Server, Setup, password
from deploy.servers.templates import DATA, extra, fill, write

JAVA = range(11, 18)
HEAP = "512m"
USER = "cassandra"
ARCHIVING = ("-XX:+UnlockDiagnosticVMOptions", "-XX:+AllowArchivingWithJavaAgent")
"""Java warns that this is for testing: an agent could change classes. This one only measures."""
RING = 1 << 64
ON_ALL_NODES = (
    "SELECT status FROM system_distributed.view_build_status"
    " WHERE keyspace_name = 'stagedoor' AND view_name = 'none'"
)
"""A read of a keyspace that three nodes replicate from the beginning."""


class Cassandra(Server):
    name = "cassandra"
    installation = MavenJars("cassandra", "5.0.6", DATA / "cassandra", JAVA)
    ports = ("main", "storage", "storage_tls")
    memory = 1000 << 20
    most_instances = 3
    takes_password = True
    own_addresses = True
    in_turn = True
    ready_s = 120.0
    stop_s = 20.0

    def fresh_secrets(self, clock: Clock, *, auth: bool) -> dict[str, str]:
        return {"password": password(clock)} if auth else {}

    async def prepare(self, setup: Setup, instance: Instance, clock: Clock) -> None:
        write(instance.folder / "cassandra.yaml", configuration(setup, instance))
        for name in ("logback.xml", "jvm.options"):
            write(instance.folder / name, (DATA / "cassandra" / name).read_text(encoding="utf-8"))
        finish_removals(instance.folder / "data")

    async def command(self, setup: Setup, instance: Instance) -> Command:
        found = await java.find(self.name, JAVA)
        agent = next(setup.installed.path.glob("jamm-*.jar"))
        return Command(
            (
                found.path,
                *(f"-javaagent:{agent}", "@jvm.options", f"-Xms{HEAP}", f"-Xmx{HEAP}"),
                *java.options(found, setup, instance),
                *(ARCHIVING if found.major >= java.KEEPS_CLASSES else ()),
                *java.own_options(setup, instance),
                f"-Dcassandra.config={(instance.folder / 'cassandra.yaml').as_uri()}",
                f"-Dcassandra.storagedir={instance.folder}",
                "-Dlogback.configurationFile=logback.xml",
                *("-cp", f"{setup.installed.path}/*"),
                "org.apache.cassandra.service.CassandraDaemon",
            )
        )

    async def archive(self, installed: Installed) -> Path | None:
        return java.archive(await java.find(self.name, JAVA), installed)

    async def probe(self, setup: Setup, instance: Instance) -> None:
        """A query; before it the password that everybody knows is replaced by ours."""
        secret = setup.secrets.get("password", "")
        try:
            async with cql.session(instance, USER, secret) as session:
                await session.query("SELECT release_version FROM system.local")
        except NotReady:
            if secret:
                await _set_password(instance, secret)
            raise

    async def finish(self, setup: Setup) -> None:
        """Every node reaches all others, and all have one schema."""
        if len(setup.instances) > 1:
            for instance in setup.instances:
                await self._sees_all(setup, instance)
            if secret := setup.secrets.get("password"):
                await _keep_role_everywhere(setup, secret)

    async def _sees_all(self, setup: Setup, instance: Instance) -> None:
        nodes, secret = len(setup.instances), setup.secrets.get("password", "")
        async with cql.session(instance, USER, secret) as session:
            schemas = await session.query("SELECT schema_version FROM system.local")
            schemas += await session.query("SELECT schema_version FROM system.peers_v2")
            if len(schemas) < nodes:
                raise NotReady(f"{instance.name} knows {len(schemas)} of {nodes} nodes")
            if len({schema for (schema,) in schemas}) > 1:
                raise NotReady(f"{instance.name} sees more than one schema")
            await session.query(ON_ALL_NODES, replicas=nodes)

    def url(self, setup: Setup) -> str:
        nodes = ",".join(one.authority for one in setup.instances)
        secret = setup.secrets.get("password")
        who = f"{USER}:{quote(secret)}@" if secret else ""
        options = f"dc=datacenter1&replication={len(setup.instances)}"
        return f"cassandra://{who}{nodes}/stagedoor?{options}"


async def _keep_role_everywhere(setup: Setup, secret: str) -> None:
    """Nobody gets in while the node with the only copy of the role is down."""
    nodes = len(setup.instances)
    replicas = f"{{'class': 'NetworkTopologyStrategy', 'datacenter1': {nodes}}}"
    async with cql.session(setup.first, USER, secret) as session:
        await session.query(f"ALTER KEYSPACE system_auth WITH replication = {replicas}")
        # What all replicas are asked for, those that lack it are given.
        await session.query(
            f"SELECT can_login, is_superuser, salted_hash FROM system_auth.roles"
            f" WHERE role = '{USER}'",
            replicas=nodes,
        )


async def _set_password(instance: Instance, secret: str) -> None:
    async with cql.session(instance) as session:
        await session.query(f"ALTER ROLE {USER} WITH PASSWORD = '{secret}'")


def configuration(setup: Setup, instance: Instance) -> str:
    """The text of cassandra.yaml; what is in `extra.yaml` is added to it."""
    share = RING // len(setup.instances)
    secured = "password" in setup.secrets
    text = fill(
        "cassandra/cassandra.yaml",
        token=-(RING // 2) + share * (instance.number - 1),
        address=instance.address,
        storage=instance.ports["storage"],
        storage_tls=instance.ports["storage_tls"],
        port=instance.port,
        authenticator="PasswordAuthenticator" if secured else "AllowAllAuthenticator",
        seed=f"{setup.first.address}:{setup.first.ports['storage']}",
    )
    return text + extra(instance.folder / "extra.yaml")
