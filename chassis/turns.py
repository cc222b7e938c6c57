"""One at a time for each key, in the order of asking; keys that nobody uses cost nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable


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

    def of(self, key: Hashable) -> _Place:
        return _Place(self._turns, key)


class _Place:
    """One task's turn for one key. Written out: `asynccontextmanager` costs as much as a turn's
    whole use."""

    __slots__ = ("_key", "_turn", "_turns")

    def __init__(self, turns: dict[Hashable, _Turn], key: Hashable) -> None:
        self._turns = turns
        self._key = key

    async def __aenter__(self) -> None:
        turn = self._turns.get(self._key)
        if turn is None:
            turn = self._turns[self._key] = _Turn()
        self._turn = turn
        turn.users += 1
        try:
            await turn.lock.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._turn.lock.release()
        self._leave()

    def _leave(self) -> None:
        self._turn.users -= 1
        if not self._turn.users:
            del self._turns[self._key]
