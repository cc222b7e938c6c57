"""PROXY headers, read: every valid one, split anywhere, and nothing else."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import BadRequest
from gateway.edge.proxy_protocol import LONGEST_LINE, SIGNATURE, Header, read

PORTS = st.integers(0, 65_535)
V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6)


def line(family: str, source: object, target: object, port: int, target_port: int) -> bytes:
    return f"PROXY {family} {source} {target} {port} {target_port}\r\n".encode()


def binary(command: int, family: int, addresses: bytes, more: bytes = b"") -> bytes:
    size = len(addresses + more).to_bytes(2)
    return SIGNATURE + bytes([command, family]) + size + addresses + more


def packed(source: ipaddress._BaseAddress, target: ipaddress._BaseAddress) -> bytes:
    both: bytes = source.packed + target.packed  # type: ignore[attr-defined]
    return both + (1234).to_bytes(2) + (443).to_bytes(2)


HEADERS = st.one_of(
    st.builds(lambda s, t, p, q: (line("TCP4", s, t, p, q), str(s)), V4, V4, PORTS, PORTS),
    st.builds(lambda s, t, p, q: (line("TCP6", s, t, p, q), str(s)), V6, V6, PORTS, PORTS),
    st.text("abc :", max_size=80).map(lambda t: (f"PROXY UNKNOWN {t}\r\n".encode(), None)),
    st.just((b"PROXY UNKNOWN\r\n", None)),
    st.builds(
        lambda s, t, more: (binary(0x21, 0x11, packed(s, t), more), str(s)),
        V4,
        V4,
        st.binary(max_size=300),
    ),
    st.builds(
        lambda s, t, more: (binary(0x21, 0x21, packed(s, t), more), str(s)),
        V6,
        V6,
        st.binary(max_size=300),
    ),
    st.binary(min_size=216, max_size=300).map(lambda rest: (binary(0x21, 0x31, rest), None)),
    st.builds(
        lambda family, rest: (binary(0x20, family, rest), None),
        st.integers(0, 255),
        st.binary(max_size=100),
    ),
    st.binary(max_size=100).map(lambda rest: (binary(0x21, 0x00, rest), None)),
)


@given(HEADERS, st.binary(max_size=40))
def test_a_header_is_read_whole_and_nothing_behind_it(
    written: tuple[bytes, str | None], behind: bytes
) -> None:
    header, source = written
    assert read(header + behind) == Header(len(header), source)


@given(HEADERS)
def test_every_part_of_a_header_asks_for_more(written: tuple[bytes, str | None]) -> None:
    header = written[0]
    assert [size for size in range(len(header)) if read(header[:size]) is not None] == []


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_name_an_address_ask_for_more_or_be_refused(data: bytes) -> None:
    for tried in (data, b"PROXY " + data, SIGNATURE + data, b"PROXY TCP4 " + data):
        try:
            found = read(tried)
        except BadRequest as refused:
            assert refused.code == "proxy_protocol"
            continue
        if found is not None:
            assert 0 < found.size <= len(tried)
            assert found.source is None or ipaddress.ip_address(found.source)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXYTCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
        b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        b"PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 ::1 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
        b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY UNKNOWN \r x\r\n",
        b"PROXY UNKNOWN " + b"x" * LONGEST_LINE,
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x12\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
        SIGNATURE + b"\x21\x21\x00\x23" + bytes(35),
        SIGNATURE + b"\x21\x31\x00\xd7" + bytes(215),
        SIGNATURE + b"\x21\x41\x00\xff",
        b"\r\n\r\n\x00\r\nQUIX",
    ],
)
def test_what_is_malformed_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest):
        read(data)


def test_the_longest_line_there_can_be_is_read() -> None:
    long = "ffff:" * 7 + "ffff"
    header = f"PROXY UNKNOWN {long} {long} 65535 65535\r\n".encode()
    assert len(header) == LONGEST_LINE
    assert read(header) == Header(LONGEST_LINE, None)


def test_an_address_is_written_in_one_way_only() -> None:
    found = read(line("TCP6", "2001:DB8:0:0::1", "::1", 1, 2))
    assert found is not None and found.source == "2001:db8::1"
    mapped = socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.1")
    found = read(binary(0x21, 0x21, mapped * 2 + bytes(4)))
    assert found is not None and found.source is not None
    assert ipaddress.IPv6Address(found.source).ipv4_mapped is not None
