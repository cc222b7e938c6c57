"""Runs a plan: every step starts when its needs are met, the first failure ends them all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from play_api.plan import Step

Do = Callable[[Step], Awaitable[None]]


async def run_plan(plan: Sequence[Step], do: Do) -> None:
    """Awaits `do` for each step. When one raises, or the caller is cancelled, the steps under way
    are cancelled and awaited before this returns; then the first failure is raised."""
    run = _Run(plan, do)
    try:
        await run.finished
    finally:
        await run.stop()


class _Run:
    def __init__(self, plan: Sequence[Step], do: Do) -> None:
        self._do = do
        self._unmet = {step.name: len(step.needs) for step in plan}
        self._needed_by: dict[str, list[Step]] = {step.name: [] for step in plan}
        self._left = len(plan)
        self._running: set[asyncio.Task[None]] = set()
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for step in plan:
            for need in step.needs:
                self._needed_by[need].append(step)
        for step in plan:
            if not step.needs:
                self._start(step)

    def _start(self, step: Step) -> None:
        task = asyncio.ensure_future(self._do(step))
        self._running.add(task)
        task.add_done_callback(lambda done: self._ended(step, done))

    def _ended(self, step: Step, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        failure = _failure(step, task)
        if self.finished.done():
            return
        if failure is not None:
            self.finished.set_exception(failure)
            return
        self._left -= 1
        if not self._left:
            self.finished.set_result(None)
        for later in self._needed_by[step.name]:
            self._unmet[later.name] -= 1
            if not self._unmet[later.name]:
                self._start(later)

    async def stop(self) -> None:
        if not self._running:
            return
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


def _failure(step: Step, task: asyncio.Task[None]) -> BaseException | None:
    """How a step failed. One that somebody else cancelled has: its run would wait for ever."""
    if task.cancelled():
        return RuntimeError(f"the step {step.name} was cancelled")
    return task.exception()
