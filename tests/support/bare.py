"""The least that a proxy in this interpreter can do: a parser on either side, nothing between.

    python -m tests.support.bare LISTEN UPSTREAM         # ports

No timeouts, no limits, no checks, no back-pressure: not to be used for anything but as a measure.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import httptools
import uvloop

Fields = list[tuple[bytes, bytes]]


class Up(asyncio.Protocol):
    """The upstream side: reads an answer, sends it back in one piece."""

    def __init__(self, idle: list[Up]) -> None:
        self.transport: Any = None
        self.down: Down | None = None
        self._idle = idle
        self._parser = httptools.HttpResponseParser(self)
        self._fields: Fields = []
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        fields, self._fields = self._fields, []
        body, self._body = self._body, b""
        lines = b"\r\n".join(map(b": ".join, fields))
        head = b"HTTP/1.1 %d OK\r\n%b\r\n\r\n" % (self._parser.get_status_code(), lines)
        down, self.down = self.down, None
        self._idle.append(self)
        if down is not None and down.transport is not None:
            down.transport.write(head + body)


class Down(asyncio.Protocol):
    """The client side: reads a request, sends it on with one field more."""

    def __init__(self, idle: list[Up], upstream: int = 0) -> None:
        self.transport: Any = None
        self._idle = idle
        self._upstream = upstream
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._fields: Fields = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_message_complete(self) -> None:
        fields, self._fields = self._fields, []
        lines = b"\r\n".join(map(b": ".join, fields))
        method = self._parser.get_method()
        head = b"%b %b HTTP/1.1\r\n%b\r\nx-more: 1\r\n\r\n" % (method, self._url, lines)
        if self._idle:
            self._send(self._idle.pop(), head)
        else:
            self._opening = asyncio.get_running_loop().create_task(self._open(head))

    def _send(self, up: Up, head: bytes) -> None:
        up.down = self
        up.transport.write(head)

    async def _open(self, head: bytes) -> None:
        loop = asyncio.get_running_loop()
        _, up = await loop.create_connection(lambda: Up(self._idle), "127.0.0.1", self._upstream)
        self._send(up, head)


async def serve(port: int, upstream: int) -> None:
    idle: list[Up] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Down(idle, upstream), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
