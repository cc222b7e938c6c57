"""Where a gateway listens: IPv4, IPv6, unix sockets, several places at once."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import pytest

from chassis.errors import ConfigurationFault
from tests.support.gateways import GET, one_rule, running
from tests.support.scripted import Scripted, answers, eventually

REPLY = "rules: [{name: r, reply: {status: 299, body: hello}}]"


async def ask(
    *, port: int = 0, host: str = "127.0.0.1", path: Path | None = None, request: bytes = GET
) -> bytes:
    """The whole answer to one request, on a connection that ends with it."""
    if path is not None:
        reader, writer = await asyncio.open_unix_connection(path)
    else:
        reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


async def test_several_places_serve_the_same_rules_each_with_its_limits(tmp_path: Path) -> None:
    listen = "127.0.0.1:0 tcp://127.0.0.1:0?target=20"
    async with running(tmp_path, REPLY, listen=listen) as worker:
        wide, narrow = worker.listeners.ports
        long = GET.replace(b"/ ", b"/" + b"x" * 40 + b" ")
        assert (await ask(port=wide)).startswith(b"HTTP/1.1 299 ")
        assert (await ask(port=narrow)).startswith(b"HTTP/1.1 299 ")
        assert (await ask(port=wide, request=long)).startswith(b"HTTP/1.1 299 ")
        assert (await ask(port=narrow, request=long)).startswith(b"HTTP/1.1 414 ")


async def test_ipv6_clients_are_told_of_and_believed_by_their_address(tmp_path: Path) -> None:
    listen = "tcp://[::1]:0?trust=::1"
    claim = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 2001:DB8::7\r\n\r\n")
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), listen=listen) as worker,
    ):
        assert (await ask(host="::1", port=worker.port)).endswith(b"ok")
        assert (await ask(host="::1", port=worker.port, request=claim)).endswith(b"ok")
    assert b"x-forwarded-for: ::1\r\n" in upstream.received
    assert b"x-forwarded-for: 2001:db8::7, ::1\r\n" in upstream.received


async def test_one_socket_takes_both_families_and_names_each_in_its_own_way(
    tmp_path: Path,
) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), listen="[::]:0") as worker,
    ):
        assert (await ask(host="::1", port=worker.port)).endswith(b"ok")
        assert (await ask(host="127.0.0.1", port=worker.port)).endswith(b"ok")
    assert b"x-forwarded-for: ::1\r\n" in upstream.received
    assert b"x-forwarded-for: 127.0.0.1\r\n" in upstream.received


async def test_a_unix_socket_serves_and_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listen = f"unix://{path}?mode=620&trust=unix"
    claim = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n")
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), listen=listen) as worker,
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o620
        assert (await ask(path=path)).endswith(b"ok")
        assert (await ask(path=path, request=claim)).endswith(b"ok")
        await worker.shut()
        assert not path.exists()
    assert upstream.received.count(b"x-forwarded-for") == 1
    assert b"x-forwarded-for: 203.0.113.9\r\n" in upstream.received


async def test_a_unix_socket_with_proxy_headers(tmp_path: Path) -> None:
    path = tmp_path / "s"
    request = b"PROXY TCP4 198.51.100.7 192.0.2.1 1 2\r\n" + GET
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), listen=f"unix://{path}?proxy=all"),
    ):
        assert (await ask(path=path, request=request)).endswith(b"ok")
        assert b" 400 " in await ask(path=path)
    assert upstream.received.count(b"x-forwarded-for: 198.51.100.7\r\n") == 1


async def test_a_socket_that_nobody_answers_is_replaced_and_one_in_use_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with running(tmp_path / "one", REPLY, listen=f"unix://{path}") as worker:
        assert (await ask(path=path)).endswith(b"hello")
        with pytest.raises(ConfigurationFault, match="somebody answers there"):
            async with running(tmp_path / "two", REPLY, listen=f"unix://{path}"):
                pass
        assert (await ask(path=path)).endswith(b"hello")
        await eventually(lambda: not worker.listener.connections)


async def test_who_took_the_place_of_a_socket_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with running(tmp_path, REPLY, listen=f"unix://{path}"):
        path.unlink()
        path.touch()
    assert path.exists()


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ConfigurationFault, match="no socket"):
        async with running(tmp_path, REPLY, listen=f"unix://{path}"):
            pass
    assert path.read_text() == "data"


async def test_one_place_that_is_taken_closes_the_others(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path = tmp_path / "s"
        listen = f"unix://{path} 127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigurationFault, match="cannot listen"):
            async with running(tmp_path, REPLY, listen=listen):
                pass
        assert not path.exists()
