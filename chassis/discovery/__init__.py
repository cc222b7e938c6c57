"""Discovery: the registry port and its adapters, live directories, and the balancer.

`open(url)` picks the adapter by scheme. `consul://host:port` (or `consuls://` for TLS) speaks the
Consul HTTP API through py-consul, to a real Consul or to `embedded.RegistryServer` alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chassis.clock import SYSTEM, Clock
from chassis.discovery.registry import Instance, KeyValue, Registration, Registry
from chassis.errors import ConfigurationFault

if TYPE_CHECKING:
    import httpx

__all__ = ["Instance", "KeyValue", "Registration", "Registry", "open"]

_SCHEMES = {"consul": "http", "consuls": "https"}


def open(  # noqa: A001  # every port's package has one `open(url)`
    url: str,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Clock = SYSTEM,
    token: str | None = None,
) -> Registry:
    """The registry at `url`; connects on first use. `transport` replaces httpx's own."""
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise ConfigurationFault(
            [f"{url!r}: write consul://host:port, for example consul://127.0.0.1:8500"],
            what="the registry's address",
        )
    from chassis.discovery.consul import ConsulRegistry

    return ConsulRegistry(
        scheme, parts.hostname, parts.port or 8500, transport=transport, clock=clock, token=token
    )
