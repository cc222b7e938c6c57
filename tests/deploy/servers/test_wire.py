"""Probes against scripted peers: silent, closing, and answering wrongly."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from deploy.servers import cql, kafka_wire
from deploy.servers.installed import Installed
from deploy.servers.kinds import servers
from deploy.servers.server import Instance, NotReady, Setup

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def probe(name: str, serve: Serve) -> None:
    """What the probe of a server makes of a peer that behaves like `serve`."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        instance = Instance(name, 1, "127.0.0.1", {"main": port}, Path())
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        setup = Setup(Installed("1", Path()), Path(), (instance,), keys)
        await servers([name])[name].probe(setup, instance)


NAMES = ["kafka", "cassandra", "consul", "s3", "redis", "prometheus"]


@pytest.mark.parametrize("name", NAMES)
async def test_a_peer_that_closes_is_not_ready(name: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    with pytest.raises((NotReady, OSError)):
        await probe(name, serve)


@pytest.mark.parametrize("name", ["consul", "s3", "prometheus"])
async def test_an_error_is_not_ready(name: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    with pytest.raises(NotReady):
        await probe(name, serve)


async def test_a_consul_without_a_leader_is_not_ready() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n""')
        await writer.drain()

    with pytest.raises(NotReady, match="no leader yet"):
        await probe("consul", serve)


async def test_a_redis_that_loads_its_data_is_not_ready() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"-LOADING Redis is loading the dataset in memory\r\n")
        await writer.drain()

    with pytest.raises(NotReady, match="LOADING"):
        await probe("redis", serve)


async def test_a_kafka_that_knows_too_few_brokers_is_not_ready() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        await reader.readexactly(size)
        body = struct.pack(">iii", 1, 0, 0)
        writer.write(struct.pack(">i", len(body)) + body)
        await writer.drain()

    with pytest.raises(NotReady, match="it knows 0 of 1 brokers"):
        await probe("kafka", serve)


async def test_what_cassandra_complains_of_is_passed_on() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(9)
        text = b"still starting"
        body = struct.pack(">ih", 0x1001, len(text)) + text
        writer.write(struct.pack(">BBhBi", 0x84, 0, 0, cql.ERROR, len(body)) + body)
        await writer.drain()

    with pytest.raises(NotReady, match="still starting"):
        await probe("cassandra", serve)


def test_rows_are_read_from_a_result() -> None:
    name = kafka_wire.text
    head = struct.pack(">iii", cql.ROWS, cql.GLOBAL_TABLE, 2) + name("system") + name("local")
    columns = name("key") + struct.pack(">h", 13) + name("peer") + struct.pack(">h", 16)
    cells = struct.pack(">i", 1) + struct.pack(">i", 2) + b"ab" + struct.pack(">i", -1)
    assert cql.rows(head + columns + cells) == [[b"ab", None]]
    assert cql.rows(struct.pack(">iii", 1, 0, 0)) == []
