"""Group commit: one thread, many waiting callers, one fsync for all of them.

Callers submit items from the event loop; the thread takes whatever has gathered while it was
busy, commits it as one, and settles every caller's future with one wake-up of the loop.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from chassis.errors import StoreUnavailable
from chassis.settling import settle

T = TypeVar("T")
R = TypeVar("R")
Outcomes = Sequence[R | Exception]
Waiting = tuple[T, "asyncio.Future[R]"]


class GroupCommit(Generic[T, R]):
    """Runs `commit(items)` in a thread of its own; it answers one outcome for each item.

    An outcome that is an exception is raised at that item's caller only; an exception raised by
    `commit` itself reaches them all. An item that was submitted is committed even when its caller
    is cancelled. The thread starts with the first item, so that making one is safe before a fork.
    """

    def __init__(
        self, name: str, commit: Callable[[list[T]], Outcomes[R]], *, limit: int = 512
    ) -> None:
        self._name = name
        self._commit = commit
        self._limit = limit
        self._queue: queue.SimpleQueue[Waiting[T, R] | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None
        self._closed = False

    def submit(self, item: T) -> asyncio.Future[R]:
        """Queues `item`; the future is done once it is committed, or is not going to be."""
        if self._closed:
            raise StoreUnavailable(f"{self._name} is closed")
        loop = self._loop or self._start()
        future: asyncio.Future[R] = loop.create_future()
        self._queue.put((item, future))
        return future

    async def close(self) -> None:
        """Commits what was submitted, then ends the thread."""
        if self._ended is None:
            self._closed = True
            return
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()  # it has nothing left to do

    def _start(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()
        return self._loop

    def _run(self) -> None:
        batch = self._gather()
        while batch:
            self._tell(_settle, [future for _, future in batch], self._outcomes(batch))
            batch = self._gather()
        self._tell(self._end)

    def _gather(self) -> list[Waiting[T, R]]:
        """What is waiting now, at least one; empty when told to end."""
        batch: list[Waiting[T, R]] = []
        entry = self._queue.get()
        while entry is not None:
            batch.append(entry)
            if len(batch) >= self._limit or self._queue.empty():
                return batch
            entry = self._queue.get()
        if batch:
            self._queue.put(None)  # nothing is submitted after it: end with the next round
        return batch

    def _outcomes(self, batch: list[Waiting[T, R]]) -> Outcomes[R]:
        try:
            return self._commit([item for item, _ in batch])
        except Exception as failure:
            return [failure] * len(batch)

    def _tell(self, callback: Callable[..., None], *args: object) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *args)

    def _end(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


def _settle(futures: list[asyncio.Future[R]], outcomes: Outcomes[R]) -> None:
    for future, outcome in zip(futures, outcomes, strict=True):
        settle(future, outcome)
