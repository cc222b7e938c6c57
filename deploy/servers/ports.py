"""Which ports the servers listen on."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from chassis.clock import Clock
from chassis.errors import ConfigurationFault

LOWEST = 15_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TRIES = 200


def parse(pairs: Iterable[str], names: Iterable[str]) -> dict[str, int]:
    """`kafka=19092` -> {"kafka": 19092}; 0 means any free one. All faults at once."""
    known, faults = set(names), list[str]()
    ports: dict[str, int] = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        if name not in known or not (number.isascii() and number.isdigit()):
            faults.append(f"{pair!r}: write NAME=PORT, such as kafka=19092")
        elif int(number) > 65535:
            faults.append(f"{pair!r}: a port is at most 65535")
        elif int(number) and int(number) in ports.values():
            faults.append(f"{pair!r}: another server has that port already")
        else:
            ports[name] = int(number)
    if faults:
        raise ConfigurationFault(faults, what="--port")
    return ports


def is_free(address: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def any_free(addresses: Sequence[str], clock: Clock, taken: set[int]) -> int:
    """A port that is free on every address, and not in `taken`.

    It is below those that the kernel gives to outgoing connections: a client that tries again and
    again to reach a killed server there would in the end connect to itself.
    """
    highest = _ephemeral()
    for _ in range(_TRIES):
        port = LOWEST + int(clock.random() * (highest - LOWEST))
        if port not in taken and all(is_free(address, port) for address in addresses):
            return port
    raise ConfigurationFault(
        [f"no free port from {LOWEST} to {highest - 1}: give them with --port"], what="the ports"
    )


def _ephemeral() -> int:
    try:
        lowest = int(_RANGE.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        lowest = 32_768
    return lowest if lowest > LOWEST + 1000 else 32_768
