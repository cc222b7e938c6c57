"""A pipeline process that kills itself after a step: `HOME STEP TIMES [LOG]`; step 0 is never.

It ends with 0 once both groups have committed every record, whoever brought it in.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import uvloop

from chassis.clock import SYSTEM
from chassis.errors import Fenced, StoreUnavailable
from stream_pipeline.app import CONSUMED
from tests.support.streams import Member

SESSION_S = 0.4


def kill_after(step: int, times: int) -> object:
    left = times

    def after(done: int) -> None:
        nonlocal left
        left -= done == step
        if left == 0 and done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return after


async def run(home: Path, step: int, times: int, log_url: str = "") -> None:
    after = kill_after(step, times)
    member = Member(home, SYSTEM, after=after, session_s=SESSION_S, log_url=log_url)  # type: ignore[arg-type]
    await member.open()
    while not await caught_up(member):
        try:
            taken = await member.turn(15)
        except (Fenced, StoreUnavailable):  # as the pipeline's own loop does
            await member.restart()
            continue
        if not taken:
            await asyncio.sleep(0.02)
    await member.close()


async def caught_up(member: Member) -> bool:
    ends = {(t, p): end for t in CONSUMED for p, end in (await member.log.ends(t)).items() if end}
    for group in (member.state, member.archiving):
        if await group._consumer.committed() != ends:
            return False
    return True


if __name__ == "__main__":
    uvloop.run(run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]))
