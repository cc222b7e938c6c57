"""Change one row by a pure decision, safely against everybody else who does the same.

The decision sees the stored row and says what should stand in its place. It is written by
compare-and-set and made anew when another process was faster, so it may run several times. Tasks
of one process take turns for each key: they never race each other, only other processes.

A row that was written here is mostly still what is stored. Where the same rows change often, the
last `kept` ones are remembered and a decision is first made on the remembered one: the
compare-and-set finds out when it is no longer true. A decision that writes nothing is never
believed on a remembered row: it is made anew on the stored one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from chassis.errors import StoreUnavailable
from chassis.storage.tables import Row, Tables
from chassis.turns import Turns

R = TypeVar("R", bound=Row)
T = TypeVar("T")

Decision = Callable[[R | None], tuple[R | None, T]]
"""From the stored row (None: there is none) to the row to store (None: none) and a result."""

ATTEMPTS = 20


class Rewriter:
    """Conditional changes of single rows. Raise from the decision to change nothing."""

    def __init__(self, tables: Tables, *, kept: int = 0) -> None:
        self._tables = tables
        self._turns = Turns()
        self._room = kept
        self._kept: OrderedDict[tuple[type[Row], tuple[Any, ...]], Row] = OrderedDict()

    async def change(self, row: type[R], key: tuple[Any, ...], decide: Decision[R, T]) -> T:
        """The decision's result, once its row is durable.

        `StoreUnavailable` when other processes were faster every time.
        """
        async with self._turns.of((row, key)):
            kept = self._kept.pop((row, key), None)
            if isinstance(kept, row):
                guess = _guessed(decide, kept)
                if guess is not None and await self._swap(row, key, kept, guess[0]):
                    return guess[1]
            for _ in range(ATTEMPTS):
                old = await self._tables.get(row, *key)
                new, result = decide(old)
                if new == old or await self._swap(row, key, old, new):
                    return result
        raise StoreUnavailable(f"{row.key.table}: others keep changing this row; try again")  # type: ignore[attr-defined]

    async def _swap(self, row: type[R], key: tuple[Any, ...], old: R | None, new: R | None) -> bool:
        if new is None:
            return await self._tables.delete(row, *key, only=old)
        if old is None:
            swapped = await self._tables.insert(new)
        else:
            swapped = await self._tables.replace(old, new)
        if swapped and self._room:
            self._keep((row, key), new)
        return swapped

    def _keep(self, place: tuple[type[Row], tuple[Any, ...]], row: Row) -> None:
        self._kept[place] = row
        if len(self._kept) > self._room:
            self._kept.popitem(last=False)


def _guessed(decide: Decision[R, T], kept: R) -> tuple[R | None, T] | None:
    """What is decided on a remembered row; None when it must be decided on the stored one."""
    try:
        decided = decide(kept)
    except Exception:  # a reason that the stored row gives as well, if it is still true
        return None
    return decided if decided[0] != kept else None
