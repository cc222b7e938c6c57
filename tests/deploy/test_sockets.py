"""Listening sockets that outlive the processes that serve them."""

from __future__ import annotations

import socket

import pytest

from chassis.errors import ConfigurationFault
from deploy.sockets import HeldSockets, reserve
from tests.support.ports import free_port


def place() -> str:
    return f"127.0.0.1:{free_port()}"


def opened(told: str) -> dict[str, socket.socket]:
    """What a child makes of it: sockets of its own that are the same in the kernel."""
    pairs = [one.rpartition("=") for one in told.split()]
    return {where: socket.socket(fileno=socket.dup(int(number))) for where, _, number in pairs}


def connected(where: str) -> socket.socket:
    host, _, port = where.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=2)


def test_a_successor_finds_who_waits_though_nobody_listened_meanwhile() -> None:
    held, where = HeldSockets(), place()
    with opened(held.of("gateway-1", [where]))[where] as old:
        held.used("gateway-1", 11)
        old.listen()
        waiting = connected(where)
    told = held.of("gateway-1", [where])
    held.used("gateway-1", 12)
    held.gone(11)
    with opened(told)[where] as new, waiting:
        found, _ = new.accept()
        found.close()
    held.gone(12)


def test_what_nobody_serves_any_more_is_closed() -> None:
    held, where = HeldSockets(), place()
    opened(held.of("gateway-1", [where]))[where].close()
    held.used("gateway-1", 11)
    held.gone(11)
    assert repr(held) == "HeldSockets(none)"
    reserve(*_split(where)).close()


def test_bound_it_takes_nothing_before_somebody_listens() -> None:
    held, where = HeldSockets(), place()
    held.of("gateway-1", [where])
    with pytest.raises(ConnectionRefusedError):
        connected(where)
    held.gone(0)


def test_instances_share_a_port_and_keep_only_their_own() -> None:
    held, where = HeldSockets(), place()
    first = int(held.of("gateway-1", [where]).rpartition("=")[2])
    second = int(held.of("gateway-2", [where]).rpartition("=")[2])
    assert first != second
    held.keep_only("gateway-2")
    with pytest.raises(OSError):
        socket.dup(first)
    socket.socket(fileno=socket.dup(second)).close()
    held.gone(0)


def test_what_cannot_be_bound_is_left_to_the_process() -> None:
    """Which says why."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        held = HeldSockets()
        assert held.of("gateway-1", [where]) == ""
        held.gone(0)
        taken.listen()
        with pytest.raises(ConfigurationFault, match="choose another port"):
            reserve(*_split(where))


def _split(where: str) -> tuple[str, int]:
    host, _, port = where.rpartition(":")
    return host, int(port)
