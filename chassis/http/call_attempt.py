"""One attempt of a call to a peer: everything is sent in one write and the answer is one value.

`Attempt` can do what this does; it also streams both ways, which a call never needs and always
pays for.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from chassis.errors import OriginFailure, OriginGarbled, OriginReset
from chassis.http.connection import Connection
from chassis.http.framing import Headers
from chassis.http.heads import Head
from chassis.http.pool import Pool
from chassis.resilience.timeout import Alarm

ANSWER_LIMIT: Final = 16 << 20


class CallAttempt(Alarm, eq=False, kw_only=True):
    """`start` it, await `whole`, then `leave`, whatever happened.

    `whole` becomes the answer's body, or raises what it fails with: `TimeoutError` when the alarm
    fires. `status` is 0 before there is a head. `connection` is None once it was given back.
    `utilisation` is what the answer's head says of its instance's load.
    """

    pool: Pool
    connection: Connection | None
    whole: asyncio.Future[bytes]
    reused: bool
    status: int = 0
    headers: Headers = msgspec.field(default_factory=list)
    parts: list[bytes] = msgspec.field(default_factory=list)
    size: int = 0
    utilisation: float | None = None

    def start(self, data: bytes) -> None:
        """Sends the request, all of it."""
        assert self.connection is not None
        self.connection.start(self, data, method=b"POST", whole=self)

    def leave(self) -> None:
        """Gives the connection back, or closes it when the answer is not complete."""
        connection, self.connection = self.connection, None
        if connection is not None:
            self.pool.give(connection)
        if self.armed:
            self.disarm()

    def fire(self) -> None:
        if self.armed:
            self._fail(TimeoutError())

    def _fail(self, failure: Exception) -> None:
        self.leave()
        if not self.whole.done():
            self.whole.set_exception(failure)

    # --- the receiver ---

    def on_whole(self, head: Head, body: bytes) -> None:
        self.status = head.status
        self.headers = head.headers
        self.utilisation = head.utilisation
        self.leave()
        if not self.whole.done():
            self.whole.set_result(body)

    def on_interim(self, status: int, headers: Headers) -> None:
        """The final answer is still to come."""

    def on_head(self, status: int, reason: bytes, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        if self.connection is not None:
            self.utilisation = self.connection.utilisation
        if status == 101:
            self._fail(OriginGarbled("the answer switches protocols, which this client does not"))

    def on_data(self, data: bytes) -> None:
        self.parts.append(data)
        self.size += len(data)
        if self.size > ANSWER_LIMIT:
            self._fail(OriginGarbled(f"the answer is longer than {ANSWER_LIMIT} bytes"))

    def on_end(self, trailers: Headers) -> None:
        self.leave()
        if not self.whole.done():
            self.whole.set_result(b"".join(self.parts))

    def on_failure(self, failure: OriginFailure) -> None:
        if isinstance(failure, OriginReset):
            failure.kept = self.reused and not self.status
        self._fail(failure)

    def on_writable(self) -> None:
        """Nothing more is to be sent."""
