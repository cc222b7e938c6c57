"""The whole system without its head: whoever of the two on top is killed, nobody stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.system import ROOT, children, eventually, stagedoor
from tests.support.zygotes import alive

pytestmark = pytest.mark.system

ENDS_S = 30.0


class Family:
    """The zygote, the supervisor that it forked, and all other processes of a system."""

    def __init__(self, zygote: subprocess.Popen[str], supervisor: int) -> None:
        self.zygote = zygote
        self.supervisor = supervisor
        self.all = [zygote.pid, *children(zygote.pid)]

    def anyone(self) -> bool:
        self.zygote.poll()
        return any(alive(pid) for pid in self.all)


@contextmanager
def family(home: Path) -> Iterator[Family]:
    command = [sys.executable, "-m", "deploy.cli", "up", "--json", "--port", "0"]
    command += ["--registry-port", "0", "--admin-port", "0"]
    environ = {**os.environ, "STAGEDOOR_HOME": str(home)}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    everyone = [process.pid]
    try:
        assert process.stdout is not None
        found = Family(process, json.loads(process.stdout.readline())["pid"])
        everyone = found.all
        yield found
    finally:
        for pid in everyone:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("who", ["supervisor", "zygote"])
def test_without_its_head_the_system_ends_and_can_be_started_again(
    tmp_path: Path, who: str
) -> None:
    with family(tmp_path) as system:
        assert len(system.all) > 10
        os.kill(system.supervisor if who == "supervisor" else system.zygote.pid, signal.SIGKILL)
        eventually(lambda: not system.anyone(), within=ENDS_S, what="the end of every process")
    done = stagedoor(tmp_path, "ps")
    assert done.returncode == 1 and "no system is running" in done.stderr
    with family(tmp_path) as again:
        assert again.supervisor != system.supervisor


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", "2>&1 | true"], ids=["closed", "unread"])
def test_it_runs_or_ends_as_a_whole_whatever_its_output_leads_to(
    tmp_path: Path, streams: str
) -> None:
    home = tmp_path / "home"
    command = f"{sys.executable} -m deploy.cli up --port 0 --registry-port 0 --admin-port 0"
    shell = subprocess.Popen(
        ["bash", "-c", f"{command} {streams}; echo over > {tmp_path / 'over'}"],
        cwd=ROOT,
        env={**os.environ, "STAGEDOOR_HOME": str(home)},
    )
    try:
        eventually(lambda: ready(home) or (tmp_path / "over").exists(), within=40, what="either")
        if ready(home):
            assert stagedoor(home, "down").returncode == 0
        eventually((tmp_path / "over").exists, within=40, what="the end")
        assert stagedoor(home, "ps").returncode == 1
        eventually(lambda: not of_home(home), within=5, what="the end of every process")
    finally:
        shell.kill()
        shell.wait()
        for pid in of_home(home):
            os.kill(pid, signal.SIGKILL)


def ready(home: Path) -> bool:
    try:
        state = json.loads((home / "run" / "state.json").read_bytes())
    except (OSError, ValueError):
        return False
    return bool(state["status"] == "ready")


def of_home(home: Path) -> list[int]:
    """Every living Python process that was started for this state directory."""
    mark = f"STAGEDOOR_HOME={home}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            marked = mark in (process / "environ").read_bytes().split(b"\0")
            ours = b"deploy.cli" in (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if marked and ours and alive(int(process.name)):
            found.append(int(process.name))
    return found
