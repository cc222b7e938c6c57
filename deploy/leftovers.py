"""Events that an instance accepted before a restart with fewer instances.

A spool belongs to one instance by name. Where that instance does not run any more, nobody would
deliver what it has acknowledged, so that is done once before the others start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from pathlib import Path

from chassis.clock import Clock
from chassis.deadline import Deadline
from chassis.errors import StagedoorError
from chassis.events import Log, Spool, open_log

PATIENCE_S = 30.0


async def deliver_leftovers(
    root: Path, log_url: str, running: Container[str], clock: Clock, say: Callable[[str], None]
) -> None:
    """Moves the events of every spool whose instance is not among `running` into the log.

    What cannot be delivered stays, is said, and is tried again at the next start.
    """
    spools = [one for one in sorted((root / "spool").iterdir()) if one.name not in running]
    left = [one for one in spools if any(one.glob("*.spool"))]
    if not left:
        return
    log = open_log(log_url, clock)
    try:
        for folder in left:
            await _deliver(folder, log, clock, say)
    finally:
        await log.close()


async def _deliver(folder: Path, log: Log, clock: Clock, say: Callable[[str], None]) -> None:
    try:
        spool = Spool(folder, log, clock)
    except StagedoorError as fault:
        say(f"events of {folder.name}: {fault}")
        return
    running = asyncio.ensure_future(spool.run())
    try:
        done = await spool.drain(Deadline.after(clock, PATIENCE_S))
        why = "" if done else f", {spool.waiting} are left: {spool.fault}"
        say(f"events of {folder.name}, which does not run now: {spool.delivered} delivered{why}")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await spool.close()
