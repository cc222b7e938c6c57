"""The zygote: real forks, their ends, and what becomes of them when one of the two is gone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chassis.errors import StagedoorError
from deploy.forking import UNKNOWN, Child, Zygote
from tests.support.scripted import eventually
from tests.support.zygotes import CHILD, ROOT, alive, environ, marked, zygote

pytestmark = pytest.mark.slow  # each starts one
LONG_S = 20.0


class Forked:
    """A running zygote, and what it forked."""

    def __init__(self, process: asyncio.subprocess.Process, side: Zygote, folder: Path) -> None:
        self.process = process
        self.side = side
        self.folder = folder

    async def child(self, fate: str, name: str = "c", module: str = CHILD) -> Child:
        given = environ(self.folder, name, fate)
        return await self.side.spawn(name, module, given, self.output(name))

    async def waiting(self, fate: str = "waits", name: str = "c") -> Child:
        """A child that has begun."""
        child = await self.child(fate, name)
        await eventually(lambda: name in marked(self.folder, "begun"), LONG_S)
        return child

    def output(self, name: str = "c") -> Path:
        return self.folder / "out" / f"{name}.out"


@pytest.fixture
async def forked(tmp_path: Path) -> AsyncIterator[Forked]:
    async with zygote() as (process, channel):
        side = Zygote(channel)
        await side.start()
        yield Forked(process, side, tmp_path)
        await side.close()


async def ended(child: Child) -> int:
    return await asyncio.wait_for(child.ended, LONG_S)


@pytest.mark.parametrize(
    ("fate", "status"),
    [
        ("exits:0", 0),
        ("exits:7", 7),
        ("says:no disk", 1),
        ("breaks:by a defect", 1),
        ("misconfigured:no port", 2),
        ("outdated:three partitions", 2),
    ],
)
async def test_a_childs_own_status_is_told(forked: Forked, fate: str, status: int) -> None:
    assert await ended(await forked.child(fate)) == status
    assert fate.partition(":")[2] in forked.output().read_text() or "exits" in fate


async def test_a_child_that_is_killed_is_told_by_its_signal(forked: Forked) -> None:
    child = await forked.waiting()
    os.kill(child.pid, signal.SIGKILL)
    assert await ended(child) == -signal.SIGKILL


async def test_a_module_that_does_not_exist_is_the_childs_failure_only(forked: Forked) -> None:
    child = await forked.child("waits", module="tests.support.nowhere")
    assert await ended(child) == 1
    assert "No module named" in forked.output().read_text()
    assert await ended(await forked.child("exits:0")) == 0


async def test_code_that_was_changed_since_the_start_is_told_of(
    forked: Forked, tmp_path: Path
) -> None:
    await forked.waiting()
    (tmp_path / "newer.py").write_text("")
    assert await ended(await forked.child(f"outgrows:{tmp_path}", "late")) == 1
    told = forked.output("late").read_text()
    assert "Traceback" in told
    assert "newer.py was changed since the system was started: restart the whole system" in told


async def test_many_children_that_end_at_once_are_all_told(forked: Forked) -> None:
    children = [await forked.child(f"exits:{number}", f"c{number}") for number in range(8)]
    assert [await ended(child) for child in children] == list(range(8))


async def test_a_child_has_a_session_and_an_output_and_nothing_of_the_zygotes(
    forked: Forked,
) -> None:
    child = await forked.waiting("tells")
    own_session, files, interrupt = forked.output().read_text().split(maxsplit=2)
    assert own_session == "True"
    assert int(files) == 4  # the three standard ones, and the folder that is being listed
    assert interrupt.strip() == "True"
    os.kill(child.pid, signal.SIGTERM)
    assert await ended(child) == 0


async def test_the_zygote_has_no_thread(forked: Forked) -> None:
    await forked.waiting()
    tasks = await asyncio.to_thread(os.listdir, f"/proc/{forked.process.pid}/task")
    assert len(tasks) == 1


async def test_when_the_supervisor_is_gone_everything_is_ended(forked: Forked) -> None:
    children = [await forked.waiting(name=f"c{number}") for number in range(3)]
    await forked.side.close()
    assert await asyncio.wait_for(forked.process.wait(), LONG_S) == 0
    assert not any(alive(child.pid) for child in children)
    assert sorted(marked(forked.folder, "left")) == ["c0", "c1", "c2"]


async def test_when_the_zygote_is_killed_the_kernel_tells_its_children(forked: Forked) -> None:
    child, hung = await forked.waiting(), await forked.waiting("stubborn", "hung")
    forked.process.send_signal(signal.SIGKILL)
    assert await ended(child) == UNKNOWN
    assert not alive(child.pid) and marked(forked.folder, "left") == ["c"]
    assert alive(hung.pid) and not hung.ended.done()
    assert forked.side.lost
    os.kill(hung.pid, signal.SIGKILL)
    assert await ended(hung) == UNKNOWN


async def test_nothing_is_forked_by_a_zygote_that_is_gone(forked: Forked) -> None:
    forked.process.send_signal(signal.SIGKILL)
    await forked.process.wait()
    for _ in range(2):
        with pytest.raises(StagedoorError, match="zygote"):
            await forked.child("waits")


async def test_who_stops_waiting_for_a_fork_loses_nothing(forked: Forked) -> None:
    """The child is there all the same, and the next answer goes to who asked for it."""
    impatient = asyncio.ensure_future(forked.child("waits", "impatient"))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    assert await ended(await forked.child("exits:3", "next")) == 3


class Led:
    """The pids of a whole family: the zygote, the leader, its children."""

    def __init__(self, process: asyncio.subprocess.Process, pids: list[int]) -> None:
        self.process = process
        self.leader, *self.children = pids

    async def status(self) -> int:
        return await asyncio.wait_for(self.process.wait(), LONG_S)

    def anyone(self) -> bool:
        return any(alive(pid) for pid in (self.leader, *self.children))


@asynccontextmanager
async def led(folder: Path, *fates: str) -> AsyncIterator[Led]:
    command = [sys.executable, "-m", "tests.support.led", str(folder), *fates]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    family = Led(process, [0])
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), LONG_S)
        family = Led(process, json.loads(line))
        yield family
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()
        for pid in family.children:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


async def test_sigterm_to_the_zygote_is_the_leaders_and_so_is_the_status(tmp_path: Path) -> None:
    async with led(tmp_path, "waits", "waits") as family:
        family.process.send_signal(signal.SIGTERM)
        assert await family.status() == 5
        assert not family.anyone()
        assert sorted(marked(tmp_path, "left")) == ["c0", "c1"]


async def test_a_leader_that_is_killed_leaves_no_orphan_behind(tmp_path: Path) -> None:
    async with led(tmp_path, "waits", "waits") as family:
        os.kill(family.leader, signal.SIGKILL)
        assert await family.status() == 128 + signal.SIGKILL
        assert not family.anyone()
        assert sorted(marked(tmp_path, "left")) == ["c0", "c1"]


async def test_a_zygote_that_is_killed_leaves_no_orphan_behind(tmp_path: Path) -> None:
    async with led(tmp_path, "waits", "waits") as family:
        family.process.send_signal(signal.SIGKILL)
        await eventually(lambda: not family.anyone(), LONG_S)
        assert sorted(marked(tmp_path, "left")) == ["c0", "c1"]


async def test_what_does_not_end_when_told_to_is_killed(tmp_path: Path) -> None:
    async with zygote(end_s=0.2) as (process, channel):
        side = Zygote(channel)
        await side.start()
        forked = Forked(process, side, tmp_path)
        hung, child = await forked.waiting("stubborn", "hung"), await forked.waiting()
        await side.close()
        assert await asyncio.wait_for(process.wait(), LONG_S) == 0
    assert not alive(hung.pid) and not alive(child.pid)
    assert marked(tmp_path, "left") == ["c"]
