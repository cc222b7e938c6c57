"""The one thread that a driver of a consumer is called from.

The driver blocks every other caller while it tells of a rebalance, so what the event loop wants
done before it answers must be done inside that very call: `serve` does.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from chassis.errors import StoreUnavailable
from chassis.settling import settle

T = TypeVar("T")
Entry = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class Question:
    """What `serve` waits for the answer to."""


class DriverThread:
    """Runs one operation after the other. The thread starts with the first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: queue.SimpleQueue[Entry | Question | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def call(self, operation: Callable[[], T]) -> asyncio.Future[T]:
        """Queues `operation`; it is run even when the future is cancelled."""
        if self._closed:
            raise StoreUnavailable(f"{self._name} is closed")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put((operation, future))
        return future

    def answer(self, question: Question) -> None:
        """Ends its `serve`, after what was called before."""
        self._queue.put(question)

    def serve(self, question: Question, patience_s: float) -> bool:
        """Within an operation: runs others until answered; False when nothing comes for so long."""
        while True:
            try:
                entry = self._queue.get(timeout=patience_s)
            except queue.Empty:
                return False
            if entry is question:
                return True
            if isinstance(entry, tuple):
                self._do(entry)

    def close(self) -> None:
        """Ends the thread, after what was called before."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            if isinstance(entry, tuple):  # else an answer that came too late
                self._do(entry)

    def _do(self, entry: Entry) -> None:
        operation, future = entry
        try:
            outcome = operation()
        except Exception as fault:
            self._settle(future, fault)
        else:
            self._settle(future, outcome)

    def _settle(self, future: asyncio.Future[Any], outcome: object) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop has gone, and with it who waited
            self._loop.call_soon_threadsafe(settle, future, outcome)
