"""A session of the driver as we use it, or the reason why there can be none."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cassandra import ConsistencyLevel, DependencyException
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.policies import ConstantReconnectionPolicy, DCAwareRoundRobinPolicy, TokenAwarePolicy
from cassandra.query import tuple_factory

from chassis.authorities import trusting
from chassis.errors import ConfigurationFault
from chassis.storage.cassandra_url import Address

PROTOCOL = 4
"""Every Cassandra from 3.0 on speaks it; 5 sums each frame in Python and costs a third more."""
CONNECT_S = 5.0
RECONNECT_S = 1.0
HEARTBEAT_S = 5.0
OLDEST = (4, 0)
QUORUM = ConsistencyLevel.LOCAL_QUORUM
SERIAL = ConsistencyLevel.LOCAL_SERIAL


@dataclass(frozen=True, slots=True)
class Connected:
    """The driver's own objects, and the version of the server."""

    cluster: Any
    session: Any
    balancer: Any
    release: tuple[int, ...]


def connect(address: Address) -> Connected:
    """Blocks, for some seconds a host at most. Raises the driver's failures and our own."""
    logger = logging.getLogger("cassandra")
    if not logger.handlers:  # its warnings repeat what our failures say
        logger.addHandler(logging.NullHandler())
    balancer = TokenAwarePolicy(DCAwareRoundRobinPolicy(address.dc))
    cluster = _cluster(address, balancer)
    try:
        session = cluster.connect()
        session._default_timeout = address.timeout_s  # preparing a statement knows no profile
        row = session.execute("SELECT release_version FROM system.local").one()
        return Connected(cluster, session, balancer, _release(str(row[0]), address))
    except BaseException as fault:
        cluster.shutdown()
        if isinstance(fault, NoHostAvailable):
            _check_centre(cluster, address)
        raise


def _cluster(address: Address, balancer: Any) -> Any:
    profile = ExecutionProfile(
        load_balancing_policy=balancer,
        consistency_level=QUORUM,
        serial_consistency_level=SERIAL,
        request_timeout=address.timeout_s,
        row_factory=tuple_factory,
    )
    user = PlainTextAuthProvider(address.user, address.password) if address.user else None
    return Cluster(
        list(address.hosts),
        port=address.hosts[0][1],
        auth_provider=user,
        protocol_version=PROTOCOL,
        connection_class=_reactor(_names(address) if address.tls else {}),
        ssl_context=trusting(address.ca, what="the tables URL") if address.tls else None,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=ConstantReconnectionPolicy(RECONNECT_S, None),
        connect_timeout=CONNECT_S,
        control_connection_timeout=CONNECT_S,
        idle_heartbeat_interval=HEARTBEAT_S,
        idle_heartbeat_timeout=HEARTBEAT_S,
        schema_metadata_enabled=False,
        compression=False,
        monitor_reporting_enabled=False,
        application_name="stagedoor",
    )


def _names(address: Address) -> dict[str, str]:
    """The hosts as the URL has them, by their addresses: the driver itself knows only these."""
    names = {}
    for host, port in address.hosts:
        with suppress(OSError):  # the driver says so, too
            for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                names[str(found[4][0])] = host
    return names


def _reactor(names: Mapping[str, str]) -> Any:
    """libev, or a refusal: the driver falls back silently to loops that are three times slower.

    With TLS a node must prove its name in `names`, or else its address.
    """
    try:
        from cassandra.io.libevreactor import LibevConnection
    except (ImportError, DependencyException) as fault:
        raise ConfigurationFault(
            [
                "cassandra-driver was built without its libev extension: install libev"
                " (libev-dev) and reinstall it, or use a wheel that has cassandra.io.libevwrapper"
            ],
            what="the driver of cassandra://",
        ) from fault

    class Connection(LibevConnection):  # type: ignore[misc]  # the driver has no types
        """Whole batches in one system call; the driver's own size is 4 KiB."""

        in_buffer_size = 1 << 16
        out_buffer_size = 1 << 20

        def _wrap_socket_from_context(self) -> Any:
            name = names.get(self.endpoint.address, self.endpoint.address)
            return self.ssl_context.wrap_socket(self._socket, server_hostname=name)

    return Connection


def _check_centre(cluster: Any, address: Address) -> None:
    """The driver says "no host" as well when all hosts are in other data centres."""
    centres = {host.datacenter for host in cluster.metadata.all_hosts()} - {None}
    if centres and address.dc not in centres:
        raise ConfigurationFault(
            [f"{address}: there is no data centre {address.dc!r}; write ?dc={min(centres)}"],
            what="the tables URL",
        )


def _release(text: str, address: Address) -> tuple[int, ...]:
    release = tuple(int(part) for part in text.split("-")[0].split(".") if part.isdigit())
    if release < OLDEST:
        raise ConfigurationFault(
            [f"{address}: this is Cassandra {text}; version 4.0 or newer is needed"],
            what="the tables URL",
        )
    return release
