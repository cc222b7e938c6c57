"""What the connections of a listener wait for, each with its own timeout."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

from chassis.errors import StagedoorError
from gateway.edge.expiry import Expiry
from gateway.edge.limits import Limits
from gateway.edge.refusals import TooSlow


class Waiting(Hashable, Protocol):
    """A connection, as its timeouts see it."""

    def close(self) -> None: ...

    def cut(self) -> None: ...

    def refuse(self, failure: StagedoorError) -> None: ...

    def check_rate(self, now: float) -> None: ...


C = TypeVar("C", bound=Waiting)


class Waits(Generic[C]):
    """Connections by what they wait for: a request, the rest of a head, of a body, the end."""

    __slots__ = ("bodies", "heads", "idle", "lingering")

    def __init__(self, limits: Limits) -> None:
        self.idle: Expiry[C] = Expiry(limits.idle_s)
        self.heads: Expiry[C] = Expiry(limits.head_s)
        self.bodies: Expiry[C] = Expiry(limits.body_window_s)
        self.lingering: Expiry[C] = Expiry(limits.linger_s)

    def forget(self, connection: C) -> None:
        """The connection is gone."""
        for expiry in (self.idle, self.heads, self.bodies, self.lingering):
            expiry.leave(connection)

    def tick(self, now: float) -> None:
        for connection in self.idle.due(now):
            connection.close()
        for connection in self.heads.due(now):
            connection.refuse(TooSlow("the request's head took too long"))
        for connection in self.bodies.due(now):
            connection.check_rate(now)
        for connection in self.lingering.due(now):
            connection.cut()
