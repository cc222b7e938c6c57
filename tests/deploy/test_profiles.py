"""The profile `real`: on servers that it starts, or not at all."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import structs

from chassis.clock import SYSTEM
from deploy.backing import NAMES, Backing
from deploy.home import Home
from deploy.profiles import of_profile
from deploy.servers import processes
from tests.support import real
from tests.support.system import ROOT

BROKEN_JAVA = """#!/bin/sh
[ "$1" = -version ] && echo 'openjdk version "17.0.1"' && exit
echo "this disk was formatted for something else"; exit 1
"""


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
    done = up_real(home, elsewhere("cache", "log"), path=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "this disk was formatted for something else" in done.stderr
    assert done.stderr.count("stagedoor: ") == 1
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert list(processes.marked(home)) == []
    assert not Home(home).is_running()


def up_real(
    home: Path, given: Backing, *flags: str, path: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """`stagedoor up --profile real`, which must end by itself; programs in `path` come first."""
    environ = {**os.environ, **given.environ(), "STAGEDOOR_HOME": str(home)}
    environ["PATH"] = f"{path}:{environ['PATH']}"
    environ.pop("JAVA_HOME", None)
    ports = ["--port", "0", "--admin-port", "0"]
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", "up", "--profile", "real", "--json", *ports, *flags],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_a_home_in_use_is_told_before_any_server_is_started(home: Path) -> None:
    first = Home(home)
    first.prepare(SYSTEM)
    first.write_state({"pid": 4711, "gateway": "http://127.0.0.1:8080"})
    done = up_real(home, elsewhere("cache"))
    assert "a system is already running here (pid 4711" in done.stderr
    assert done.returncode == 2 and not (home / "servers").exists()
    first.close()


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--port", "--admin-port"])
def test_a_taken_port_is_told_before_any_server_is_started(home: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = up_real(home, elsewhere("cache"), flag, port)
    assert port in done.stderr and done.stderr.count("stagedoor: ") == 1
    assert done.returncode == 2 and not (home / "servers").exists()
    assert not Home(home).is_running()


@pytest.mark.slow
def test_a_home_that_cannot_be_written_is_told_once(home: Path) -> None:
    home.write_bytes(b"a file")
    done = up_real(home, elsewhere("cache"))
    assert done.stderr.count("stagedoor: ") == 1 and "Not a directory" in done.stderr
    assert done.returncode == 2
