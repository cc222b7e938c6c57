"""The PROXY protocol, versions 1 and 2: the header in which a balancer says who connected to it.

Pure: what came so far in, the header or "more" out. Nothing of it is taken on trust here; whoever
calls knows which balancers may send one.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from chassis.errors import BadRequest

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LONGEST_LINE = 107
"""Of a version 1 header, with its end."""
LONGEST = 16 + 0xFFFF
"""Of any header."""

_FIXED = 16
_WORD = b"PROXY "
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")
_PORT = rb"(?:0|[1-9][0-9]{0,4})"
_KNOWN = re.compile(
    rb"PROXY (TCP[46]) ([0-9A-Fa-f:.]{2,39}) ([0-9A-Fa-f:.]{2,39}) ("
    + _PORT
    + rb") ("
    + _PORT
    + rb")\r\n"
)
_LOCAL, _PROXY = 0x20, 0x21
_UNSPEC, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_SIZES = {_UNSPEC: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}


class Header(NamedTuple):
    """A whole header of `size` bytes. `source` is the address that connected to the balancer; None
    where the connection is the balancer's own, or it does not say: then its own address stands."""

    size: int
    source: str | None


def read(data: bytes) -> Header | None:
    """The header that `data` begins with; None when all of `data` belongs to it and more has to
    come. `BadRequest` as soon as it can be none."""
    if data[:12] == SIGNATURE[: len(data)]:
        return _binary(data) if len(data) >= _FIXED else None
    if data[:6] == _WORD[: len(data)]:
        return _line(data)
    raise _bad("a PROXY protocol header was expected")


def _line(data: bytes) -> Header | None:
    """Version 1, one line of text."""
    end = data.find(b"\n", 0, LONGEST_LINE) + 1
    if not end:
        if len(data) >= LONGEST_LINE:
            raise _bad("the PROXY line does not end")
        return None
    line = data[:end]
    if _UNKNOWN.fullmatch(line):
        return Header(end, None)
    known = _KNOWN.fullmatch(line)
    if known is None or max(int(known[4]), int(known[5])) > 0xFFFF:
        raise _bad("the PROXY line is malformed")
    family = ipaddress.IPv4Address if known[1] == b"TCP4" else ipaddress.IPv6Address
    try:
        family(known[3].decode())
        return Header(end, str(family(known[2].decode())))
    except ValueError:
        raise _bad("the PROXY line names no address") from None


def _binary(data: bytes) -> Header | None:
    """Version 2. What follows the addresses (TLVs) is part of the header and skipped."""
    command, family = data[12], data[13]
    length = int.from_bytes(data[14:16])
    if command not in (_LOCAL, _PROXY):
        raise _bad("the PROXY header's version or command is not known")
    if command == _PROXY and length < _SIZES.get(family, LONGEST):
        raise _bad("the PROXY header's family is not known, or its addresses are cut short")
    if len(data) < _FIXED + length:
        return None
    return Header(_FIXED + length, _source(family, data) if command == _PROXY else None)


def _source(family: int, data: bytes) -> str | None:
    if family == _TCP4:
        return str(ipaddress.IPv4Address(data[16:20]))
    if family == _TCP6:
        return str(ipaddress.IPv6Address(data[16:32]))
    return None


def _bad(why: str) -> BadRequest:
    return BadRequest(why, code="proxy_protocol")
