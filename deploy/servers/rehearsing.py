"""Starts an installed server once, so that it starts faster ever after.

A server on Java loads and checks thousands of classes each time. Java can write those that one run
has used into a file, which later runs map into memory as they are (JEP 350, application class data
sharing); it takes the file only for the same build of Java and the same jars.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from chassis.clock import Clock
from chassis.errors import StagedoorError
from deploy.servers import processes
from deploy.servers.arrange import Arrangement, Asked, arrange
from deploy.servers.folders import Folders
from deploy.servers.installed import Installed, install_once
from deploy.servers.java import EXTRA
from deploy.servers.server import Server
from deploy.servers.start import Starter
from deploy.servers.templates import write
from deploy.servers.tools import Tell

NEEDS_FREE = 400 << 20
WRITES_S = 60.0
"""How long the classes may take to be written while it ends."""


async def rehearse(kind: Server, installed: Installed, clock: Clock, tell: Tell) -> None:
    """Keeps the classes that it starts with, unless they are kept or it has none. Not fatal: what
    keeps it from that is told."""
    archive = await kind.archive(installed)
    if archive is None or archive.exists():
        return
    tell("starting once, to start faster from now on")

    async def fill(part: Path) -> None:
        for process in processes.marked(part):  # a launcher that was killed has left it
            await processes.kill(process, clock)
        await _run_once(kind, installed, part, part / archive.name, clock)
        shutil.rmtree(part / "servers")

    try:
        await install_once(archive.parent, clock, NEEDS_FREE, fill)
    except StagedoorError as fault:
        tell(f"it goes on starting as slowly as before: {fault}")
    else:
        _forget_others(archive.parent, installed)


async def _run_once(
    kind: Server, installed: Installed, home: Path, made: Path, clock: Clock
) -> None:
    """`made` is whole on return."""
    folders = Folders(home)
    with folders.only_one():
        asked = Asked({kind.name: 0}, {}, frozenset())
        [one] = arrange({kind.name: kind}, {kind.name: installed}, folders, asked, clock)
        folders.make(kind.name, one.setup.first)
        write(one.setup.first.folder / EXTRA, f"-XX:ArchiveClassesAtExit={made}\n")
        if not await _lives_and_ends(one, folders, clock):
            raise StagedoorError(f"it did not end within {WRITES_S:g} s")
    made.chmod(0o644)


async def _lives_and_ends(one: Arrangement, folders: Folders, clock: Clock) -> bool:
    """Whether it ended by itself."""
    in_time = True
    try:
        await Starter(folders, clock, lambda name, line: None).start([one])
    finally:
        for process in processes.marked(folders.home):
            in_time &= await processes.end(process, clock, WRITES_S)
    return in_time


def _forget_others(kept: Path, installed: Installed) -> None:
    """Those of a Java that has been replaced."""
    for other in kept.parent.glob(f"{installed.path.name}-*/"):
        if other != kept and other.suffix != ".part":
            shutil.rmtree(other, ignore_errors=True)
