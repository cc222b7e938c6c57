"""How many exchanges run at once: a plain number with a limit."""

from __future__ import annotations

from chassis.errors import Shed


class InFlight:
    """Counts exchanges in and out. Above `limit` the next one is shed."""

    __slots__ = ("limit", "now", "shed")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.now = 0
        self.shed = 0

    def enter(self) -> None:
        """Takes a place whether or not there is room: see `check`."""
        self.now += 1

    def check(self) -> None:
        """`Shed` when there are more than the limit."""
        if self.now > self.limit:
            self.shed += 1
            raise Shed("the gateway is full", retry_after_s=1)

    def leave(self) -> None:
        self.now -= 1

    def __repr__(self) -> str:
        return f"InFlight({self.now}/{self.limit}, shed={self.shed})"
