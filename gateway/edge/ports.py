"""What the edge and an exchange ask of each other. Calls go both ways; neither waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from chassis.errors import StagedoorError
from chassis.http.framing import Headers
from chassis.http.turn import TurnEnd
from gateway.edge.fields import Fields
from gateway.edge.peer import Peer


class Downstream(Protocol):
    """The client's connection, as an exchange sees it."""

    peer: Peer
    transport: asyncio.Transport

    def write(self, data: bytes) -> None:
        """Writes now, behind whatever is to be written soon."""
        ...

    def write_soon(self, data: bytes) -> None:
        """Writes at the end of this turn of the loop."""
        ...

    def may_keep(self, now: float) -> bool:
        """Whether another request may follow on this connection."""
        ...

    def hold(self) -> None:
        """Stops reading the request's body until `release`."""
        ...

    def release(self) -> None: ...

    def answered(self, keep_alive: bool, now: float) -> None:
        """The answer is written: the next request, or the end of the connection."""
        ...

    def cut(self, *, reset: bool = False) -> None:
        """Ends the connection at once, so that no answer cut short looks whole.

        `reset` where the connection's orderly end is what would make it look so.
        """
        ...

    def hand_over(self) -> bytes:
        """Gives the transport away for a tunnel; returns what the client already sent behind."""
        ...

    def left(self) -> None:
        """The transport that was handed over is closed."""
        ...


class Inflight(Protocol):
    """A request in flight, as the client's connection sees it."""

    fields: Fields
    asks_first: bool
    """Whether the client waits for 100 (Continue) before it sends the body."""

    def begin(self, body: bytes, more: bool, trailers: Headers) -> None:
        """The head is read, and `body` with it; `more` of it may follow."""
        ...

    def receive(self, body: bytes, more: bool, trailers: Headers) -> None:
        """More of the body; without `more` this was the last of it."""
        ...

    def refuse(self, failure: StagedoorError) -> None:
        """The rest of the request cannot be read: answer that, if nothing has been answered."""
        ...

    def abandon(self) -> None:
        """The client left."""
        ...

    def choke(self) -> None:
        """The client does not take more of the answer now."""
        ...

    def unchoke(self) -> None: ...


class Exchanges(Protocol):
    """Where requests go. `turn_end` is that of everything they write."""

    turn_end: TurnEnd

    @property
    def open(self) -> Callable[[Downstream, bytes, bytes, bool, Fields], Inflight]:
        """Takes a request whose head is read: method, target, whether it is HTTP/1.1, fields."""
        ...

    def refused(self, downstream: Downstream, method: bytes, failure: StagedoorError) -> bytes:
        """Counts a request that never became an exchange; gives the whole answer to write."""
        ...

    def tick(self, now: float) -> None:
        """Time has passed: ends what is overdue."""
        ...
