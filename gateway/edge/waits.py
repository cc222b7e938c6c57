"""What the connections of a listener wait for, each with its own timeout, and what is counted of
its limits."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Generic, Protocol, TypeVar

from chassis.errors import StagedoorError
from gateway.edge.expiry import Expiry
from gateway.edge.limits import Limits
from gateway.edge.refusals import BodyTooLarge, HeadTooLarge, SlowBody, SlowHead, TargetTooLong


class Waiting(Hashable, Protocol):
    """A connection, as its timeouts see it."""

    def close(self) -> None: ...

    def refuse(self, failure: StagedoorError) -> None: ...

    def check_rate(self, now: float) -> None: ...

    def end_lingering(self, now: float) -> None: ...

    def check_unsent(self, now: float) -> None: ...

    def check_there(self, now: float) -> None: ...


C = TypeVar("C", bound=Waiting)


LOOK_S = 0.04
"""How often it is seen whether the client of a connection that is not read is still there."""

MET = ("age", "body", "body_rate", "head", "head_time", "idle", "requests", "target", "unread")
"""What `Met` counts: a compiled class could not tell its slots."""


class Met:
    """How often each limit ended a request or a connection, as plain numbers."""

    def __init__(self) -> None:
        self.target = self.head = self.head_time = 0
        self.body = self.body_rate = 0
        self.idle = self.requests = self.age = 0
        self.unread = 0  # answers that the client does not take

    def note(self, failure: StagedoorError) -> None:
        """Counts a refusal, where it is over a limit."""
        name = _BY_REFUSAL.get(type(failure))
        if name is not None:
            setattr(self, name, getattr(self, name) + 1)


_BY_REFUSAL: Mapping[type[StagedoorError], str] = {
    TargetTooLong: "target",
    HeadTooLarge: "head",
    BodyTooLarge: "body",
    SlowHead: "head_time",
    SlowBody: "body_rate",
}


class Waits(Generic[C]):
    """Connections by what they wait for: a request, the rest of a head, of a body, the end; or that
    the client takes what it was sent; or, where it is not read, that it is still there."""

    __slots__ = ("bodies", "heads", "idle", "lingering", "met", "unread", "unsent")

    def __init__(self, limits: Limits) -> None:
        self.idle: Expiry[C] = Expiry(limits.idle_s)
        self.heads: Expiry[C] = Expiry(limits.head_s)
        self.bodies: Expiry[C] = Expiry(limits.body_window_s)
        self.lingering: Expiry[C] = Expiry(limits.linger_s)
        self.unsent: Expiry[C] = Expiry(limits.stall_s)
        self.unread: Expiry[C] = Expiry(LOOK_S)
        self.met = Met()

    def forget(self, connection: C) -> None:
        """The connection is gone."""
        for expiry in (
            self.idle,
            self.heads,
            self.bodies,
            self.lingering,
            self.unsent,
            self.unread,
        ):
            expiry.leave(connection)

    def tick(self, now: float) -> None:
        for connection in self.idle.due(now):
            self.met.idle += 1
            connection.close()
        for connection in self.heads.due(now):
            connection.refuse(SlowHead("the request's head took too long"))
        for connection in self.bodies.due(now):
            connection.check_rate(now)
        for connection in self.lingering.due(now):
            connection.end_lingering(now)
        for connection in self.unsent.due(now):
            connection.check_unsent(now)
        for connection in self.unread.due(now):
            connection.check_there(now)
