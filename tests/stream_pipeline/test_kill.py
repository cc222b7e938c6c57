"""kill -9 of a real process after each numbered step, and two processes at once."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from chassis.clock import SYSTEM
from tests.support import real
from tests.support.stream_process import SESSION_S
from tests.support.streams import Fact, Member, ledger
from tests.support.watching import moment, start

ENDS_S = 30.0


def story() -> list[Fact]:
    starts = [start(f"start-{n}", profile=f"p{n}") for n in range(8)]
    moments = [
        moment(seq, profile=f"p{n}", session=f"s{n}") for seq in range(1, 41) for n in range(8)
    ]
    return [*starts, *moments]


@pytest.fixture(params=["embedded", "kafka"])
def log_url(request: pytest.FixtureRequest) -> str:
    """Where the events are; empty for a log in the pipeline's own folder."""
    if request.param == "embedded":
        return ""
    return f"{real.url('kafka')}?prefix={uuid4().hex}.&session_s=1"


async def tell(home: Path, facts: list[Fact], log_url: str) -> None:
    teller = await Member(home, SYSTEM, session_s=SESSION_S, log_url=log_url).open()
    await teller.tell(facts)
    await teller.crash()


async def spawn(
    home: Path, log_url: str, step: int = 0, times: int = 1
) -> asyncio.subprocess.Process:
    arguments = [str(home), str(step), str(times), *filter(None, [log_url])]
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.stream_process", *arguments
    )


async def ended(process: asyncio.subprocess.Process) -> int:
    try:
        async with asyncio.timeout(ENDS_S):
            return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.slow
async def test_kill_nine_after_each_step_loses_nothing_and_doubles_nothing(
    tmp_path: Path, log_url: str
) -> None:
    await tell(tmp_path, story(), log_url)
    for step in range(1, 8):
        process = await spawn(tmp_path, log_url, step, times=2)
        assert await ended(process) == -signal.SIGKILL, f"step {step} was not reached twice"
    assert await ended(await spawn(tmp_path, log_url)) == 0
    assert (await ledger(tmp_path, story())).clean


@pytest.mark.slow
async def test_one_of_two_processes_is_killed_and_the_other_takes_over(
    tmp_path: Path, log_url: str
) -> None:
    told = story()
    await tell(tmp_path, told[: len(told) // 2], log_url)
    doomed = await spawn(tmp_path, log_url, 5, times=3)
    other = await spawn(tmp_path, log_url, 4, times=6)
    await tell(tmp_path, told[len(told) // 2 :], log_url)
    outcomes = {await ended(doomed), await ended(other)}
    assert outcomes <= {-signal.SIGKILL, 0}
    assert await ended(await spawn(tmp_path, log_url)) == 0
    assert (await ledger(tmp_path, told)).clean
