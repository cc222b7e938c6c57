"""What `make` does without an environment: it must not remove what is in use, or not ours."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def clean_data(home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "clean-data"],
        cwd=ROOT,
        env={**os.environ, "STAGEDOOR_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state directory as a killed system leaves it."""
    run = tmp_path / "home" / "run"
    run.mkdir(parents=True)
    for name in ("lock", "state.json", "control.sock"):
        (run / name).touch()
    return tmp_path / "home"


def test_what_a_killed_system_left_can_be_removed(home: Path) -> None:
    done = clean_data(home)
    assert done.returncode == 0, done.stderr
    assert not home.exists()


def test_what_is_in_use_is_kept(home: Path) -> None:
    with (home / "run" / "lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = clean_data(home)
    assert done.returncode != 0 and "stop it first" in done.stderr
    assert home.exists()


def test_what_is_no_state_directory_is_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = clean_data(tmp_path)
    assert done.returncode != 0 and "no state directory" in done.stderr
    assert (tmp_path / "thesis.txt").exists()


def test_what_is_not_there_needs_no_removing(tmp_path: Path) -> None:
    assert clean_data(tmp_path / "nowhere").returncode == 0


@pytest.mark.slow
def test_an_environment_that_was_cut_short_is_made_again(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    make = ["make", f"VENV={venv}", f"PYTHON={sys.executable}", "INSTALL=true", f"{venv}/.runtime"]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pip = subprocess.run([venv / "bin" / "python", "-m", "pip", "--version"], check=False)
    assert pip.returncode == 0
