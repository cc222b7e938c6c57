"""PROXY headers over real sockets: from whom they are taken, and what becomes of anything else."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from gateway.edge.proxy_protocol import SIGNATURE
from tests.support.certificates import Authority
from tests.support.gateways import GET, Raw, one_rule, running, status_of
from tests.support.scripted import Scripted, answers, eventually

LINE = b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 443\r\n"
BINARY_4 = (
    SIGNATURE
    + b"\x21\x11\x00\x14"
    + socket.inet_aton("198.51.100.7")
    + socket.inet_aton("192.0.2.1")
    + b"\x12\x67\x01\xbb"
    + b"\x04\x00\x05extra"
)
BINARY_6 = (
    SIGNATURE
    + b"\x21\x21\x00\x24"
    + socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + b"\x12\x67\x01\xbb"
)
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
UNSPEC = SIGNATURE + b"\x21\x00\x00\x03abc"
HEADERS = {
    "a line": (LINE, b"198.51.100.7"),
    "a line of IPv6": (b"PROXY TCP6 2001:DB8::7 ::1 1 2\r\n", b"2001:db8::7"),
    "a line that knows nothing": (b"PROXY UNKNOWN\r\n", b"127.0.0.1"),
    "binary": (BINARY_4, b"198.51.100.7"),
    "binary of IPv6": (BINARY_6, b"2001:db8::7"),
    "binary, the balancer's own": (LOCAL, b"127.0.0.1"),
    "binary, unspecified": (UNSPEC, b"127.0.0.1"),
}
HERE = "tcp://127.0.0.1:0?proxy=127.0.0.0/8"
ELSEWHERE = "tcp://127.0.0.1:0?proxy=10.0.0.0/8"


@pytest.mark.parametrize("by", [1, 7, 10_000])
@pytest.mark.parametrize("name", HEADERS)
async def test_a_listed_balancer_says_who_the_client_is(name: str, by: int, tmp_path: Path) -> None:
    header, address = HEADERS[name]
    sent = header + GET
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), listen=HERE) as worker,
        Raw(worker.port) as client,
    ):
        client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(sent), by):
            client.send(sent[start : start + by])
            await asyncio.sleep(0)
        assert (await client.answer())[1] == b"ok"
        client.send(GET)
        assert (await client.answer())[1] == b"ok"
    assert upstream.received.count(b"x-forwarded-for: " + address + b"\r\n") == 2
    assert header[:12] not in upstream.received


async def test_under_tls_the_header_comes_before_the_handshake(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("localhost")
    listen = f"tls://127.0.0.1:0?cert={cert}&key={key}&proxy=all"
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), listen=listen) as worker,
    ):
        for header in (LINE, BINARY_6):
            raw = socket.create_connection(("127.0.0.1", worker.port))
            raw.sendall(header)

            def ask(raw: socket.socket = raw) -> bytes:
                with authority.client().wrap_socket(raw, server_hostname="localhost") as client:
                    client.sendall(GET)
                    return client.recv(65536)

            assert (await asyncio.to_thread(ask)).endswith(b"ok")
    assert b"x-forwarded-for: 198.51.100.7\r\nx-forwarded-proto: https\r\n" in upstream.received
    assert b"x-forwarded-for: 2001:db8::7\r\n" in upstream.received


@pytest.mark.parametrize("sent", [GET, b"PROXY TCP4 nonsense\r\n" + GET, b"\x16\x03\x01", LINE[1:]])
async def test_a_listed_balancer_must_send_one(sent: bytes, tmp_path: Path) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), listen=HERE) as worker,
        Raw(worker.port) as client,
    ):
        client.send(sent)
        head, body = await client.answer()
        assert (status_of(head), json.loads(body)["code"]) == (400, "proxy_protocol")
        assert await client.rest() == b""
        assert worker.listener.counts.header == 1
        assert upstream.received == b""


@pytest.mark.parametrize("header", [LINE, BINARY_4], ids=["line", "binary"])
async def test_nobody_else_may_send_one(header: bytes, tmp_path: Path) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), listen=ELSEWHERE) as worker,
    ):
        async with Raw(worker.port) as client:
            client.send(header + GET)
            assert status_of((await client.answer())[0]) == 400
        assert upstream.received == b""
        async with Raw(worker.port) as client:
            client.send(GET)
            assert (await client.answer())[1] == b"ok"
    assert b"x-forwarded-for: 127.0.0.1\r\n" in upstream.received


@pytest.mark.parametrize("header", [LINE, BINARY_4], ids=["line", "binary"])
async def test_a_plain_listener_takes_none(header: bytes, tmp_path: Path) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(header + GET)
        assert status_of((await client.answer())[0]) == 400
        assert upstream.received == b""


async def test_a_header_that_does_not_come_ends_in_time(tmp_path: Path) -> None:
    listen = HERE + "&handshake_s=0.1"
    async with (
        running(tmp_path, one_rule(1), listen=listen) as worker,
        Raw(worker.port) as silent,
        Raw(worker.port) as half,
    ):
        half.send(LINE[:20])
        assert (await silent.rest(), await half.rest()) == (b"", b"")
        assert worker.listener.counts.slow == 2


async def test_the_address_told_is_judged_as_the_clients_own(tmp_path: Path) -> None:
    """A balancer that speaks PROXY passes on what the client wrote: its fields are the client's."""
    claim = GET.replace(b"Host", b"X-Forwarded-For: 6.6.6.6\r\nHost")
    listen = HERE + "&trust=127.0.0.0/8"
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), listen=listen) as worker,
        Raw(worker.port) as client,
    ):
        client.send(LINE + claim)
        await client.answer()
    assert b"x-forwarded-for: 198.51.100.7\r\n" in upstream.received


async def test_a_drain_lets_nobody_arrive_any_more(tmp_path: Path) -> None:
    async with (
        running(tmp_path, one_rule(1), listen=HERE) as worker,
        Raw(worker.port) as waiting,
    ):
        await eventually(lambda: worker.listener.arriving == 1)
        await worker.shut()
        assert await waiting.rest() == b""
        await eventually(lambda: worker.listener.arriving == 0)
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", worker.port)


async def test_many_connections_come_and_go_and_no_descriptor_stays(tmp_path: Path) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), listen=HERE) as worker,
    ):
        before = 0
        for round_ in range(4):
            clients = [Raw(worker.port) for _ in range(50)]
            for client in clients:
                await client.__aenter__()
            for number, client in enumerate(clients):
                client.send((LINE + GET, LINE[:9], GET, b"\x00")[number % 4])
            for number, client in enumerate(clients):
                if number % 4 == 0:
                    assert (await client.answer())[1] == b"ok"
                await client.__aexit__(None, None, None)
            await eventually(
                lambda: not worker.listener.arriving and not worker.listener.connections
            )
            now = descriptors()
            if round_ == 0:
                before = now
        assert now <= before + 2


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
