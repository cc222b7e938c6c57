"""The profile `real`: on servers that it starts, or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from deploy.backing import NAMES, Backing
from deploy.profiles import of_profile
from deploy.servers import processes
from tests.support import real
from tests.support.system import ROOT

BROKEN_JAVA = """#!/bin/sh
[ "$1" = -version ] && echo 'openjdk version "17.0.1"' && exit
echo "this disk was formatted for something else"; exit 1
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Whatever a test leaves running in this directory is killed, and fails the test."""
    folder = tmp_path / "home"
    yield folder
    left = list(processes.marked(folder))
    for one in left:
        os.kill(one.pid, signal.SIGKILL)
    assert left == []


def elsewhere(*but: str) -> Backing:
    return Backing(**{name: f"{name}://elsewhere" for name in NAMES if name not in but})


def quiet(line: str) -> None:
    pass


@pytest.mark.slow
def test_it_stands_on_the_servers_that_it_started(home: Path) -> None:
    real.require("redis")
    found = of_profile("real", elsewhere("cache"), home, quiet)
    redis = real.own("redis", home)
    try:
        assert found.cache == redis.url
        assert found.log == "log://elsewhere"
    finally:
        redis.stop()


def test_on_a_consul_that_others_use_too_it_has_a_prefix_of_its_own(tmp_path: Path) -> None:
    given = structs.replace(elsewhere(), registry="consul://shared:8500")
    found = {of_profile("real", given, tmp_path / name, quiet).registry for name in "ab"}
    assert len(found) == 2 and all("prefix=stagedoor-" in one for one in found)
    chosen = structs.replace(given, registry="consul://shared:8500?prefix=stage")
    assert of_profile("real", chosen, tmp_path, quiet) == chosen


@pytest.mark.slow
def test_a_server_that_cannot_start_ends_it_and_leaves_nothing_running(
    tmp_path: Path, home: Path
) -> None:
    """Redis starts beside Kafka, and is stopped again; the system does not begin without."""
    for name in ("kafka", "redis"):
        real.require(name)
    java = tmp_path / "java"
    java.write_text(BROKEN_JAVA, encoding="utf-8")
    java.chmod(0o755)
    given = elsewhere("cache", "log").environ()
    environ = {**os.environ, **given, "STAGEDOOR_HOME": str(home)}
    environ["PATH"] = f"{tmp_path}:{environ['PATH']}"
    environ.pop("JAVA_HOME", None)
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli", "up", "--profile", "real", "--json"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "this disk was formatted for something else" in done.stderr
    assert "the servers could not be started: see above" in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert list(processes.marked(home)) == []
    assert not (home / "run").exists()
