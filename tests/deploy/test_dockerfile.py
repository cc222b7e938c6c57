"""deploy/Dockerfile: what its instructions do, checked without an engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.processes import fleet

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "Dockerfile"


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    text = FILE.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def of(kind: str, instructions: list[tuple[str, str]]) -> list[str]:
    return [rest for name, rest in instructions if name == kind]


@pytest.fixture
def image(instructions: list[tuple[str, str]], tmp_path: Path) -> Path:
    """The folder that the COPY instructions make."""
    for sources in of("COPY", instructions):
        source, target = sources.split()
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / target)
        else:
            (tmp_path / target).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / source, tmp_path / target)
    return tmp_path


def test_the_base_is_one_small_pinned_python(instructions):
    (base,) = of("FROM", instructions)
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base)


def test_what_is_installed_is_pinned_by_hash_and_nothing_is_built(instructions):
    (install,) = [one for one in of("RUN", instructions) if "pip install" in one]
    assert "--require-hashes" in install and "--only-binary :all:" in install
    lock = (ROOT / "requirements" / "runtime.lock").read_text(encoding="utf-8")
    packages = re.split(r"\n(?=[a-z0-9])", lock)
    assert len(packages) > 20
    assert all("--hash=sha256:" in one for one in packages if "==" in one)


def test_it_runs_as_nobody_special(instructions):
    (user,) = of("USER", instructions)
    assert user.isdigit() and int(user) >= 10_000
    order = [name for name, _ in instructions]
    assert order.index("USER") > max(i for i, name in enumerate(order) if name in ("RUN", "COPY"))


def test_what_may_enter_the_build_is_just_what_is_copied(instructions):
    lines = FILE.with_name("Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert let_in == {one.split()[0] for one in of("COPY", instructions)}
    assert lines[0] == "*"


@pytest.mark.slow
def test_every_process_can_be_imported_from_what_is_copied_alone(image):
    modules = sorted({spec.module for spec in fleet({})} | {"deploy.alone", "deploy.healthy"})
    script = (
        "import importlib\n"
        f"for name in {modules!r}:\n"
        "    print(importlib.import_module(name).__file__)\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(image)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, cwd=image, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(str(image)) for line in done.stdout.splitlines())
    assert (image / "deploy" / "rules.yaml").exists()


@pytest.mark.slow
def test_the_entry_point_is_the_command_that_the_installation_leaves(instructions, image):
    (entry,) = of("ENTRYPOINT", instructions)
    assert entry == '["stagedoor"]'
    assert any("python -m deploy.install" in one for one in of("RUN", instructions))
    environ = {**os.environ, "PYTHONPATH": str(image)}
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli", "--help"],
        cwd=image,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "run" in done.stdout and "prepare" in done.stdout
