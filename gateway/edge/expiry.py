"""Timeouts that all last equally long: the first to enter is the first to expire.

So a dict in insertion order is the whole timer, entering and leaving cost one dict operation, and
one tick looks at nothing but what is due. Pure: the time is an argument.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Expiry(Generic[T]):
    """Whatever is inside for `after_s` seconds without leaving is due."""

    __slots__ = ("_since", "after_s")

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s
        self._since: dict[T, float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, item: T) -> bool:
        return item in self._since

    def enter(self, item: T, now: float) -> None:
        """Starts the time of `item`, anew when it is inside already."""
        self._since.pop(item, None)
        self._since[item] = now

    def leave(self, item: T) -> None:
        self._since.pop(item, None)

    def due(self, now: float) -> list[T]:
        """Takes out and returns those whose time has passed."""
        out: list[T] = []
        for item, since in self._since.items():
            if now - since < self.after_s:
                break
            out.append(item)
        for item in out:
            del self._since[item]
        return out
