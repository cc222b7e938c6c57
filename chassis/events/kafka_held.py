"""A driver that is let go of in a thread: its destructor waits for threads of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

D = TypeVar("D")


class Held(Generic[D]):
    """Keeps the only lasting reference to a driver, until it is retired and nobody uses it.

    Who uses it keeps this object at most: a failure's traceback would keep the driver, too, until
    some collection of garbage destroys it wherever that happens to run.
    """

    def __init__(self, driver: D) -> None:
        self._kept = [driver]
        self._users = 0
        self._retired = False

    @property
    def driver(self) -> D:
        return self._kept[0]

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within it the driver stays, also when it is retired meanwhile."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self._let_go()

    def retire(self) -> None:
        self._retired = True
        self._let_go()

    def _let_go(self) -> None:
        if self._retired and not self._users and self._kept:
            kept, self._kept = self._kept, []
            threading.Thread(target=kept.clear, name="kafka ends", daemon=True).start()
