"""Servers that a killed session of tests has left are ended by the next one, and no others."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.servers import processes
from deploy.servers.processes import Identity
from tests.support import real
from tests.support.system import eventually


@contextmanager
def session(folder: Path, number: int, pid: int) -> Iterator[Identity]:
    """A server below the temporary directory of a session of tests, which is process `pid`."""
    base = folder / "pytest-of-somebody" / f"pytest-{number}"
    home = base / "popen-gw0" / "test0" / "home"
    home.mkdir(parents=True)
    (base / ".lock").write_text(str(pid), encoding="ascii")
    server = processes.spawn(["sleep", "1000"], {}, home, home / "log", home, "redis")
    try:
        eventually(lambda: processes.instances(home), what="the mark")
        yield server
    finally:
        processes.send(server, signal.SIGKILL)


def ended() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_what_a_killed_session_has_left_is_ended_and_what_others_use_goes_on(
    tmp_path: Path,
) -> None:
    with (
        session(tmp_path, 1, ended()) as abandoned,
        session(tmp_path, 2, os.getpid()) as used,
    ):
        real.sweep()
        assert not processes.is_alive(abandoned)
        assert processes.is_alive(used)


def test_what_runs_outside_of_tests_is_left_alone(tmp_path: Path) -> None:
    server = processes.spawn(["sleep", "1000"], {}, tmp_path, tmp_path / "log", Path("/srv/home"))
    try:
        eventually(
            lambda: any(one.process == server for one in processes.every_marked()), what="the mark"
        )
        real.sweep()
        assert processes.is_alive(server)
    finally:
        processes.send(server, signal.SIGKILL)
