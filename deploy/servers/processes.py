"""Processes that outlive the command that starts them, known by pid and start time together.

A pid alone is used again by the kernel for another process; a pid and its start time are not.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from chassis.clock import Clock
from chassis.errors import StagedoorError

MARK, INSTANCE = "STAGEDOOR_SERVERS_HOME", "STAGEDOOR_SERVERS_INSTANCE"
"""Variables in the environment of every server: whose it is, and which instance. A launcher that is
killed before it has remembered what it started still finds it by them the next time."""
LOG_LIMIT = 16 << 20
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "JAVA_HOME", "JDK_JAVA_OPTIONS")
_TICK_S = 0.02
_KILLED_S = 60.0
"""What the kernel may take to clear a killed process away: one that waits for a disk stays."""
_STATE, _THREADS, _STARTED = 0, 17, 19
"""In /proc/PID/stat, counted after the name."""


class Identity(NamedTuple):
    """`started` is in clock ticks since the machine started; pid 0 is no process."""

    pid: int
    started: int


NOBODY = Identity(0, 0)


class StillThere(StagedoorError):
    """A process that was killed and has not ended."""

    code = "still_there"


class Marked(NamedTuple):
    """A process that was started as a server, whatever any file says."""

    home: Path
    instance: str
    process: Identity


def spawn(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    folder: Path,
    log: Path,
    home: Path,
    instance: str = "",
) -> Identity:
    """Starts a program in `folder`, in a session of its own, as an instance of a server of `home`;
    its output is appended to `log`."""
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_name(log.name + ".1"))
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", 'cd "$0" && exec "$@"', str(folder), *arguments],
        {**inherited, **environ, MARK: str(home), INSTANCE: instance},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGINT, signal.SIGPIPE, signal.SIGTERM],
    )
    return identity(pid) or Identity(pid, 0)


def identity(pid: int) -> Identity | None:
    """Of a process that runs; None when there is none, or only its remains.

    While a killed process has threads left it still holds its ports, though its state is Z.
    """
    _bury(pid)
    fields = _stat(pid)
    if fields is None or (fields[_STATE] in "ZX" and int(fields[_THREADS]) <= 1):
        return None
    return Identity(pid, int(fields[_STARTED]))


def is_alive(process: Identity) -> bool:
    return process.pid > 0 and identity(process.pid) == process


def rss(process: Identity) -> int:
    """Bytes of memory it has; 0 when it does not run."""
    try:
        statm = Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE") if is_alive(process) else 0


def marked(home: Path) -> Iterator[Identity]:
    """Every process that was started as a server of `home`, and what it started itself."""
    return (one.process for one in every_marked() if one.home == home)


def instances(home: Path) -> dict[str, Identity]:
    """The instances of `home` that run: each leads a session, what it started itself does not."""
    return {
        one.instance: one.process
        for one in every_marked()
        if one.home == home and _leads(one.process.pid)
    }


def every_marked() -> Iterator[Marked]:
    """Of all state directories; of other users only what may be seen."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            environ = _environ(entry)
            found = identity(int(entry.name)) if MARK in environ else None
            if found:
                yield Marked(Path(environ[MARK]), environ.get(INSTANCE, ""), found)


def _environ(process: Path) -> dict[str, str]:
    text = os.fsdecode((process / "environ").read_bytes())
    return {name: value for name, _, value in (one.partition("=") for one in text.split("\0"))}


def _leads(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid) == pid
    return False


def send(process: Identity, number: signal.Signals) -> None:
    """A signal to this process and to no other that has its pid by now."""
    if is_alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


async def end(process: Identity, clock: Clock, patience_s: float) -> bool:
    """SIGTERM, then SIGKILL when it has not gone in time; it is gone on return, as of `kill`.
    Whether it went by itself."""
    send(process, signal.SIGTERM)
    in_time = await _gone(process, clock, patience_s)
    if not in_time:
        await kill(process, clock)
    return in_time


async def kill(process: Identity, clock: Clock) -> None:
    """SIGKILL; it is gone on return. `StillThere` when the kernel keeps it."""
    send(process, signal.SIGKILL)
    if not await _gone(process, clock, _KILLED_S):
        raise StillThere(
            f"process {process.pid} does not end, though it was killed: it waits for the kernel,"
            " most likely for a disk; look at `ps -o stat,wchan` of it"
        )


async def clear(home: Path, clock: Clock) -> None:
    """`kill` for everything that was started as a server of `home`, and for what it starts until it
    is gone."""
    while left := list(marked(home)):
        for process in left:
            await kill(process, clock)


async def _gone(process: Identity, clock: Clock, patience_s: float) -> bool:
    give_up = clock.monotonic() + patience_s
    while is_alive(process):
        if clock.monotonic() > give_up:
            return False
        await clock.sleep(_TICK_S)
    return True


def _stat(pid: int) -> list[str] | None:
    """The fields after the name, which may itself hold spaces and brackets."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _bury(pid: int) -> None:
    """Takes the status of a child of ours that has ended; others' children are not ours to wait
    for."""
    if pid > 0:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
