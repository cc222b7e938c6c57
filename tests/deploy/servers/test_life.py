"""The life of servers: started, killed, restarted, stopped, and undone when it goes wrong.

Redis is quick enough to stand for all; each real server has its turn at the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chassis.errors import ConfigurationFault, NotFound
from deploy.servers import (
    NAMES,
    NotInstalled,
    Servers,
    StartFailed,
    default_cache,
    processes,
)
from deploy.servers.kinds import servers as kinds
from tests.deploy.servers.conftest import NEVER_READY, Script
from tests.support import real, scripted
from tests.support.needs import must
from tests.support.ports import free_port
from tests.support.removals import half_removed
from tests.support.system import ROOT, eventually, stagedoor

ENDS = '[ "$1" = --version ] && echo v=7.0 && exit; echo "bad directive at line 3"; exit 1'


async def test_it_outlives_its_starter_and_is_found_by_another(
    home: Path, redis: real.RealServer, servers: Servers
) -> None:
    (one,) = await servers.status()
    assert (one.name, one.status, one.pid) == ("redis", "up", redis.pid)
    assert one.rss > 0 and one.ready_s > 0 and one.url == redis.url
    assert os.getsid(redis.pid) == redis.pid


async def test_up_leaves_alone_what_runs(redis: real.RealServer, servers: Servers) -> None:
    before = redis.pid
    assert (await servers.up(["redis"]))["redis"].pid == before


async def test_a_killed_one_is_down_and_comes_back_on_its_port(
    redis: real.RealServer, servers: Servers
) -> None:
    url, pid = redis.url, redis.pid
    assert await servers.kill("redis") == [pid]
    (one,) = await servers.status()
    assert (one.status, one.pid, one.rss) == ("down", 0, 0)
    again = await servers.restart("redis")
    assert again.url == url and again.pid != pid


def test_what_runs_is_read_and_what_does_not_is_said(
    redis: real.RealServer, servers: Servers
) -> None:
    assert servers.running(["redis"])["redis"].url == redis.url
    with pytest.raises(NotFound, match=r"not running in .*: consul, s3: .*servers up consul s3"):
        servers.running(["s3", "redis", "consul"])
    redis.kill()
    with pytest.raises(NotFound, match=r"not running in .*: redis"):
        servers.running(["redis"])


async def test_what_was_temporary_to_a_killed_one_is_gone(
    home: Path, redis: real.RealServer
) -> None:
    left = home / "servers" / "redis" / "redis" / "tmp" / "unpacked" / "native.so"
    left.parent.mkdir()
    left.touch()
    redis.kill()
    redis.start()
    assert not left.parent.exists() and left.parent.parent.is_dir()


@pytest.mark.slow
async def test_one_that_hangs_is_not_ready(redis: real.RealServer, servers: Servers) -> None:
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        (one,) = await servers.status()
    finally:
        os.kill(redis.pid, signal.SIGCONT)
    assert one.status == "unready" and "no answer" in one.why


async def test_a_port_taken_by_another_is_refused(
    tmp_path: Path, redis: real.RealServer, servers: Servers
) -> None:
    port = int(redis.url.rpartition(":")[2].partition("/")[0])
    other = Servers(tmp_path / "other", default_cache(os.environ))
    with pytest.raises(ConfigurationFault, match=f"port {port} of 127.0.0.1 is taken"):
        await other.up(["redis"], ports={"redis": port})
    assert not list((tmp_path / "other").rglob("state.json"))


async def test_two_directories_run_side_by_side(tmp_path: Path, redis: real.RealServer) -> None:
    other = Servers(tmp_path / "other", default_cache(os.environ))
    beside = (await other.up(["redis"]))["redis"]
    assert await other.down() == ["redis"]
    assert beside.pid != redis.pid and beside.url != redis.url
    assert processes.identity(redis.pid) is not None


async def test_what_was_never_started_is_said(servers: Servers) -> None:
    assert await servers.status() == [] and await servers.down() == []
    with pytest.raises(NotFound, match="was never started"):
        await servers.kill("redis")
    with pytest.raises(NotFound, match=r"redis was never started.*servers up redis`"):
        servers.log_files("redis-9")
    with pytest.raises(ConfigurationFault, match="no server 'mysql'"):
        await servers.restart("mysql")


def test_an_instance_that_there_is_not_is_said_with_those_there_are(
    redis: real.RealServer, servers: Servers
) -> None:
    with pytest.raises(NotFound, match=r"there is no redis-9 in .*, but redis$"):
        servers.log_files("redis-9")


def test_all_that_is_not_installed_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(NotInstalled, match=r"not installed: kafka, s3: .* install kafka s3`"):
        asyncio.run(Servers(tmp_path / "home", tmp_path / "cache").up(["s3", "kafka"]))
    assert not (tmp_path / "home").exists()


async def test_a_password_is_used_and_not_shown(home: Path, servers: Servers) -> None:
    real.require("redis")
    running = (await servers.up(["redis"], auth=["redis"]))["redis"]
    (one,) = await servers.status()
    await servers.down()
    assert one.status == "up"
    assert ":***@" in one.url and ":***@" not in running.url


async def test_one_that_ends_while_starting_shows_the_end_of_its_log(
    script: Script, servers: Servers
) -> None:
    script("redis-server", ENDS)
    with pytest.raises(StartFailed, match="bad directive at line 3"):
        await servers.up(["redis"])


async def test_one_whose_port_was_taken_while_it_started_is_told_so(
    tmp_path: Path, script: Script, servers: Servers
) -> None:
    version, port = '[ "$1" = --version ] && echo v=7.0 && exit', free_port()
    begun, end = tmp_path / "begun", tmp_path / "end"
    script(
        "redis-server",
        f"{version}; touch {begun}; while [ ! -e {end} ]; do sleep 0.02; done; exit 1",
    )
    starting = asyncio.create_task(servers.up(["redis"], ports={"redis": port}))
    await scripted.eventually(begun.exists)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        end.touch()
        with pytest.raises(
            StartFailed, match=f"has taken port {port} of 127.0.0.1 .*--port redis="
        ):
            await starting


async def test_when_one_fails_the_new_ones_are_stopped_and_the_old_ones_go_on(
    script: Script, redis: real.RealServer, servers: Servers
) -> None:
    script("prometheus", ENDS)
    with pytest.raises(StartFailed):
        await servers.up(["redis", "prometheus"])
    listed = {one.name: one.status for one in await servers.status()}
    assert listed == {"redis": "up", "prometheus": "down"}
    assert processes.identity(redis.pid) is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_an_interrupted_start_leaves_no_process(
    home: Path, script: Script, number: signal.Signals, status: int
) -> None:
    script("redis-server", NEVER_READY)
    command = [sys.executable, "-m", "deploy.cli", "servers", "up", "redis", "--home", str(home)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    eventually(lambda: list(processes.marked(home)), within=20, what="a started server")
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == status, err.decode()
    assert b"Traceback" not in err
    assert list(processes.marked(home)) == []


@pytest.mark.slow
def test_the_command_line_goes_through_a_whole_life(home: Path) -> None:
    real.require("redis")
    up = stagedoor(home, "servers", "up", "redis")
    assert up.returncode == 0, up.stderr
    assert up.stdout.splitlines()[1].split()[:3:2] == ["redis", "up"]
    assert up.stderr == ""
    killed = stagedoor(home, "servers", "kill", "redis", "--json")
    assert len(json.loads(killed.stdout)["killed"]) == 1
    again = stagedoor(home, "servers", "kill", "redis")
    assert again.returncode == 1 and "stagedoor servers up redis" in again.stderr
    (one,) = json.loads(stagedoor(home, "servers", "restart", "redis", "--json").stdout)
    assert one["status"] == "up"
    logs = json.loads(stagedoor(home, "servers", "logs", "redis", "--json", "--lines", "3").stdout)
    assert len(logs["redis"]) == 3
    down = stagedoor(home, "servers", "down")
    assert down.stdout == "stopped redis\n"
    assert stagedoor(home, "servers", "down").stdout == "nothing was running\n"


@pytest.mark.slow
def test_a_shell_can_take_over_where_the_servers_are(home: Path, redis: real.RealServer) -> None:
    said = stagedoor(home, "servers", "environ").stdout
    shell = ["sh", "-c", f'{said}\nprintf %s "$STAGEDOOR_CACHE"']
    told = subprocess.run(shell, capture_output=True, text=True, check=True).stdout
    assert told == redis.url
    redis.kill()
    done = stagedoor(home, "servers", "environ", "--json")
    assert json.loads(done.stdout) == {} and "stays embedded" in done.stderr


@pytest.mark.slow
def test_the_command_line_says_what_makes_no_sense(home: Path) -> None:
    for arguments, said in (
        (["up", "mysql"], "there is no server 'mysql'"),
        (["up", "redis", "--port", "redis"], "write NAME=PORT"),
        (["up", "kafka", "--brokers", "4"], "runs as 1 to 3 instances, not 4"),
        (["logs", "redis", "--follow", "--json"], "--json has an end"),
    ):
        done = stagedoor(home, "servers", *arguments)
        assert done.returncode == 2 and said in done.stderr, done.stderr
    assert not (home / "servers" / "state.json").exists()


def test_data_in_use_is_not_removed(home: Path, redis: real.RealServer) -> None:
    done = subprocess.run(
        ["make", "clean-data"],
        cwd=ROOT,
        env={**os.environ, "STAGEDOOR_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0 and "stagedoor servers down" in done.stderr
    assert home.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
async def test_every_server_lives_dies_and_comes_back(
    home: Path, servers: Servers, name: str
) -> None:
    started = real.own(name, home)
    try:
        first = started.url, started.pid
        assert unpacked(started.pid, besides=(home, default_cache(os.environ))) == []
        assert maps_its_classes(started.pid) is await keeps_classes(name)
        started.kill()
        assert (await servers.status())[0].status == "down"
        hit_while_removing(home)
        started.start()
        assert started.url == first[0] and started.pid != first[1]
        assert (await servers.status())[0].status == "up"
    finally:
        started.stop()
    assert list(processes.marked(home)) == []


def hit_while_removing(home: Path) -> None:
    """What a kill leaves of a Cassandra between two files that it removes: no kill of a test's is
    quick enough."""
    for table in home.glob("servers/cassandra/cassandra/data/system/local-*"):
        half_removed(table)


async def keeps_classes(name: str) -> bool:
    """Whether its installation has kept classes for it. In CI a server on Java has to."""
    installed = Servers(Path(), default_cache(os.environ)).installed([name])[name]
    assert installed is not None
    archive = await kinds([name])[name].archive(installed)
    kept = archive is not None and archive.exists()
    assert kept or not must() or name not in real.ON_JAVA
    return kept


def maps_its_classes(pid: int) -> bool:
    """Whether it took those that its installation has kept."""
    cache = str(default_cache(os.environ))
    return any(one.startswith(cache) and one.endswith(".jsa") for one in mapped(pid))


def mapped(pid: int) -> set[str]:
    lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
    return {line.split(maxsplit=5)[5] for line in lines if line.count("/")}


def unpacked(pid: int, *, besides: tuple[Path, ...]) -> list[str]:
    """What a process has mapped that a killed one would leave in a common temporary folder."""
    common = ("/tmp/", "/var/tmp/", f"{Path.home()}/.cache/JNA/")
    ours = tuple(f"{folder}/" for folder in besides)
    return sorted(one for one in mapped(pid) if one.startswith(common) and not one.startswith(ours))
