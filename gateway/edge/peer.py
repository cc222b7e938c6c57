"""What is known of the other end of one client connection."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

from chassis.errors import BadRequest, ConfigurationFault

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST = re.compile(
    rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9\-._~!$&'()*+,;=%]{1,255})(?::([0-9]{0,5}))?"
)


def networks(listed: Sequence[str]) -> tuple[Network, ...]:
    """The networks of `listed` CIDRs; every unusable one is named in one `ConfigurationFault`."""
    faults: list[str] = []
    found: list[Network] = []
    for text in listed:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError as fault:
            faults.append(f"trusted proxy {text!r}: {fault}")
    if faults:
        raise ConfigurationFault(faults, what="the trusted proxies")
    return tuple(found)


def is_inside(address: str, trusted: Sequence[Network]) -> bool:
    """Whether `address` lies in one of `trusted`; what is no address lies nowhere."""
    if not trusted:
        return False
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in trusted)


@lru_cache(maxsize=1_024)
def bare_host(value: bytes) -> bytes:
    """A Host value without its port, lower-cased; `BadRequest` when it is empty or malformed."""
    match = _HOST.fullmatch(value)
    if match is None or (match[2] and int(match[2]) > 65_535):
        raise BadRequest("the Host field is malformed", code="host")
    return match[1].lower()


class Peer:
    """A client's address, and what of its own words about where it came from we believe.

    `X-Forwarded-For` is read only from trusted proxies, from the right, up to the first address
    that is not one of them; the chain sent on is rebuilt from what was believed.
    """

    __slots__ = ("_trusted", "address", "is_trusted", "lines", "scheme")

    def __init__(
        self, address: str, trusted: Sequence[Network] = (), scheme: bytes = b"http"
    ) -> None:
        self.address = address
        self.scheme = scheme
        self._trusted = trusted
        self.is_trusted = is_inside(address, trusted)
        self.lines = _lines(address.encode(), scheme)

    def forwarded(self, chain: bytes, proto: bytes) -> tuple[str, bytes]:
        """The client's address and the forwarding lines, from what a trusted proxy told."""
        hops = [hop.strip() for hop in chain.decode("latin-1").split(",") if hop.strip()]
        believed = [self.address]
        for hop in reversed(hops):
            if not _is_address(hop):
                break
            believed.insert(0, hop)
            if not is_inside(hop, self._trusted):
                break
        scheme = proto.lower() if proto.lower() in (b"http", b"https") else self.scheme
        return believed[0], _lines(", ".join(believed).encode(), scheme)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _lines(chain: bytes, scheme: bytes) -> bytes:
    """The forwarding lines up to the value of x-forwarded-host, which each request adds."""
    return b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\nx-forwarded-host: " % (chain, scheme)
