"""Discovery: the registry port and its adapters, live directories, and the balancer.

`open(url)` picks the adapter by scheme. `consul://host:port` (or `consuls://` for TLS) speaks the
Consul HTTP API through py-consul, to a real Consul or to `embedded.RegistryServer` alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chassis.clock import SYSTEM, Clock
from chassis.discovery.registry import Instance, KeyValue, Registration, Registry, Session
from chassis.errors import ConfigurationFault

if TYPE_CHECKING:
    from chassis.discovery.consul_shell import Client

__all__ = ["Instance", "KeyValue", "Registration", "Registry", "Session", "open"]

_SCHEMES = {"consul": "http", "consuls": "https"}


def open(  # noqa: A001  # every port's package has one `open(url)`
    url: str,
    *,
    client: Client,
    clock: Clock = SYSTEM,
    token: str | None = None,
) -> Registry:
    """The registry at `url`; connects on first use, through `client`, which is closed with it."""
    scheme, host, port = _address(url)
    from chassis.discovery.consul import ConsulRegistry

    return ConsulRegistry(scheme, host, port, client=client, clock=clock, token=token)


def _address(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        scheme, host, port = _SCHEMES[parts.scheme], parts.hostname, parts.port
    except (KeyError, ValueError):
        host = None
    if host is None:
        raise ConfigurationFault(
            [f"{url!r}: write consul://host:port, for example consul://127.0.0.1:8500"],
            what="the registry's address",
        )
    return scheme, host, port or 8500
