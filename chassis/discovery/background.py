"""Tasks that nobody awaits: when one dies of a defect, the event loop's handler is told at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


def start(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Runs `work` on the running loop."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    task.add_done_callback(_report)
    return task


async def stop(task: asyncio.Task[Any]) -> None:
    """Cancels `task` and waits until it has ended, however that is."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _report(task: asyncio.Task[None]) -> None:
    if task.cancelled() or task.exception() is None:
        return
    task.get_loop().call_exception_handler(
        {
            "message": f"{task.get_name()} ended by a defect",
            "exception": task.exception(),
            "task": task,
        }
    )
