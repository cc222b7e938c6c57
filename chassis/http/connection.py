"""One upstream HTTP/1.1 connection: callbacks in, callbacks out, no task and no future.

STUB: the shape is settled, the behaviour is being written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from chassis.errors import OriginFailure
from chassis.http.framing import Headers

HEAD_LIMIT = 64 * 1024


class Receiver(Protocol):
    """Hears one response, by callbacks on the loop; exactly one of on_end and on_failure ends it.

    None of them is called from inside `Connection.start`, `send`, `finish` or `abort`.
    """

    def on_interim(self, status: int, headers: Headers) -> None:
        """A 1xx answer other than 101; the final one is still to come."""

    def on_head(self, status: int, reason: bytes, headers: Headers) -> None:
        """The final head. For 101 the connection is `upgraded`: call `detach` or `abort`; no on_end follows."""

    def on_data(self, data: bytes) -> None:
        """A piece of the body without its framing."""

    def on_end(self, trailers: Headers) -> None:
        """The answer is complete; the connection may be given back to its pool from here."""

    def on_failure(self, failure: OriginFailure) -> None:
        """The answer will not come, or not to its end. The connection is closed."""

    def on_writable(self) -> None:
        """The request body may go on after `start` or `send` returned False."""


class Connection(asyncio.Protocol):
    """One connection; carries one request at a time.

    `reusable` is True only between messages, and only while nothing is in doubt.
    `uses` counts the requests started.
    """

    reusable: bool
    upgraded: bool
    uses: int

    def __init__(self, on_lost: Callable[[Connection], None] | None = None) -> None: ...

    def start(
        self,
        receiver: Receiver,
        head: bytes,
        *,
        method: bytes,
        body: bytes = b"",
        more: bool = False,
    ) -> bool:
        """Sends a head (with its final empty line) and `body`; `more` says that the body goes on.

        False: wait for on_writable before `send`. A failure is told by a later callback.
        """
        raise NotImplementedError

    def send(self, data: bytes) -> bool:
        """More of the request body, already framed (see framing.chunk). False: wait for on_writable."""
        raise NotImplementedError

    def finish(self) -> None:
        """The request body is complete."""
        raise NotImplementedError

    def pause(self) -> None:
        """Stops reading the answer until `resume`; what the kernel already gave may still be told."""
        raise NotImplementedError

    def resume(self) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        """Closes at once and tells the receiver nothing: the client left. Harmless when already closed."""
        raise NotImplementedError

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        """After a 101 head: the transport (reading paused) and the bytes that came behind the head.

        The caller sets its own protocol on the transport and calls `resume_reading`.
        """
        raise NotImplementedError

    def version(self) -> str:
        """The HTTP version of the answer, as "1.1"; valid from on_head on."""
        raise NotImplementedError
