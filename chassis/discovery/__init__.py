"""Discovery: the registry port and its adapters, live directories, and the balancer.

`open(url)` picks the adapter by scheme (`address.py` has all of a URL). `consul://host:port` (or
`consuls://` for TLS) speaks the Consul HTTP API through py-consul, to a real Consul or to
`embedded.RegistryServer` alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chassis.clock import SYSTEM, Clock
from chassis.discovery.address import address_of
from chassis.discovery.registry import Instance, KeyValue, Registration, Registry, Session

if TYPE_CHECKING:
    from chassis.discovery.consul_shell import Client

__all__ = ["Instance", "KeyValue", "Registration", "Registry", "Session", "open"]


def open(  # noqa: A001  # every port's package has one `open(url)`
    url: str,
    *,
    client: Client,
    clock: Clock = SYSTEM,
    token: str | None = None,
) -> Registry:
    """The registry at `url`; connects on first use, through `client`, which is closed with it."""
    address = address_of(url)
    from chassis.discovery.consul import ConsulRegistry

    return ConsulRegistry(address, client=client, clock=clock, token=token)
