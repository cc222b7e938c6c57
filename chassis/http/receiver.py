"""Who hears an answer: the callbacks of one upstream request."""

from __future__ import annotations

from typing import Final, Protocol

from chassis.errors import OriginFailure
from chassis.http.framing import Headers
from chassis.http.heads import Head


class Receiver(Protocol):
    """Hears one response, by callbacks on the loop; exactly one of on_end and on_failure ends it.

    None of them is called from inside `Connection.start`, `send`, `finish` or `abort`.
    """

    def on_interim(self, status: int, headers: Headers) -> None:
        """A 1xx answer other than 101; the final one is still to come."""

    def on_head(self, status: int, reason: bytes, headers: Headers) -> None:
        """The final head. With 101 (only if asked for) no on_end follows: `detach` or `abort`."""

    def on_data(self, data: bytes) -> None:
        """A piece of the body without its framing."""

    def on_end(self, trailers: Headers) -> None:
        """The answer is complete; the connection may be given back to its pool from here."""

    def on_failure(self, failure: OriginFailure) -> None:
        """The answer will not come, or not to its end. The connection is closed: give it back."""

    def on_writable(self) -> None:
        """The request body may go on after `start` or `send` returned False."""


class WholeReceiver(Receiver, Protocol):
    """A receiver that would rather hear a short answer at once."""

    def on_whole(self, head: Head, body: bytes) -> None:
        """In place of on_head, on_data and on_end: all of an answer that came in one read."""


class _Nobody:
    """Listens for a connection that carries no request."""

    __slots__ = ()

    def on_interim(self, status: int, headers: Headers) -> None: ...

    def on_head(self, status: int, reason: bytes, headers: Headers) -> None: ...

    def on_data(self, data: bytes) -> None: ...

    def on_end(self, trailers: Headers) -> None: ...

    def on_failure(self, failure: OriginFailure) -> None: ...

    def on_writable(self) -> None: ...


NOBODY: Final = _Nobody()
