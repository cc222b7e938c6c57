"""What a request's fields say of the way it came: `X-Forwarded-…` (by convention) and `Forwarded`
(RFC 7239). Pure reading and writing; whom to believe is `Peer`'s to decide.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

PREFIX = b"x-forwarded-"
_READ = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port")
LONGEST_CHAIN = 32
"""Hops that are looked at: no honest chain is longer, and looking costs."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = re.compile(rb"(" + _TOKEN + rb")=(?:(" + _TOKEN + rb')|"((?:[^"\\]|\\.)*)")')
_BLANK = re.compile(rb"[ \t]*")
_ESCAPE = re.compile(rb"\\(.)")
_V4_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}")
_V6_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?")


class Told(NamedTuple):
    """The values of the fields as they came; empty where there is none."""

    chain: bytes
    proto: bytes
    host: bytes
    port: bytes
    forwarded: bytes


class Hop(NamedTuple):
    """One element: who asked, and how. `address` is None where that is no address."""

    address: str | None
    proto: bytes = b""
    host: bytes = b""
    port: bytes = b""


def told(fields: Mapping[bytes, bytes]) -> Told | None:
    """What the fields tell, if anything; equal lines are joined already."""
    chain, proto, host, port = (fields.get(name, b"") for name in _READ)
    said = Told(chain, proto, host, port, fields.get(b"forwarded", b""))
    return said if any(said) else None


def hops(said: Told) -> list[Hop]:
    """The hops from the client's on, as far as they are looked at. `X-Forwarded-For` goes first:
    who writes both writes the same into them."""
    chain = _list(said.chain)
    if said.forwarded and not chain:
        return _elements(said.forwarded)[-LONGEST_CHAIN:]
    others = [_list(value) for value in (said.proto, said.host, said.port)]
    if not chain:
        return [Hop(None, *(_aligned(values, 0, 0) for values in others))]
    found = []
    for at, text in enumerate(chain):
        proto, host, port = (_aligned(values, at, len(chain)) for values in others)
        found.append(Hop(address_of(text.decode("latin-1")), proto, host, port))
    return found[-LONGEST_CHAIN:]


@lru_cache(maxsize=4_096)
def address_of(text: str) -> str | None:
    """The address of a node, in its one spelling, without its port; None for what is none."""
    bare = _V4_PORT.fullmatch(text) or _V6_PORT.fullmatch(text)
    try:
        found = str(ipaddress.ip_address(bare[1] if bare else text))
        return plain(found) if ":" in found else found
    except ValueError:
        return None


def plain(address: str) -> str:
    """An IPv6 address that only wraps an IPv4 one, or names an interface of ours, without that."""
    parsed = ipaddress.IPv6Address(address.partition("%")[0])
    return str(parsed.ipv4_mapped or parsed)


def own_lines(address: str, proto: bytes) -> bytes:
    """`lines` for who is connected to us and tells nothing that we believe."""
    if not address:
        return lines([], proto)
    return b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\nx-forwarded-host: " % (
        address.encode(),
        proto,
    )


def lines(chain: Sequence[str], proto: bytes, port: bytes = b"", forwarded: bytes = b"") -> bytes:
    """The lines for the instance, up to the value of x-forwarded-host, which each request adds."""
    said = b""
    if chain:
        said = b"x-forwarded-for: %b\r\n" % ", ".join(chain).encode()
    if forwarded:
        said += b"forwarded: %b\r\n" % forwarded
    said += b"x-forwarded-proto: %b\r\n" % proto
    if port:
        said += b"x-forwarded-port: %b\r\n" % port
    return said + b"x-forwarded-host: "


def element_list(chain: Sequence[str], proto: bytes, host: bytes) -> bytes:
    """The value of `Forwarded`: the first element says how the client asked."""
    nodes = [f'"[{address}]"' if ":" in address else address for address in chain] or ["unknown"]
    asked = b';proto=%b;host="%b"' % (proto, host)
    return b", ".join(
        b"for=%b%b" % (node.encode(), b"" if at else asked) for at, node in enumerate(nodes)
    )


def _list(value: bytes) -> list[bytes]:
    return [part for item in value.split(b",") if (part := item.strip(b" \t"))]


def _aligned(values: list[bytes], at: int, length: int) -> bytes:
    """The value of one hop: a list as long as the chain has one each, else the last one holds."""
    if not values:
        return b""
    return values[at] if len(values) == length else values[-1]


def _elements(value: bytes) -> list[Hop]:
    """The elements of `Forwarded`. What is malformed says nothing of anybody to its left."""
    found: list[Hop] = []
    pairs: dict[bytes, bytes] = {}
    at = 0
    while at < len(value):
        at = _skip(value, at)
        pair = _PAIR.match(value, at)
        if pair is not None:
            pairs[pair[1].lower()] = _ESCAPE.sub(rb"\1", pair[3]) if pair[2] is None else pair[2]
            at = _skip(value, pair.end())
        mark = value[at : at + 1]
        if mark not in (b"", b",", b";"):
            return _after(value, at)
        if mark != b";" and pairs:
            found.append(_hop(pairs))
            pairs = {}
        at += 1
    return [*found, _hop(pairs)] if pairs else found


def _after(value: bytes, at: int) -> list[Hop]:
    """The elements right of a malformed one, which itself is nobody's address."""
    comma = value.find(b",", at)
    return [Hop(None), *(_elements(value[comma + 1 :]) if comma >= 0 else [])]


def _hop(pairs: Mapping[bytes, bytes]) -> Hop:
    node = pairs.get(b"for", b"").decode("latin-1")
    return Hop(address_of(node), pairs.get(b"proto", b""), pairs.get(b"host", b""))


def _skip(value: bytes, at: int) -> int:
    blank = _BLANK.match(value, at)
    return blank.end() if blank else at
