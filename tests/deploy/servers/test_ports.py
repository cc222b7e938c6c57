"""Ports: as given, and free ones that no outgoing connection can take."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from chassis.clock import SYSTEM, ManualClock
from chassis.errors import ConfigurationFault
from deploy.servers import ports


def test_ports_are_read_by_name() -> None:
    assert ports.parse(["kafka=19092", "s3=0"], ["kafka", "s3"]) == {"kafka": 19092, "s3": 0}


def test_every_bad_port_is_said_at_once() -> None:
    with pytest.raises(ConfigurationFault) as refused:
        ports.parse(["kafka", "nope=1", "kafka=-1", "kafka=65536", "kafka=²"], ["kafka"])
    assert len(refused.value.faults) == 5


def test_two_servers_are_not_given_one_port() -> None:
    with pytest.raises(ConfigurationFault, match="another server has that port"):
        ports.parse(["kafka=20000", "redis=20000"], ["kafka", "redis"])
    assert ports.parse(["kafka=0", "redis=0"], ["kafka", "redis"]) == {"kafka": 0, "redis": 0}


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        assert not ports.is_free("127.0.0.1", port)
    assert ports.is_free("127.0.0.1", port)


def test_a_free_port_is_none_that_the_kernel_gives_to_connections() -> None:
    text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
    lowest = int(text.split()[0])
    for _ in range(50):
        assert ports.any_free(["127.0.0.1"], SYSTEM, set()) < lowest


def test_a_promised_port_is_not_given_again() -> None:
    first = ports.any_free(["127.0.0.1"], ManualClock(seed=3), set())
    second = ports.any_free(["127.0.0.1"], ManualClock(seed=3), {first})
    assert second != first


def test_a_port_taken_on_one_of_several_addresses_is_not_chosen() -> None:
    first = ports.any_free(["127.0.0.1", "127.0.0.2"], ManualClock(seed=4), set())
    with socket.create_server(("127.0.0.2", first)):
        second = ports.any_free(["127.0.0.1", "127.0.0.2"], ManualClock(seed=4), set())
    assert second != first
