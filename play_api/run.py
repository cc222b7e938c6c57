"""Runs a plan: every step starts when its needs are met, the first failure ends them all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from play_api.plan import Step

Do = Callable[[Step], Awaitable[None]]


class Course:
    """A plan in the form that it is run in. Make it once; runs share nothing else."""

    def __init__(self, plan: Sequence[Step]) -> None:
        self.size = len(plan)
        self.first = tuple(step for step in plan if not step.needs)
        self.needs = {step.name: len(step.needs) for step in plan}
        self.needed_by = {
            step.name: tuple(later for later in plan if step.name in later.needs) for step in plan
        }

    async def run(self, do: Do) -> None:
        """Awaits `do` for each step. When one raises, or the caller is cancelled, the steps under
        way are cancelled and awaited before this returns; then the first failure is raised."""
        run = _Run(self, do)
        try:
            await run.finished
        finally:
            await run.stop()


async def run_plan(plan: Sequence[Step], do: Do) -> None:
    """Runs a plan once."""
    await Course(plan).run(do)


class _Run:
    def __init__(self, course: Course, do: Do) -> None:
        self._do = do
        self._needed_by = course.needed_by
        self._unmet = course.needs.copy()
        self._left = course.size
        self._loop = asyncio.get_running_loop()
        self.finished: asyncio.Future[None] = self._loop.create_future()
        self._tasks = [self._loop.create_task(self._go(step)) for step in course.first]

    async def _go(self, step: Step | None) -> None:
        """Does `step` and, in the same task, the first of those that it lets start."""
        while step is not None:
            try:
                await self._do(step)
            except asyncio.CancelledError:
                self._fail(RuntimeError(f"the step {step.name} was cancelled"))
                raise
            except BaseException as failure:
                self._fail(failure)
                return
            step = self._after(step)

    def _fail(self, failure: BaseException) -> None:
        if not self.finished.done():
            self.finished.set_exception(failure)

    def _after(self, step: Step) -> Step | None:
        """Starts what only waited for `step`, all but the first, which it returns."""
        self._left -= 1
        if not self._left and not self.finished.done():
            self.finished.set_result(None)
        following = None
        for later in self._needed_by[step.name]:
            self._unmet[later.name] -= 1
            if self._unmet[later.name] or self.finished.done():
                continue
            if following is None:
                following = later
            else:
                self._tasks.append(self._loop.create_task(self._go(later)))
        return following

    async def stop(self) -> None:
        under_way = [task for task in self._tasks if not task.done()]
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.gather(*under_way, return_exceptions=True)
