"""The upstream client over TLS: the same pool, with the peer's name checked."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest

from chassis.errors import ConnectFailed, OriginReset
from chassis.http.client import Client
from chassis.http.pool import Address, Pool
from chassis.http.transport import Transport
from tests.support.certificates import contexts
from tests.support.scripted import OK, Closes, Floods, Reads, Scripted, Sends, answers, eventually


async def test_requests_over_tls_keep_their_connection(tmp_path: Path) -> None:
    server, trusting = contexts(tmp_path)
    async with Scripted(answers(), tls=server) as peer:
        client = Client(tls=trusting)
        for _ in range(2):
            response = await client.request("GET", f"https://localhost:{peer.port}/")
            assert response.body == b"ok"
        assert len(peer.connections) == 1
        await client.close()
        await eventually(lambda: peer.connections[0].ended)


async def test_httpx_over_tls(tmp_path: Path) -> None:
    server, trusting = contexts(tmp_path)
    async with (
        Scripted(answers(), tls=server) as peer,
        httpx.AsyncClient(transport=Transport(tls=trusting)) as client,
    ):
        assert (await client.get(f"https://localhost:{peer.port}/")).text == "ok"


async def test_an_answer_longer_than_the_buffers_arrives_whole(tmp_path: Path) -> None:
    server, trusting = contexts(tmp_path)
    total = 2 << 20
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total
    async with Scripted([Reads(), Sends(head), Floods(total)], tls=server) as peer:
        client = Client(tls=trusting)
        async with client.stream("GET", f"https://localhost:{peer.port}/") as answer:
            assert sum([len(piece) async for piece in answer]) == total
        await client.close()


async def test_a_peer_with_another_name_is_not_talked_to(tmp_path: Path) -> None:
    server, trusting = contexts(tmp_path)
    async with Scripted(answers(), tls=server) as peer:
        pool = Pool(Address("127.0.0.1", peer.port, trusting))
        with pytest.raises(ConnectFailed, match="cannot be reached"):
            await pool.connect(connect_s=5)
        assert pool.open == 0 and peer.received == b""


async def test_the_name_to_check_may_differ_from_the_address(tmp_path: Path) -> None:
    server, trusting = contexts(tmp_path)
    async with Scripted(answers(), tls=server) as peer:
        pool = Pool(Address("127.0.0.1", peer.port, trusting, server_name="localhost"))
        pool.give(await pool.connect(connect_s=5))
        assert pool.idle == 1
        await pool.close()


async def test_a_peer_nobody_vouches_for_is_not_talked_to(tmp_path: Path) -> None:
    server, _ = contexts(tmp_path)
    async with Scripted(answers(), tls=server) as peer:
        client = Client(tls=ssl.create_default_context())
        with pytest.raises(ConnectFailed):
            await client.request("GET", f"https://localhost:{peer.port}/")


async def test_an_end_amid_an_answer_over_tls_is_a_reset(tmp_path: Path) -> None:
    server, trusting = contexts(tmp_path)
    async with Scripted([Reads(), Sends(OK[:-1]), Closes()], tls=server) as peer:
        with pytest.raises(OriginReset):
            await Client(tls=trusting).request("GET", f"https://localhost:{peer.port}/")
