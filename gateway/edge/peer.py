"""What is known of the other end of one client connection."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

from chassis.errors import BadRequest, ConfigurationFault
from gateway.edge import forwarded
from gateway.edge.client_certificate import Certificate
from gateway.edge.forwarded import Hop, Told

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

UNIX = "unix"
"""The address of whoever connects through a unix socket, and how one writes it among networks."""

_HOST = re.compile(
    rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9\-._~!$&'()*+,;=%]{1,255})(?::([0-9]{0,5}))?"
)


class Trust:
    """Whom to believe about where a request came from: by address, or the nearest `hops`.

    The nearest hop is whoever is connected to us, so one hop is enough to believe a proxy that
    cannot be gone around, wherever it is.
    """

    __slots__ = ("hops", "is_anybody", "networks", "unix")

    def __init__(self, networks: Sequence[Network] = (), *, unix: bool = False, hops: int = 0):
        self.networks = tuple(networks)
        self.unix = unix
        self.hops = hops
        self.is_anybody = bool(self.networks or unix or hops)

    def __repr__(self) -> str:
        listed = [*map(str, self.networks), *([UNIX] if self.unix else [])]
        return f"Trust({', '.join(listed)}, hops={self.hops})"

    def covers(self, address: str, depth: int = 0) -> bool:
        """Whether to believe `address`, so many hops away from whoever is connected to us."""
        return self.is_anybody and (depth < self.hops or _lists(self, address))


NOBODY = Trust()


@lru_cache(maxsize=4_096)
def _lists(trust: Trust, address: str) -> bool:
    return trust.unix if address == UNIX else is_inside(address, trust.networks)


def trust_of(listed: Sequence[str], hops: int = 0) -> Trust:
    """Trust in `listed` CIDRs and `unix`; `ConfigurationFault` names every unusable one."""
    cidrs = [text for text in listed if text != UNIX]
    return Trust(networks(cidrs), unix=len(cidrs) < len(listed), hops=hops)


def networks(listed: Sequence[str], what: str = "trusted proxy") -> tuple[Network, ...]:
    """The networks of `listed` CIDRs; every unusable one is named in one `ConfigurationFault`."""
    faults: list[str] = []
    found: list[Network] = []
    for text in listed:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError as fault:
            faults.append(f"{what} {text!r}: {fault}; write a CIDR such as 10.0.0.0/8")
    if faults:
        raise ConfigurationFault(faults, what="the settings")
    return tuple(found)


def is_inside(address: str, listed: Sequence[Network]) -> bool:
    """Whether `address` lies in one of `listed`; what is no address lies nowhere."""
    if not listed:
        return False
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in listed)


@lru_cache(maxsize=1_024)
def bare_host(value: bytes) -> bytes:
    """A Host value without its port, lower-cased; `BadRequest` when it is empty or malformed."""
    match = _HOST.fullmatch(value)
    if match is None or (match[2] and int(match[2]) > 65_535):
        raise BadRequest("the Host field is malformed", code="host")
    return match[1].lower()


class Peer:
    """A client's address, and what of its own words about where it came from we believe.

    Forwarding fields are read only from trusted proxies, from the right, up to the first address
    that is not one of them; what is sent on is rebuilt from what was believed. `certificate` is the
    one that the client has proved to be its own.
    """

    __slots__ = ("_trust", "address", "certificate", "is_trusted", "lines", "scheme")

    def __init__(
        self,
        address: str,
        trust: Trust = NOBODY,
        scheme: bytes = b"http",
        certificate: Certificate | None = None,
    ) -> None:
        self.address = address = forwarded.plain(address) if ":" in address else address
        self.scheme = scheme
        self.certificate = certificate
        self._trust = trust
        self.is_trusted = trust.is_anybody and trust.covers(address)
        self.lines = forwarded.own_lines(address if address != UNIX else "", scheme)

    def forwarded(self, told: Told, authority: bytes) -> tuple[str, bytes, bytes]:
        """From what a trusted proxy told: the client's address, the forwarding lines, and the host
        that the client asked for, which goes behind them."""
        hops = forwarded.hops(told)
        asked = hops[-1] if hops else Hop(None)
        believed = [self.address]
        for depth, hop in enumerate(reversed(hops), start=1):
            if hop.address is None:
                break
            believed.insert(0, hop.address)
            asked = hop
            if not self._trust.covers(hop.address, depth):
                break
        scheme = asked.proto.lower()
        scheme = scheme if scheme in (b"http", b"https") else self.scheme
        host = asked.host if _is_host(asked.host) else authority
        port = asked.port if _is_port(asked.port) else b""
        chain = _chain(believed)
        elements = forwarded.element_list(chain, scheme, host) if told.forwarded else b""
        return believed[0], forwarded.lines(chain, scheme, port, elements), host


def _chain(addresses: Sequence[str]) -> list[str]:
    return [address for address in addresses if address != UNIX]


def _is_host(value: bytes) -> bool:
    try:
        return bool(value and bare_host(value))
    except BadRequest:
        return False


def _is_port(value: bytes) -> bool:
    return value.isdigit() and len(value) <= 5 and 0 < int(value) <= 65_535
