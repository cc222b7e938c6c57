"""The first run of a server, which keeps what later ones start with; a script stands for it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from chassis.clock import SYSTEM
from deploy.servers import processes
from deploy.servers.installed import Installed
from deploy.servers.rehearsing import rehearse
from deploy.servers.server import Command, Instance, NotReady, Server, Setup
from tests.support.scripted import eventually

LIVES = "trap '{end}; exit 0' TERM; touch ready; while :; do sleep 0.02; done"
WRITES = 'printf classes >"$(sed s/.*AtExit=// extra.jvm)"'


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
        return Command(("sh", "-c", self._lines))

    async def probe(self, setup: Setup, instance: Instance) -> None:
        if not (instance.folder / "ready").exists():
            raise NotReady("not yet")

    async def rehearsed(self) -> list[str]:
        """What was told."""
        told: list[str] = []
        await rehearse(self, self.jars, SYSTEM, told.append)
        return told


def running(cache: Path) -> list[processes.Marked]:
    return [one for one in processes.every_marked() if cache in one.home.parents]


def kept(cache: Path) -> list[str]:
    """Files below the cache, besides locks; nothing of it runs."""
    assert running(cache) == []
    files = (one.relative_to(cache) for one in cache.rglob("*") if one.is_file())
    return sorted(str(one) for one in files if one.suffix != ".lock")


async def test_it_runs_once_and_only_its_classes_are_kept(tmp_path: Path) -> None:
    assert await Scripted(tmp_path).rehearsed() == ["starting once, to start faster from now on"]
    assert kept(tmp_path) == ["kafka-1.0-build-1/classes.jsa"]
    assert (tmp_path / kept(tmp_path)[0]).read_text() == "classes"
    assert await Scripted(tmp_path, lines="exit 1").rehearsed() == []


async def test_those_of_a_java_that_was_replaced_go(tmp_path: Path) -> None:
    await Scripted(tmp_path).rehearsed()
    await Scripted(tmp_path, "build-2").rehearsed()
    assert kept(tmp_path) == ["kafka-1.0-build-2/classes.jsa"]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("exit 1", "kafka ended while it started"),
        ("exec sleep 1000", "kafka does not answer after"),
        (LIVES.format(end="true"), "classes.jsa: No such file"),
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
    _, told = await scripted.rehearsed()
    assert "as slowly as before" in told and "STAGEDOOR_SERVERS" in told


async def test_cancelled_it_leaves_nothing(tmp_path: Path) -> None:
    scripted = Scripted(tmp_path, lines="exec sleep 1000")
    scripted.ready_s = 60.0
    work = asyncio.ensure_future(scripted.rehearsed())
    await eventually(lambda: bool(running(tmp_path)))
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert kept(tmp_path) == []


async def test_what_a_killed_launcher_left_is_ended(tmp_path: Path) -> None:
    part = tmp_path / "kafka-1.0-build-1.part"
    part.mkdir()
    left = processes.spawn(["sleep", "1000"], os.environ, part, tmp_path / "log", part, "kafka")
    await eventually(lambda: bool(running(tmp_path)))
    await Scripted(tmp_path).rehearsed()
    assert not processes.is_alive(left)
    assert "kafka-1.0-build-1/classes.jsa" in kept(tmp_path)
