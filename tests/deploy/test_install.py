"""The command that an installation leaves behind really runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.install import ROOT, install


@pytest.fixture(params=["plain", "with space", "long" * 40], ids=["plain", "spaced", "long"])
def python(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An interpreter at a path that is hard to write into a first line."""
    folder = tmp_path / request.param
    folder.mkdir()
    python = folder / "python"
    python.symlink_to(sys.executable)
    return python


def environ(packages: Path) -> dict[str, str]:
    """What a `.pth` file does, for a folder that is not among the interpreter's own."""
    lines = (packages / "stagedoor.pth").read_text(encoding="utf-8").split("\n")
    own = [path for path in sys.path if "site-packages" in path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*lines[:-1], *own])}


@pytest.mark.slow
def test_the_installed_command_runs(python: Path, tmp_path: Path) -> None:
    command = install(python, tmp_path, tmp_path)
    done = subprocess.run(
        [command, "--help"],
        cwd="/",
        env=environ(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ingest" in done.stdout or "up" in done.stdout


def test_the_packages_stay_where_the_checkout_is(tmp_path: Path) -> None:
    install(Path(sys.executable), tmp_path, tmp_path)
    assert (tmp_path / "stagedoor.pth").read_text() == f"{ROOT}\n"
    assert (ROOT / "deploy" / "cli.py").exists()


def test_installing_again_changes_nothing(tmp_path: Path) -> None:
    first = install(Path(sys.executable), tmp_path, tmp_path).read_bytes()
    assert install(Path(sys.executable), tmp_path, tmp_path).read_bytes() == first
