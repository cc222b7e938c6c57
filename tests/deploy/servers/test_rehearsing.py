"""The first run of a server, which keeps what later ones start with; a script stands for it."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

import pytest

from chassis.clock import SYSTEM
from deploy.servers import Servers, processes
from deploy.servers.installed import Installed
from deploy.servers.rehearsing import rehearse
from deploy.servers.server import Command, Instance, NotReady, Server, Setup
from tests.support.scripted import eventually

LIVES = "trap '{end}; exit 0' TERM; touch ready; while :; do sleep 0.02; done"
WRITES = 'printf classes >"$0"'
BEGINS = "starting once, to start faster from now on"


class Scripted(Server):
    """Writes its classes when it is told to end, like Java."""

    name = "kafka"
    memory = 1
    ready_s = 0.5

    def __init__(self, cache: Path, build: str = "build-1", lines: str = "") -> None:
        self.jars = Installed("1.0", cache / "kafka-1.0")
        self.jars.path.mkdir(exist_ok=True)
        self._archive = cache / f"kafka-1.0-{build}" / "classes.jsa"
        self._lines = lines or LIVES.format(end=WRITES)

    async def archive(self, installed: Installed) -> Path:
        return self._archive

    async def command(self, setup: Setup, instance: Instance) -> Command:
        assert setup.writes is not None
        return Command(("sh", "-c", self._lines, str(setup.writes)))

    async def probe(self, setup: Setup, instance: Instance) -> None:
        if not (instance.folder / "ready").exists():
            raise NotReady("not yet")

    async def rehearsed(self, writes_s: float = 5.0) -> list[str]:
        """What was told."""
        told: list[str] = []
        await rehearse(self, self.jars, SYSTEM, told.append, writes_s=writes_s)
        return told


def running(cache: Path) -> list[processes.Marked]:
    return [one for one in processes.every_marked() if cache in one.home.parents]


def kept(cache: Path) -> list[str]:
    """Files below the cache, besides locks; nothing of it runs."""
    assert running(cache) == []
    files = (one.relative_to(cache) for one in cache.rglob("*") if one.is_file())
    return sorted(str(one) for one in files if one.suffix != ".lock")


async def test_it_runs_once_and_only_its_classes_are_kept(tmp_path: Path) -> None:
    tmp_path = tmp_path / "with a blank"
    tmp_path.mkdir()
    assert await Scripted(tmp_path).rehearsed() == [BEGINS]
    assert kept(tmp_path) == ["kafka-1.0-build-1/classes.jsa"]
    assert (tmp_path / kept(tmp_path)[0]).read_text() == "classes"
    assert await Scripted(tmp_path, lines="exit 1").rehearsed() == []


async def test_those_of_three_builds_of_java_are_kept(tmp_path: Path) -> None:
    for number in range(5):
        await Scripted(tmp_path, f"build-{number}").rehearsed()
    assert kept(tmp_path) == [f"kafka-1.0-build-{number}/classes.jsa" for number in (2, 3, 4)]


async def test_for_other_jars_it_runs_again(tmp_path: Path) -> None:
    scripted = Scripted(tmp_path)
    await scripted.rehearsed()
    os.utime(scripted.jars.path, (0, 2_000_000_000))
    assert await scripted.rehearsed() == [BEGINS]


async def test_a_java_that_writes_nothing_is_not_asked_again(tmp_path: Path) -> None:
    scripted = Scripted(tmp_path, lines=LIVES.format(end="true"))
    assert await scripted.rehearsed() == [BEGINS]
    assert kept(tmp_path) == ["kafka-1.0-build-1/why"]
    assert await scripted.rehearsed() == []


async def test_one_that_needs_too_long_to_write_is_told(tmp_path: Path) -> None:
    scripted = Scripted(tmp_path, lines=LIVES.format(end="printf half >$0; sleep 1000"))
    _, told = await scripted.rehearsed(writes_s=0.2)
    assert "did not end within 0.2 s" in told
    assert kept(tmp_path) == []


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("exit 1", "kafka ended while it started"),
        ("exec sleep 1000", "kafka does not answer after"),
    ],
)
async def test_what_goes_wrong_is_told_and_nothing_is_kept_or_runs(
    tmp_path: Path, lines: str, why: str
) -> None:
    _, told = await Scripted(tmp_path, lines=lines).rehearsed()
    assert "as slowly as before" in told and why in told
    assert kept(tmp_path) == []


async def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    scripted = Scripted(tmp_path)
    (tmp_path / "kafka-1.0-build-1.lock").mkdir()
    [told] = await scripted.rehearsed()
    assert "as slowly as before" in told and "STAGEDOOR_SERVERS" in told


@pytest.mark.parametrize(
    ("lines", "seen"),
    [
        ("touch begun; exec sleep 1000", "begun"),
        (LIVES.format(end="touch ending; sleep 1000"), "ending"),
    ],
)
async def test_cancelled_it_leaves_nothing(tmp_path: Path, lines: str, seen: str) -> None:
    scripted = Scripted(tmp_path, lines=lines)
    scripted.ready_s = 60.0
    work = asyncio.ensure_future(scripted.rehearsed())
    await eventually(lambda: any(tmp_path.rglob(seen)))
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert kept(tmp_path) == []


@pytest.mark.parametrize("build", ["build-1", "build-0"])
async def test_what_a_killed_launcher_left_is_ended(tmp_path: Path, build: str) -> None:
    part = tmp_path / f"kafka-1.0-{build}.part"
    part.mkdir()
    writes = ["sh", "-c", "while :; do touch $$; sleep 0.01; done"]
    left = processes.spawn(writes, os.environ, part, tmp_path / "log", part, "kafka")
    await eventually(lambda: bool(running(tmp_path)))
    await Scripted(tmp_path).rehearsed()
    assert not processes.is_alive(left)
    assert "kafka-1.0-build-1/classes.jsa" in kept(tmp_path)


async def test_down_ends_what_a_killed_launcher_left_but_nobody_at_work(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for name in ("left", "at-work"):
        part = cache / f"{name}.part"
        part.mkdir(parents=True)
        processes.spawn(["sleep", "1000"], os.environ, part, tmp_path / "log", part, "kafka")
    (tmp_path / "home" / "servers").mkdir(parents=True)
    await eventually(lambda: len(running(cache)) == 2)
    with (cache / "at-work.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        await Servers(tmp_path / "home", cache).down()
    [left] = running(cache)
    assert left.home.name == "at-work.part"
    await processes.kill(left.process, SYSTEM)
