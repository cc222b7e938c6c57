"""The command line as a process: its standard streams may be closed, full, or shut half way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import deploy
from tests.support.system import ROOT

RULES = Path(deploy.__file__).parent / "rules.yaml"
COMMAND = f"{sys.executable} -m deploy.cli"


def shell(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing_else(tmp_path: Path, closed: str) -> None:
    assert shell(f"{COMMAND} rules lint {RULES} {closed}").returncode == 0
    assert shell(f"{COMMAND} ps --home {tmp_path} {closed}").returncode == 1


@pytest.mark.slow
def test_a_start_that_began_nothing_drains_nothing(tmp_path: Path) -> None:
    ports = "--port 0 --registry-port 0 --admin-port 0"
    done = shell(f"{COMMAND} up --home {tmp_path} {ports} --tables cassandra://127.0.0.1:1")
    assert done.returncode == 2 and "cassandra://" in done.stderr
    assert done.stdout == ""


def test_a_full_disk_behind_standard_output_is_said_in_one_line() -> None:
    done = shell(f"{COMMAND} rules lint {RULES} > /dev/full")
    assert done.returncode == 1
    assert done.stderr == (
        "stagedoor: standard output cannot be written: No space left on device\n"
    )


def test_who_reads_no_further_is_no_failure_to_tell_of() -> None:
    done = shell(f"{COMMAND} rules explain GET /v1/titles --rules {RULES} | true")
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interrupt_while_the_command_is_read_leaves_no_traceback(tmp_path: Path) -> None:
    from deploy.install import install

    command = install(Path(sys.executable), tmp_path, tmp_path)
    slow = tmp_path / "deploy"
    slow.mkdir()
    (slow / "__init__.py").touch()
    (slow / "compiled.py").write_text("def use(): ...\n")
    (slow / "cli.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    done = subprocess.run(
        [command],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "")
