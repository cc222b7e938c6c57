"""Where the registry is, as a URL says it.

    consul://host:port[?prefix=NAME]        (consuls:// speaks TLS)

`prefix` keeps systems that share one Consul apart: `NAME.` stands there before the name of every
service, instance, key and session. A system sees nothing of one with another prefix.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl

from msgspec import Struct

from chassis.errors import ConfigurationFault
from chassis.urls import parts_of

_SCHEMES = {"consul": "http", "consuls": "https"}
_PREFIX = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,63})?")
_DEFAULT_PORT = 8500
_WHAT = "the registry's address"
_WRITE = "write consul://host:port, for example consul://127.0.0.1:8500"


class Address(Struct, frozen=True):
    """`scheme` is http or https; `prefix` ends with its dot, or is empty."""

    scheme: str
    host: str
    port: int
    prefix: str = ""


def address_of(url: str) -> Address:
    """What `url` says; `ConfigurationFault` shows how to write one, and nothing of a password."""
    parts = parts_of(url, _WRITE, what=_WHAT)
    scheme, (host, port) = _SCHEMES.get(parts.scheme), _place(parts)
    if "@" in parts.netloc:
        advice = "no user and no password: a token goes into CONSUL_HTTP_TOKEN"
        raise ConfigurationFault([advice, _WRITE], what=_WHAT)
    if scheme is None or host is None or parts.path.strip("/") or parts.fragment:
        raise ConfigurationFault([f"{url!r}: {_WRITE}"], what=_WHAT)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    return Address(scheme, host, port or _DEFAULT_PORT, _prefix(options))


def _place(parts: SplitResult) -> tuple[str | None, int | None]:
    try:
        return parts.hostname, parts.port
    except ValueError:
        return None, None


def _prefix(options: dict[str, str]) -> str:
    name = options.pop("prefix", "")
    faults = [f"there is no option {one!r}, only prefix=NAME" for one in options]
    if not _PREFIX.fullmatch(name):
        faults.append(f"prefix={name!r}: up to 64 letters, digits, - and _, no dot behind them")
    if faults:
        raise ConfigurationFault(faults, what=_WHAT)
    return f"{name}." if name else ""
