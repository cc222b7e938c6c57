"""Stand-ins on both sides of an upstream connection: one records, the other does as told."""

from __future__ import annotations

import asyncio
from typing import Any

from chassis.errors import OriginFailure
from chassis.http.connection import Connection
from chassis.http.framing import Headers
from chassis.http.heads import Head


class Recorder:
    """A Receiver that keeps what it hears, in order; `over` is set at the end or the failure."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.over = asyncio.Event()
        self.failure: OriginFailure | None = None
        self.body = b""
        self.trailers: Headers = []
        self.status = 0
        self.writable = 0

    @property
    def kinds(self) -> list[str]:
        """What was heard, pieces of the body told once in a row."""
        kinds = [event[0] for event in self.heard]
        return [kind for at, kind in enumerate(kinds) if kind != "data" or kinds[at - 1] != "data"]

    def on_interim(self, status: int, headers: Headers) -> None:
        self.heard.append(("interim", status, headers))

    def on_head(self, status: int, reason: bytes, headers: Headers) -> None:
        self.status = status
        self.heard.append(("head", status, reason, headers))

    def on_data(self, data: bytes) -> None:
        self.body += data
        self.heard.append(("data", data))

    def on_end(self, trailers: Headers) -> None:
        self.trailers = trailers
        self.heard.append(("end", trailers))
        self.over.set()

    def on_failure(self, failure: OriginFailure) -> None:
        self.failure = failure
        self.heard.append(("failure", failure))
        self.over.set()

    def on_writable(self) -> None:
        self.writable += 1
        self.heard.append(("writable",))


class FakeTransport(asyncio.Transport):
    """Keeps what is written; tells its protocol nothing by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.aborted = False
        self.reading = True
        self.unsent = 0

    def write(self, data: Any) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.unsent


def connected() -> tuple[Connection, FakeTransport]:
    """A connection on a transport that only records."""
    connection, transport = Connection(), FakeTransport()
    connection.connection_made(transport)
    return connection, transport


class WholeRecorder(Recorder):
    """Hears short answers at once, and keeps them as if it had heard them in pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.wholes = 0

    def on_whole(self, head: Head, body: bytes) -> None:
        self.wholes += 1
        self.on_head(head.status, head.reason, list(head.headers))
        if body:
            self.on_data(body)
        self.on_end([])
