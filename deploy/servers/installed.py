"""Where installed servers are kept, and how one gets there whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from chassis.clock import Clock
from chassis.errors import StagedoorError
from deploy.servers import processes
from deploy.servers.room import disk_fault
from deploy.servers.tools import Tell

PART = ".part"
"""Ends the name of what is not whole yet."""


class NotInstalled(StagedoorError):
    """Servers that are not installed here; the message has the command that installs them."""

    code = "not_installed"

    def __init__(self, *names: str) -> None:
        super().__init__(
            f"not installed: {', '.join(names)}: run `stagedoor servers install {' '.join(names)}`"
        )


class InstallFailed(StagedoorError):
    """A server that cannot be installed; nothing of it was left behind."""

    code = "install_failed"


@dataclass(frozen=True, slots=True)
class Installed:
    """`path` is a folder of jars or one program."""

    version: str
    path: Path


class Installation(Protocol):
    """How one server gets onto this machine."""

    def find(self, cache: Path) -> Installed | None: ...

    async def install(self, cache: Path, clock: Clock, tell: Tell) -> Installed:
        """Installs it unless it is. `StagedoorError` says what is missing and what to do."""
        ...


def default_cache(environ: Mapping[str, str]) -> Path:
    """STAGEDOOR_SERVERS, or `stagedoor/servers` in the user's cache folder."""
    if given := environ.get("STAGEDOOR_SERVERS"):
        return Path(given).absolute()
    caches = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or Path.home()) / ".cache"
    return Path(caches) / "stagedoor" / "servers"


async def install_once(
    folder: Path, clock: Clock, needs_free: int, fill: Callable[[Path], Awaitable[None]]
) -> None:
    """Lets `fill` make `folder` under another name, then renames it.

    A folder that exists is whole. Two who install the same take turns. What one that was killed has
    left running in its place is ended. `needs_free` is in bytes.
    """
    _make(folder.parent)
    with _turn(folder) as take:
        while not take():
            await clock.sleep(0.2)
        if folder.exists():
            return
        if full := disk_fault(folder.parent, needs_free, "STAGEDOOR_SERVERS"):
            raise InstallFailed(full)
        part = folder.with_name(folder.name + PART)
        await processes.clear(part, clock)
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            await fill(part)
            part.rename(folder)
        except OSError as fault:
            raise InstallFailed(f"{fault.filename or folder}: {fault.strerror}") from None
        finally:
            shutil.rmtree(part, ignore_errors=True)


def at_work(folder: Path) -> bool:
    """Whether somebody is installing it now."""
    try:
        with _turn(folder) as take:
            return not take()
    except InstallFailed:
        return True


@contextmanager
def _turn(folder: Path) -> Iterator[Callable[[], bool]]:
    try:
        lock = os.open(folder.with_name(folder.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o640)
    except OSError as fault:
        raise _unwritable(fault) from None

    def take() -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        yield take
    finally:
        os.close(lock)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise _unwritable(fault) from None


def _unwritable(fault: OSError) -> InstallFailed:
    return InstallFailed(
        f"{fault.filename}: {fault.strerror}: set STAGEDOOR_SERVERS to a folder that can be written"
    )
