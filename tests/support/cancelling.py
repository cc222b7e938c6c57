"""Cancelling a call at one of its awaits, chosen by number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


async def interrupted(
    call: Awaitable[T], at: int, keep: Callable[[T], object] = lambda _: None
) -> bool:
    """Cancels the call at its await number `at`; False, its result kept, when it ends before."""
    try:
        keep(await CancelledAt(call, at))
    except asyncio.CancelledError:
        return True
    return False


class CancelledAt(Generic[T]):
    """Awaits `call`, as a task that is cancelled when it has been suspended `at` times before. What
    it awaits from then on, to tidy up, it gets."""

    def __init__(self, call: Awaitable[T], at: int) -> None:
        self._call = call
        self._left = at

    def __await__(self) -> Generator[Any, Any, T]:
        task = asyncio.current_task()
        assert task is not None
        steps = self._call.__await__()
        try:
            waiting = next(steps)
            while True:
                if self._left == 0:
                    task.cancel()  # reaches the call as it would from anywhere: when it has yielded
                self._left -= 1
                try:
                    value = yield waiting
                except BaseException as fault:
                    waiting = steps.throw(fault)
                else:
                    waiting = steps.send(value)
        except StopIteration as ended:
            assert self._left >= 0, "the call went on although it was cancelled"
            return ended.value  # type: ignore[no-any-return]
        finally:
            if self._left < 0:
                task.uncancel()
