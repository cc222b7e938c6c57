"""Starts an installed server once, so that it starts faster ever after.

A server on Java loads and checks thousands of classes each time. Java can write those that one run
has used into a file, which later runs map into memory as they are (JEP 350, application class data
sharing); it takes the file only for the same build of Java and the same jars.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

from chassis.clock import Clock
from chassis.errors import StagedoorError
from deploy.servers import processes
from deploy.servers.arrange import Asked, arrange
from deploy.servers.folders import Folders
from deploy.servers.installed import PART, Installed, at_work, install_once
from deploy.servers.server import Server
from deploy.servers.start import Starter
from deploy.servers.tools import Tell, ToolFailed

NEEDS_FREE = 400 << 20
WRITES_S = 60.0
"""How long the classes may take to be written while it ends."""
KEPT = 3
"""How many builds of Java have an archive at a time."""
WHY = "why"
"""Stands in the place of an archive that Java does not write."""


async def rehearse(
    kind: Server, installed: Installed, clock: Clock, tell: Tell, *, writes_s: float = WRITES_S
) -> None:
    """Keeps the classes that it starts with, unless they are kept or none can be. What keeps it
    from that is told, and no failure; a Java that writes none is not asked again."""
    try:
        archive = await kind.archive(installed)
    except ToolFailed:  # the start will say so
        return
    if archive is None or not os.access(archive.parents[1], os.W_OK):
        return
    _drop_outdated(archive, installed)
    if archive.parent.exists():
        return

    async def fill(part: Path) -> None:
        tell("starting once, to start faster from now on")
        await _run_once(kind, installed, part, part / archive.name, clock, writes_s)
        shutil.rmtree(part / "servers")

    try:
        await end_left(archive.parents[1], clock)
        await install_once(archive.parent, clock, NEEDS_FREE, fill)
    except StagedoorError as fault:
        tell(f"it goes on starting as slowly as before: {fault}")
    else:
        _forget_old(archive.parents[1], installed)


async def end_left(cache: Path, clock: Clock) -> None:
    """Ends what runs of rehearsals whose launchers were killed."""
    for home in {one.home for one in processes.every_marked() if one.home.parent == cache}:
        if home.suffix == PART and not at_work(home.with_suffix("")):
            await processes.clear(home, clock)


async def _run_once(
    kind: Server, installed: Installed, home: Path, made: Path, clock: Clock, writes_s: float
) -> None:
    """Leaves `made`, whole, or the reason why Java does not write it."""
    folders = Folders(home)
    with folders.only_one():
        asked = Asked({kind.name: 0}, {}, frozenset())
        [one] = arrange({kind.name: kind}, {kind.name: installed}, folders, asked, clock)
        one = dataclasses.replace(one, setup=dataclasses.replace(one.setup, writes=made))
        try:
            await Starter(folders, clock, lambda name, line: None).start([one])
            running = list(processes.marked(home))
            in_time = [await processes.end(process, clock, writes_s) for process in running]
        finally:
            await processes.clear(home, clock)
    if not all(in_time):
        raise StagedoorError(f"it did not end within {writes_s:g} s")
    if made.exists():
        made.chmod(0o644)
    else:
        made.with_name(WHY).write_text("Java ended without writing the classes\n", encoding="utf-8")


def _drop_outdated(archive: Path, installed: Installed) -> None:
    """Java does not take an archive of jars that have been replaced."""
    try:
        is_older = archive.parent.stat().st_mtime < installed.path.stat().st_mtime
    except OSError:
        return
    if is_older:
        shutil.rmtree(archive.parent, ignore_errors=True)


def _forget_old(cache: Path, installed: Installed) -> None:
    kept = [one for one in cache.glob(f"{installed.path.name}-*/") if one.suffix != PART]
    kept.sort(key=lambda one: -one.stat().st_mtime)
    for one in kept[KEPT:]:
        shutil.rmtree(one, ignore_errors=True)
