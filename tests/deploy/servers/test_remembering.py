"""What becomes of servers when a launcher is killed, its memory is lost, or two come at once."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from deploy.servers import Servers, processes
from deploy.servers.folders import Folders
from deploy.servers.processes import NOBODY
from deploy.servers.state import ServerState
from tests.deploy.servers.conftest import NEVER_READY, Script
from tests.support import real
from tests.support.system import ROOT, eventually, stagedoor


async def test_down_stops_also_what_no_file_knows_of(
    home: Path, redis: real.RealServer, servers: Servers
) -> None:
    (home / "servers" / "state.json").unlink()
    await servers.down()
    assert list(processes.marked(home)) == []


@pytest.mark.slow
def test_a_launcher_that_is_killed_leaves_no_process_that_others_do_not_find(
    home: Path, script: Script
) -> None:
    """It is killed as soon as there is a process, before or after it has remembered it."""
    script("redis-server", NEVER_READY)
    command = [sys.executable, "-m", "deploy.cli", "servers", "up", "redis", "--home", str(home)]
    launcher = subprocess.Popen(command, cwd=ROOT)
    started = eventually(lambda: processes.instances(home), within=20, what="a started server")
    launcher.kill()
    launcher.wait()
    forget(home, "redis")
    (one,) = json.loads(stagedoor(home, "servers", "status", "--json").stdout)
    assert (one["pid"], one["status"]) == (started["redis"].pid, "unready")
    assert stagedoor(home, "servers", "down", "redis").stdout == "stopped redis\n"


def forget(home: Path, name: str) -> None:
    """As if the launcher had been killed between starting and remembering it."""
    remembered = Folders(home).state
    state = remembered.read()[name]
    nobody = [msgspec.structs.replace(one, process=NOBODY) for one in state.instances]
    remembered.write(name, msgspec.structs.replace(state, instances=nobody))


async def test_up_goes_on_with_what_a_killed_launcher_has_started(
    home: Path, redis: real.RealServer, servers: Servers
) -> None:
    forget(home, "redis")
    running = (await servers.up(["redis"]))["redis"]
    assert (running.pid, running.url) == (redis.pid, redis.url)


@pytest.mark.slow
def test_a_damaged_memory_keeps_nobody_from_stopping_what_runs(
    home: Path, redis: real.RealServer
) -> None:
    state = home / "servers" / "state.json"
    state.write_text("{")
    refused = stagedoor(home, "servers", "up", "redis")
    assert refused.returncode == 2 and "stagedoor servers down" in refused.stderr
    done = stagedoor(home, "servers", "down", "redis")
    assert (done.returncode, done.stdout) == (0, "stopped redis\n")
    assert "found by its mark" in done.stderr and str(state) in done.stderr
    assert list(processes.marked(home)) == []
    state.unlink()


async def test_one_that_carries_no_name_is_stopped_as_it_is_remembered(
    home: Path, redis: real.RealServer, servers: Servers
) -> None:
    """As an older launcher has started it."""
    redis.stop()
    nameless = processes.spawn(["sleep", "1000"], {}, home, home / "log", home)
    remembered = Folders(home).state
    (one,) = remembered.read()["redis"].instances
    remembered.write("redis", ServerState([msgspec.structs.replace(one, process=nameless)]))
    assert await servers.down(["redis"]) == ["redis"]
    assert not processes.is_alive(nameless)


async def test_no_other_command_slips_in_while_one_restarts(
    home: Path, redis: real.RealServer, servers: Servers
) -> None:
    """Who waits for the lock gets it when the new process answers."""
    os.kill(redis.pid, signal.SIGSTOP)
    restarted = asyncio.ensure_future(servers.restart("redis"))
    lock = os.open(home / "servers" / "lock", os.O_RDWR)
    try:
        await asyncio.to_thread(eventually, lambda: held(lock), what="the lock of the restart")
        waiting = asyncio.ensure_future(asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX))
        os.kill(redis.pid, signal.SIGCONT)
        await waiting
        assert [one.status for one in await servers.status()] == ["up"]
    finally:
        os.close(lock)
    assert (await restarted).pid != redis.pid


def held(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(lock, fcntl.LOCK_UN)
    return False
