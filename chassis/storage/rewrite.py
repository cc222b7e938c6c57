"""Change one row by a pure decision, safely against everybody else who does the same.

The decision sees the stored row and says what should stand in its place. It is written by
compare-and-set and made anew when another process was faster, so it may run several times. Tasks
of one process take turns for each key: they never race each other, only other processes.
"""

from __future__ import annotations

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

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._turns = Turns()

    async def change(self, row: type[R], key: tuple[Any, ...], decide: Decision[R, T]) -> T:
        """The decision's result, once its row is durable.

        `StoreUnavailable` when other processes were faster every time.
        """
        async with self._turns.of((row, key)):
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
            return await self._tables.insert(new)
        return await self._tables.replace(old, new)
