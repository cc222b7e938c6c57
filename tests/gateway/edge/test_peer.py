"""Who is at the other end, and what of its words is believed."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import BadRequest, ConfigurationFault
from gateway.edge.forwarded import LONGEST_CHAIN, Told
from gateway.edge.forwarded import told as read
from gateway.edge.peer import UNIX, Peer, bare_host, networks, trust_of


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


def told(**values: bytes) -> Told:
    """Fields as they came, by the last word of their names."""
    names = {"for_": b"x-forwarded-for", "forwarded": b"forwarded"}
    fields = {names.get(k, b"x-forwarded-" + k.encode()): v for k, v in values.items()}
    found = read(fields)
    assert found is not None
    return found


TENS = trust_of(["10.0.0.0/8", "fd00::/8"])
NEAR = Peer("10.0.0.1", TENS)


def said(lines: bytes) -> dict[bytes, bytes]:
    pairs = [line.partition(b": ") for line in lines.split(b"\r\n")]
    return {name: value for name, _, value in pairs}


def test_an_untrusted_client_tells_nothing_about_where_it_came_from() -> None:
    peer = Peer("192.0.2.1", TENS)
    assert not peer.is_trusted
    assert peer.lines == (
        b"x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: "
    )


def test_a_trusted_chain_is_believed_up_to_the_first_stranger() -> None:
    client, lines, host = NEAR.forwarded(
        told(for_=b"203.0.113.9, 198.51.100.7, 10.0.0.2", proto=b"HTTPS"), b"a.example"
    )
    assert client == "198.51.100.7"
    assert said(lines)[b"x-forwarded-for"] == b"198.51.100.7, 10.0.0.2, 10.0.0.1"
    assert said(lines)[b"x-forwarded-proto"] == b"https"
    assert host == b"a.example"


@pytest.mark.parametrize(
    "nonsense", [b"evil\r\nx: y", b"unknown", b"_hidden", b"1.2.3", b"1.2.3.4:x", b"\xff"]
)
def test_a_chain_with_nonsense_in_it_is_believed_up_to_the_nonsense(nonsense: bytes) -> None:
    client, lines, _ = NEAR.forwarded(told(for_=b"203.0.113.9, " + nonsense + b", 10.0.0.2"), b"a")
    assert client == "10.0.0.2"
    assert said(lines)[b"x-forwarded-for"] == b"10.0.0.2, 10.0.0.1"


def test_a_chain_of_nothing_but_trusted_proxies_is_believed_whole() -> None:
    client, _, _ = NEAR.forwarded(told(for_=b"10.9.9.9,10.0.0.2"), b"a")
    assert client == "10.9.9.9"


@pytest.mark.parametrize(
    ("hops", "client"), [(1, "198.51.100.7"), (2, "203.0.113.9"), (3, "6.6.6.6"), (9, "6.6.6.6")]
)
def test_so_many_hops_are_believed_wherever_they_are(hops: int, client: str) -> None:
    peer = Peer("192.0.2.1", trust_of([], hops))
    chain = told(for_=b"6.6.6.6, 203.0.113.9, 198.51.100.7")
    assert peer.forwarded(chain, b"a")[0] == client


@pytest.mark.parametrize(
    ("written", "address"),
    [
        (b"2001:DB8:0::1", "2001:db8::1"),
        (b"[2001:db8::1]:4711", "2001:db8::1"),
        (b"198.51.100.7:4711", "198.51.100.7"),
        (b"::ffff:198.51.100.7", "198.51.100.7"),
    ],
)
def test_an_address_is_told_in_one_spelling_and_without_its_port(
    written: bytes, address: str
) -> None:
    client, lines, _ = NEAR.forwarded(told(for_=written), b"a")
    assert client == address
    assert said(lines)[b"x-forwarded-for"] == f"{address}, 10.0.0.1".encode()


def test_an_ipv4_client_of_a_dual_stack_socket_is_one_of_ipv4() -> None:
    peer = Peer("::ffff:10.0.0.1", TENS)
    assert (peer.address, peer.is_trusted) == ("10.0.0.1", True)
    assert Peer("fe80::1%eth0", TENS).address == "fe80::1"
    assert Peer("fd00::1", TENS).is_trusted


def test_each_hop_has_its_own_proto_host_and_port_where_all_are_listed() -> None:
    fields = told(
        for_=b"6.6.6.6, 198.51.100.7, 10.0.0.2",
        proto=b"http, https, http",
        host=b"evil.example, a.example:8443, inner",
        port=b"1, 8443, 80",
    )
    _, lines, host = NEAR.forwarded(fields, b"inner")
    assert said(lines)[b"x-forwarded-proto"] == b"https"
    assert said(lines)[b"x-forwarded-port"] == b"8443"
    assert host == b"a.example:8443"


@pytest.mark.parametrize("bad", [b"gopher", b"https\r\nx: y", b"", b"a b", b"0", b"99999", b"1x"])
def test_what_no_proxy_would_say_is_not_passed_on(bad: bytes) -> None:
    _, lines, host = NEAR.forwarded(told(for_=b"6.6.6.6", proto=bad, port=bad), b"a.example")
    assert said(lines)[b"x-forwarded-proto"] == b"http"
    assert b"x-forwarded-port" not in lines
    assert host == b"a.example"
    _, _, host = NEAR.forwarded(told(for_=b"6.6.6.6", host=b"a/b, c d"), b"a.example")
    assert host == b"a.example"


def test_a_scheme_is_believed_without_any_chain() -> None:
    client, lines, _ = NEAR.forwarded(told(proto=b"https"), b"a")
    assert (client, said(lines)[b"x-forwarded-proto"]) == ("10.0.0.1", b"https")
    assert said(lines)[b"x-forwarded-for"] == b"10.0.0.1"


def test_forwarded_is_read_where_there_is_no_other_chain_and_written_anew() -> None:
    fields = told(
        forwarded=b'for=6.6.6.6, For="[2001:db8::1]:4711";proto=https;HOST="a.example:8443";by=_x'
        b" , for=10.0.0.2;proto=http;host=inner"
    )
    client, lines, host = NEAR.forwarded(fields, b"inner")
    assert (client, host) == ("2001:db8::1", b"a.example:8443")
    assert said(lines) == {
        b"x-forwarded-for": b"2001:db8::1, 10.0.0.2, 10.0.0.1",
        b"forwarded": b'for="[2001:db8::1]";proto=https;host="a.example:8443", '
        b"for=10.0.0.2, for=10.0.0.1",
        b"x-forwarded-proto": b"https",
        b"x-forwarded-host": b"",
    }


@pytest.mark.parametrize(
    "value",
    [
        b'for="1.2.3.4, for=198.51.100.7',
        b"for=1.2.3.4; ;;, nonsense, for=198.51.100.7",
        b'for=1.2.3.4 x="y, for=198.51.100.7;',
        b"for=unknown, for=198.51.100.7",
        b", ,for=198.51.100.7,",
        b'for="198.51.100\\.7"',
    ],
)
def test_a_malformed_element_of_forwarded_hides_nobody_right_of_it(value: bytes) -> None:
    assert NEAR.forwarded(told(forwarded=value), b"a")[0] == "198.51.100.7"


@given(st.binary(max_size=120), st.binary(max_size=120), st.binary(max_size=40))
def test_whatever_is_told_one_clean_chain_comes_of_it(
    chain: bytes, forwarded: bytes, other: bytes
) -> None:
    fields = Told(chain, other, other, other, b"for=" + forwarded)
    client, lines, host = Peer("10.0.0.1", trust_of([], 9)).forwarded(fields, b"a.example")
    assert ipaddress.ip_address(client)
    assert re.fullmatch(
        rb"x-forwarded-for: [0-9a-f:., ]+\r\nforwarded: [!-~ ]+\r\nx-forwarded-proto: https?\r\n"
        rb"(x-forwarded-port: [0-9]{1,5}\r\n)?x-forwarded-host: ",
        lines,
    )
    assert re.fullmatch(rb"[!-~]+", host)


def test_only_so_many_hops_are_looked_at() -> None:
    chain = told(for_=b", ".join([b"10.0.0.9"] * 1_000))
    _, lines, _ = NEAR.forwarded(chain, b"a")
    assert lines.count(b"10.0.0.9") == LONGEST_CHAIN


def test_who_comes_through_a_unix_socket_has_no_address_to_tell() -> None:
    peer = Peer(UNIX, trust_of([UNIX]), b"https")
    assert peer.is_trusted and not Peer(UNIX, TENS).is_trusted
    assert peer.lines == b"x-forwarded-proto: https\r\nx-forwarded-host: "
    client, lines, _ = peer.forwarded(told(for_=b"198.51.100.7"), b"a")
    assert (client, said(lines)[b"x-forwarded-for"]) == ("198.51.100.7", b"198.51.100.7")


def test_every_unusable_network_is_named_at_once() -> None:
    with pytest.raises(ConfigurationFault) as caught:
        networks(["10.0.0.0/8", "nonsense", "300.0.0.0/8"])
    assert len(caught.value.faults) == 2
