"""Indexes and the waiting for them: what makes a blocking query block.

Every change gets the next number of one counter; a topic's index is the number of its last
change. The counter starts at the wall clock's milliseconds, so that the indexes of one life of the
server are above those of every earlier one, as long as changes are rarer than one a millisecond.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable

from chassis.clock import Clock


class Changes:
    """One server's counter, its topics, and who waits on them."""

    def __init__(self, clock: Clock, at_least: int = 0) -> None:
        self.start = max(int(clock.now() * 1000), at_least) + 1
        self.last = self.start
        self._clock = clock
        self._topics: dict[str, int] = {}
        self._waiting: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._closed = False

    def next(self) -> int:
        """The number of a change about to be made."""
        self.last += 1
        return self.last

    def index(self, topic: str) -> int:
        """The number of the topic's last change; the start of this life when it had none."""
        return self._topics.get(topic, self.start)

    def happened(self, index: int, *topics: str) -> None:
        """Stamps the topics and wakes who waits on them."""
        for topic in topics:
            self._topics[topic] = index
            for waiting in self._waiting.get(topic, ()):
                resolve(waiting)

    async def newer(
        self,
        topic: str,
        index: Callable[[], int],
        asked: int,
        seconds: float,
        left: Callable[[], Awaitable[None]],
    ) -> None:
        """Returns once `index()` exceeds `asked`, after `seconds`, or when the asker has left.

        An index from the future belongs to another life of the server and is answered at once.
        """
        until = self._clock.monotonic() + seconds
        while index() <= asked <= self.last and not self._closed:
            remaining = until - self._clock.monotonic()
            if remaining <= 0 or await self._woken(topic, remaining, left):
                return

    def close(self) -> None:
        """Lets everybody go, now and from now on."""
        self._closed = True
        for topic in self._waiting.values():
            for waiting in topic:
                resolve(waiting)

    async def _woken(self, topic: str, seconds: float, left: Callable[[], Awaitable[None]]) -> bool:
        """Waits for a change of `topic`; True when the asker left instead."""
        loop = asyncio.get_running_loop()
        waiting = loop.create_future()
        self._waiting[topic].add(waiting)
        timer = self._clock.call_later(seconds, resolve, waiting)
        leaving = asyncio.ensure_future(left())
        leaving.add_done_callback(lambda _: resolve(waiting))
        try:
            await waiting
            return leaving.done()
        finally:
            leaving.cancel()
            timer.cancel()
            self._waiting[topic].discard(waiting)
            if not self._waiting[topic]:
                del self._waiting[topic]


def resolve(waiting: asyncio.Future[None]) -> None:
    """Wakes who awaits, unless something else already did."""
    if not waiting.done():
        waiting.set_result(None)
