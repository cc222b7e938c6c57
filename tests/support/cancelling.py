"""Cancelling a call at one of its awaits, chosen by number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class CancelledAt(Generic[T]):
    """Awaits `call`, as a task that is cancelled when it has been suspended `at` times before."""

    def __init__(self, call: Awaitable[T], at: int) -> None:
        self._call = call
        self._left = at

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._call.__await__()
        try:
            waiting = next(steps)
            while self._left:
                self._left -= 1
                try:
                    value = yield waiting
                except BaseException as fault:
                    waiting = steps.throw(fault)
                else:
                    waiting = steps.send(value)
            if waiting is not None:
                waiting.cancel()
            steps.throw(asyncio.CancelledError())
            raise AssertionError("the call went on although it was cancelled")
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]
