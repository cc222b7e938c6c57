"""Waiting for what other tasks of this loop do, without sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_TURNS = 100_000


async def until(condition: Callable[[], object]) -> None:
    """Lets other tasks run until the condition holds; fails after very many turns."""
    for _ in range(_TURNS):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition never came to hold")
