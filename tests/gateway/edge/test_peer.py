import pytest

from chassis.errors import BadRequest, ConfigurationFault
from gateway.edge.peer import Peer, bare_host, networks


@pytest.mark.parametrize(
    ("value", "host"),
    [
        (b"a.example", b"a.example"),
        (b"A.Example:8080", b"a.example"),
        (b"[::1]:80", b"[::1]"),
        (b"127.0.0.1:", b"127.0.0.1"),
    ],
)
def test_a_host_loses_its_port_and_its_capitals(value: bytes, host: bytes) -> None:
    assert bare_host(value) == host


@pytest.mark.parametrize(
    "value",
    [b"", b":80", b"a b", b"a/b", b"a@b", b"a:99999", b"a:x", b"a,b:1:2", b"[::1", b"a\xff"],
)
def test_a_malformed_host_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest):
        bare_host(value)


def test_an_untrusted_client_tells_nothing_about_where_it_came_from() -> None:
    peer = Peer("192.0.2.1", networks(["10.0.0.0/8"]))
    assert not peer.is_trusted
    assert peer.lines.startswith(b"x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: http\r\n")


def test_a_trusted_chain_is_believed_up_to_the_first_stranger() -> None:
    peer = Peer("10.0.0.1", networks(["10.0.0.0/8"]))
    client, lines = peer.forwarded(b"203.0.113.9, 198.51.100.7, 10.0.0.2", b"HTTPS")
    assert client == "198.51.100.7"
    assert lines.startswith(b"x-forwarded-for: 198.51.100.7, 10.0.0.2, 10.0.0.1\r\n")
    assert b"x-forwarded-proto: https\r\n" in lines


def test_a_chain_with_nonsense_in_it_is_believed_up_to_the_nonsense() -> None:
    peer = Peer("10.0.0.1", networks(["10.0.0.0/8"]))
    client, _ = peer.forwarded(b"203.0.113.9, evil\r\nx: y, 10.0.0.2", b"")
    assert client == "10.0.0.2"


def test_every_unusable_network_is_named_at_once() -> None:
    with pytest.raises(ConfigurationFault) as caught:
        networks(["10.0.0.0/8", "nonsense", "300.0.0.0/8"])
    assert len(caught.value.faults) == 2
