"""One at a time for each key, in the order of asking; keys that nobody uses cost nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class _Turn:
    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class Turns:
    """`async with turns.of(key)` waits until no other task of this process is inside for `key`."""

    def __init__(self) -> None:
        self._turns: dict[Hashable, _Turn] = {}

    def __repr__(self) -> str:
        return f"Turns(keys={len(self._turns)})"

    @asynccontextmanager
    async def of(self, key: Hashable) -> AsyncIterator[None]:
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = _Turn()
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[key]
