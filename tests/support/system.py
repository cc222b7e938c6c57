"""The whole system in processes of its own, on free ports and a temporary state directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


class System:
    """A running system; `stagedoor` runs one command of the command line against it."""

    def __init__(self, process: subprocess.Popen[str], where: dict[str, Any], home: Path) -> None:
        self.process = process
        self.where = where
        self.home = home
        self.gateway: str = where["gateway"]

    def stagedoor(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return stagedoor(self.home, *arguments, timeout=timeout)

    def ask(self, *arguments: str, timeout: float = 60) -> Any:
        """The JSON answer of a command that must succeed."""
        done = self.stagedoor(*arguments, "--json", timeout=timeout)
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)

    def processes(self) -> dict[str, dict[str, Any]]:
        return {one["instance"]: one for one in self.ask("ps")}

    def targets(self) -> list[dict[str, Any]]:
        return json.loads((self.home / "prometheus" / "targets.json").read_text())


def stagedoor(home: Path, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, "STAGEDOOR_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@contextmanager
def running(home: Path, *flags: str, ready_s: float = 60) -> Iterator[System]:
    """Starts the system; on leaving it is told to drain, and must end by itself with status 0."""
    command = [sys.executable, "-m", "deploy.cli", "up", "--json", "--port", "0"]
    command += ["--registry-port", "0", "--admin-port", "0", *flags]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "STAGEDOOR_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else "it ended"
        yield System(process, json.loads(line), home)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            out, err = process.communicate(timeout=40)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, out + err


def eventually(
    look: Callable[[], T | None], *, within: float = 10.0, what: str = "the condition"
) -> T:
    """The first truthy value that `look` returns; fails when none comes in time."""
    give_up = time.monotonic() + within
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < give_up, f"{what} did not come within {within} s"
        time.sleep(0.05)


def memory_pss(pids: Sequence[int]) -> int:
    """Bytes of memory of these processes, shared pages divided among those who share them."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def children(pid: int) -> list[int]:
    """Every descendant of a process."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *children(int(child))]
    return found
