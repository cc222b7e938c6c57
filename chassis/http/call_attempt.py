"""One attempt of a call to a peer: everything is sent in one write and the answer is one value.

`Attempt` can do what this does; it also streams both ways, which a call never needs and always
pays for.
"""

from __future__ import annotations

import asyncio
from typing import Final

from chassis.errors import OriginFailure, OriginGarbled, OriginReset
from chassis.http.connection import Connection
from chassis.http.framing import Headers
from chassis.http.heads import Head
from chassis.http.pool import Pool

ANSWER_LIMIT: Final = 16 << 20


class CallAttempt:
    """Await `ask` once, then `leave`, whatever happened. `status` is 0 before there is a head."""

    __slots__ = (
        "_connection",
        "_parts",
        "_pool",
        "_reused",
        "_size",
        "_whole",
        "headers",
        "status",
    )

    def __init__(self, pool: Pool, connection: Connection) -> None:
        self._pool = pool
        self._connection: Connection | None = connection
        self._reused = connection.uses > 0
        self.status = 0

    async def ask(self, data: bytes, whole: asyncio.Future[bytes]) -> bytes:
        """Sends the request; the answer's body, for which `whole` is a future to wait with."""
        assert self._connection is not None
        self._whole = whole
        self._connection.start(self, data, method=b"POST", whole=self)
        return await whole

    def leave(self) -> None:
        """Gives the connection back, or closes it when the answer is not complete."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.give(connection)

    def _fail(self, failure: OriginFailure) -> None:
        self.leave()
        if not self._whole.done():
            self._whole.set_exception(failure)

    # --- the receiver ---

    def on_whole(self, head: Head, body: bytes) -> None:
        self.status = head.status
        self.headers: Headers = head.headers
        self.leave()
        if not self._whole.done():
            self._whole.set_result(body)

    def on_interim(self, status: int, headers: Headers) -> None:
        """The final answer is still to come."""

    def on_head(self, status: int, reason: bytes, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self._parts: list[bytes] = []
        self._size = 0
        if status == 101:
            self._fail(OriginGarbled("the answer switches protocols, which this client does not"))

    def on_data(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > ANSWER_LIMIT:
            self._fail(OriginGarbled(f"the answer is longer than {ANSWER_LIMIT} bytes"))

    def on_end(self, trailers: Headers) -> None:
        self.leave()
        if not self._whole.done():
            self._whole.set_result(b"".join(self._parts))

    def on_failure(self, failure: OriginFailure) -> None:
        if isinstance(failure, OriginReset):
            failure.kept = self._reused and not self.status
        self._fail(failure)

    def on_writable(self) -> None:
        """Nothing more is to be sent."""
