"""Timeouts that all last equally long: the first to enter is the first to expire.

So a dict in insertion order is the whole timer, entering and leaving cost one dict operation, and
one tick looks at nothing but what is due. Pure: the time is an argument.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


class Expiry(dict[T, float]):
    """Whatever is inside for `after_s` seconds without leaving is due.

    It maps items to when they entered. Where each request passes, `enter` of an item that is not
    inside is written `expiry[item] = now`, and `leave` is written `expiry.pop(item, None)`: a call
    less each.
    """

    __slots__ = ("after_s",)

    def __init__(self, after_s: float) -> None:
        super().__init__()
        self.after_s = after_s

    def enter(self, item: T, now: float) -> None:
        """Starts the time of `item`, anew when it is inside already."""
        self.pop(item, None)
        self[item] = now

    def leave(self, item: T) -> None:
        self.pop(item, None)

    def due(self, now: float) -> list[T]:
        """Takes out and returns those whose time has passed."""
        out: list[T] = []
        for item, since in self.items():
            if now - since < self.after_s:
                break
            out.append(item)
        for item in out:
            del self[item]
        return out
