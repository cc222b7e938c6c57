"""An async stream of pieces, read by a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterator
from concurrent.futures import CancelledError, wait

_LOOK_S = 0.25
"""How often a thread that waits looks whether the event loop is still there."""


class Abandoned(Exception):
    """Whoever gave the pieces has left: what was written of them is to be undone."""


class Pull:
    """The pieces as an iterator for one thread, which waits while the event loop makes the next.

    Leaving the block ends the iterator with `Abandoned`, at whatever piece the thread is. What the
    pieces raise comes out of the block as it is.
    """

    def __init__(self, pieces: AsyncIterable[bytes]) -> None:
        self._pieces = aiter(pieces)
        self._loop = asyncio.get_running_loop()
        self._making: asyncio.Task[object] | None = None
        self._fault: Exception | None = None
        self._left = False

    def __enter__(self) -> Pull:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._left = True
        if self._making is not None:
            self._making.cancel()
        if kind is Abandoned and self._fault is not None:
            raise self._fault from None

    def __iter__(self) -> Iterator[bytes]:
        while (piece := self._ask()) is not None:
            yield piece

    def check(self) -> None:
        """`Abandoned` once the block has been left: for the thread, before it shows its work."""
        if self._left:
            raise Abandoned

    def _ask(self) -> bytes | None:
        self.check()
        making = self._next()
        try:
            answer = asyncio.run_coroutine_threadsafe(making, self._loop)
            while not answer.done():
                wait((answer,), _LOOK_S)
                if self._loop.is_closed() and not answer.done():
                    raise Abandoned
            return answer.result()
        except CancelledError:
            raise Abandoned from None
        except Abandoned:
            raise
        except Exception as fault:
            self._fault = fault
            raise Abandoned from fault
        finally:
            if self._loop.is_closed():
                making.close()

    async def _next(self) -> bytes | None:
        self.check()
        self._making = asyncio.current_task()
        try:
            return await anext(self._pieces, None)
        finally:
            self._making = None
