"""The servers there are, in the order they start; they stop in the opposite one."""

from __future__ import annotations

from collections.abc import Iterable

from chassis.errors import ConfigurationFault
from deploy.servers.cassandra import Cassandra
from deploy.servers.consul import Consul
from deploy.servers.kafka import Kafka
from deploy.servers.prometheus import Prometheus
from deploy.servers.redis import Redis
from deploy.servers.s3 import S3
from deploy.servers.server import Server

NAMES = ("kafka", "cassandra", "consul", "s3", "redis", "prometheus")


def servers(names: Iterable[str] = NAMES) -> dict[str, Server]:
    """Those with these names, in starting order; `ConfigurationFault` names every unknown one."""
    wanted = set(names)
    if unknown := sorted(wanted - set(NAMES)):
        told = [f"there is no server {name!r}; there are {', '.join(NAMES)}" for name in unknown]
        raise ConfigurationFault(told, what="the servers")
    kinds = (Kafka(), Cassandra(), Consul(), S3(), Redis(), Prometheus())
    return {kind.name: kind for kind in kinds if kind.name in wanted}
