"""Listening: which sockets can be had, and how they drain."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chassis.errors import ConfigurationFault
from chassis.http.serving import UNIX_PATH_LIMIT, Listener, bind, bind_unix
from tests.support.waiting import until

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


class App:
    """Answers once `go` is set; counts who came and who was cut."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.began = self.cut = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.began += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cut += 1
            raise
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def asking(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
async def listener(app: App) -> AsyncIterator[Listener]:
    listener = Listener(app, bind("127.0.0.1", 0))
    await listener.start()
    yield listener
    await listener.drain(0)


async def test_it_answers_on_the_port_it_tells(app: App, listener: Listener) -> None:
    app.go.set()
    async with asking(listener.port) as (reader, writer):
        writer.write(GET)
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_draining_lets_a_request_finish_and_then_ends_its_connection(
    app: App, listener: Listener
) -> None:
    async with asking(listener.port) as (reader, writer):
        writer.write(GET)
        await until(lambda: app.began)
        draining = asyncio.ensure_future(listener.drain(60))
        await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", listener.port)
        assert not draining.done()
        app.go.set()
        answer = await reader.read()
        assert answer.endswith(b"ok")
        await asyncio.wait_for(draining, 5)
    assert app.cut == 0


async def test_draining_ends_idle_connections_at_once(app: App, listener: Listener) -> None:
    async with asking(listener.port) as (reader, _):
        await asyncio.sleep(0)
        await asyncio.wait_for(listener.drain(60), 5)
        assert await reader.read() == b""


async def test_what_does_not_end_in_time_is_cut(app: App, listener: Listener) -> None:
    async with asking(listener.port) as (reader, writer):
        writer.write(GET)
        await until(lambda: app.began)
        await listener.drain(0.01)
        assert app.cut == 1
        assert (await reader.read()).startswith(b"HTTP/1.1 500 ")


async def test_draining_what_never_started_frees_the_port(app: App) -> None:
    listener = Listener(app, bind("127.0.0.1", 0))
    await listener.drain(1)
    bind("127.0.0.1", listener.port).close()


@pytest.mark.parametrize("port", [70_000, -1])
def test_a_port_that_does_not_exist_is_said_to_be_wrong(port: int) -> None:
    with pytest.raises(ConfigurationFault, match=str(port)):
        bind("127.0.0.1", port)


def test_a_host_that_is_not_ours_is_said_to_be_wrong() -> None:
    with pytest.raises(ConfigurationFault, match=r"192\.0\.2\.1"):
        bind("192.0.2.1", 0)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationFault, match=f"127.0.0.1:{port}.*another port"):
            bind("127.0.0.1", port)


def test_several_may_share_a_port_when_all_agree() -> None:
    with bind("127.0.0.1", 0, reuse_port=True) as one:
        bind("127.0.0.1", one.getsockname()[1], reuse_port=True).close()


def test_an_ipv6_address_is_listened_on() -> None:
    with bind("::1", 0) as listening:
        assert listening.family is socket.AF_INET6


def test_only_its_owner_may_use_a_unix_socket(tmp_path: Path) -> None:
    with bind_unix(tmp_path / "control.sock"):
        mode = (tmp_path / "control.sock").stat().st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600


def test_a_socket_left_by_a_dead_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    bind_unix(path).close()
    with bind_unix(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_path_that_is_too_long_for_a_socket_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / ("x" * UNIX_PATH_LIMIT)
    with pytest.raises(ConfigurationFault, match="shorter"):
        bind_unix(path)
