"""Processes that outlive their starter, and are never mistaken for another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chassis.clock import SYSTEM
from deploy.servers import processes
from deploy.servers.processes import NOBODY, Identity
from tests.support.system import eventually

FORKS = "import os, time; print(os.fork() or os._exit(0), flush=True); time.sleep(1000)"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Whatever is started as a server of this directory is gone after the test."""
    yield tmp_path
    for one in list(processes.marked(tmp_path)):
        os.kill(one.pid, signal.SIGKILL)


def spawn(home: Path, *command: str) -> Identity:
    return processes.spawn(command, {}, home, home / "log", home)


def test_a_process_lives_until_it_is_ended(home: Path) -> None:
    process = spawn(home, "sleep", "1000")
    assert processes.is_alive(process)
    assert processes.rss(process) > 0


async def test_ending_it_leaves_nothing(home: Path) -> None:
    process = spawn(home, "sleep", "1000")
    await processes.end(process, SYSTEM, 10.0)
    assert not processes.is_alive(process)
    assert not os.access(f"/proc/{process.pid}", os.F_OK)
    assert processes.rss(process) == 0


async def test_one_that_heeds_nothing_is_killed_after_a_while(home: Path) -> None:
    process = spawn(home, "sh", "-c", 'trap "" TERM; echo deaf; while :; do sleep 1000; done')
    eventually(lambda: "deaf" in (home / "log").read_text(), what="the trap")
    await processes.end(process, SYSTEM, 0.05)
    assert not processes.is_alive(process)


async def test_one_that_the_kernel_keeps_is_not_waited_for_for_ever(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = spawn(home, "sleep", "1000")
    monkeypatch.setattr(processes, "_KILLED_S", 0.05)
    monkeypatch.setattr(processes, "send", lambda process, number: None)
    with pytest.raises(processes.StillThere, match=f"process {process.pid} does not end"):
        await processes.kill(process, SYSTEM)


async def test_a_reused_pid_is_not_taken_for_it(home: Path) -> None:
    other = spawn(home, "sleep", "1000")
    former = Identity(other.pid, other.started - 1)
    assert not processes.is_alive(former)
    await processes.end(former, SYSTEM, 0.1)
    await processes.kill(former, SYSTEM)
    assert processes.is_alive(other)


def test_the_remains_of_somebody_elses_child_are_not_alive(home: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", FORKS], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        eventually(lambda: processes.identity(child) is None, what="the end of the child")
        assert Path(f"/proc/{child}").exists()
    finally:
        parent.kill()
        parent.communicate()


def test_nobody_is_not_alive() -> None:
    assert not processes.is_alive(NOBODY)
    assert processes.identity(0) is None


def test_of_our_environment_it_has_what_a_server_needs(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-Xint")
    monkeypatch.setenv("STAGEDOOR_PASSWORD", "ours")
    spawn(home, "sh", "-c", "env; echo done")
    eventually(lambda: "done" in (home / "log").read_text(), what="its environment")
    told = (home / "log").read_text().splitlines()
    assert "JDK_JAVA_OPTIONS=-Xint" in told
    assert not [line for line in told if line.startswith("STAGEDOOR_PASSWORD")]


def test_it_is_in_a_session_of_its_own_and_heeds_signals(home: Path) -> None:
    process = spawn(home, "sleep", "1000")
    eventually(lambda: os.getsid(process.pid) == process.pid, what="its own session")


def test_a_process_of_a_directory_is_found_without_any_file(home: Path) -> None:
    process = spawn(home, "sleep", "1000")
    eventually(lambda: process in set(processes.marked(home)), what="the mark")
    assert list(processes.marked(home.parent)) == []


def test_an_instance_is_found_and_not_what_it_started_itself(home: Path) -> None:
    forks = [sys.executable, "-c", "import os, time; os.fork(); time.sleep(1000)"]
    process = processes.spawn(forks, {}, home, home / "log", home, "redis")
    eventually(lambda: len(list(processes.marked(home))) == 2, what="its child")
    assert processes.instances(home) == {"redis": process}


def test_what_it_says_is_in_its_log_and_it_is_told_nothing_of_our_environment(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    spawn(home, "sh", "-c", "pwd; env; echo failed >&2; echo whole")
    log = eventually(
        lambda: text if "whole" in (text := (home / "log").read_text()) else None, what="the log"
    )
    assert log.startswith(str(home)) and "failed" in log and "hunter2" not in log


def test_a_log_that_grew_too_long_is_put_aside(home: Path) -> None:
    with (home / "log").open("wb") as log:
        log.truncate(processes.LOG_LIMIT + 1)
    spawn(home, "true")
    assert (home / "log.1").stat().st_size > processes.LOG_LIMIT
