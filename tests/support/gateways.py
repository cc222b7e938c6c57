"""A gateway on free loopback ports for tests, and a raw client that speaks bytes to it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from chassis.clock import SYSTEM, Clock
from chassis.discovery import Registry
from gateway import app
from gateway.edge.limits import Limits
from gateway.filters import Filter
from gateway.settings import Settings
from gateway.worker import Worker

GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"


def one_rule(*ports: int, **fields: str) -> str:
    """A document that forwards everything to instances on these ports; `fields` go to its rule."""
    instances = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
    extra = "".join(f"    {name}: {value}\n" for name, value in fields.items())
    return (
        f"clusters:\n  up: {{instances: [{instances}]}}\n"
        "rules:\n  - name: all\n    match: {path_prefix: /}\n    forward: up\n" + extra
    )


@asynccontextmanager
async def running(
    folder: Path,
    rules: str,
    *,
    clock: Clock = SYSTEM,
    limits: Limits | None = None,
    filters: Sequence[Filter] = (),
    registry: Registry | None = None,
    keyring: Path | None = None,
    trusted_proxies: tuple[str, ...] = (),
    in_flight: int = 10_000,
    port: int = 0,
    listen: str = "",
    trusted_hops: int = 0,
    reuse_port: bool = False,
    cache: str = "",
    spread_s: float = 0.05,
    drain_s: float = 5.0,
) -> AsyncIterator[Worker]:
    """A started worker with these rules; closed at the end."""
    file = folder / "rules.yaml"
    file.write_text(rules)
    settings = Settings(
        rules=file,
        listen=listen or f"127.0.0.1:{port}",
        admin="127.0.0.1:0",
        home=folder / "home",
        keyring=keyring,
        trusted_proxies=trusted_proxies,
        trusted_hops=trusted_hops,
        in_flight=in_flight,
        reuse_port=reuse_port,
        cache=cache,
        discovery_interval_s=0.01,
        quiet_s=0.1,
        spread_s=spread_s,
        drain_s=drain_s,
        limits=limits or Limits(),
    )
    worker = await app.build(settings, clock=clock, filters=filters, registry=registry)
    try:
        await app.start(worker)
        yield worker
    finally:
        await worker.close()


class Raw:
    """A client connection that sends exactly these bytes and reads what comes.

    ```python
    async with Raw(worker.port) as client:
        client.send(GET)
        head, body = await client.answer()
    ```
    """

    def __init__(
        self, port: int, tls: ssl.SSLContext | None = None, name: str = "localhost"
    ) -> None:
        """With `tls` it asks for the certificate of `name`."""
        self._port = port
        self._tls: dict[str, Any] = {} if tls is None else {"ssl": tls, "server_hostname": name}
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Raw:
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self._port, limit=1 << 24, **self._tls
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.writer.transport.abort()
        await asyncio.sleep(0)

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        """One head, with its final empty line."""
        async with asyncio.timeout(5):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def body(self, head: bytes) -> bytes:
        """The body behind `head`, unchunked."""
        async with asyncio.timeout(5):
            fields = fields_of(head)
            if b"content-length" in fields:
                return await self.reader.readexactly(int(fields[b"content-length"]))
            if fields.get(b"transfer-encoding") == b"chunked":
                return await self._chunks()
            return await self.reader.read()

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            if size == 0:
                while await self.reader.readuntil(b"\r\n") != b"\r\n":
                    pass
                return body
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"

    async def answer(self) -> tuple[bytes, bytes]:
        """One answer: its head and its body."""
        head = await self.head()
        return head, await self.body(head)

    async def exactly(self, size: int) -> bytes:
        """The next bytes."""
        async with asyncio.timeout(5):
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        async with asyncio.timeout(5):
            return await self.reader.read()


def status_of(head: bytes) -> int:
    return int(head.split(b" ", 2)[1])


def fields_of(head: bytes) -> dict[bytes, bytes]:
    """The fields of a head by lower-case name; of duplicates the last."""
    lines = head.split(b"\r\n")[1:-2]
    return {line.partition(b":")[0].lower(): line.partition(b":")[2].strip() for line in lines}
