"""Installing: whole or not at all, once, as pinned; scripted tools stand for the real ones."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from chassis.clock import SYSTEM
from chassis.errors import StagedoorError
from deploy.servers import NotInstalled, Servers
from deploy.servers.golang import GoProgram
from deploy.servers.installed import InstallFailed, default_cache, install_once
from deploy.servers.maven import MavenJars
from deploy.servers.tools import ToolFailed
from tests.deploy.servers.conftest import Script

JAVA_17 = """echo 'openjdk version "17.0.15" 2025-04-15' >&2"""
MAVEN = """
for argument; do case $argument in -DoutputDirectory=*) out=${argument#*=} ;; esac; done
mkdir -p "$out"; echo "Downloading https://packages.inside.example/a.jar"; printf a >"$out/a.jar"
"""
GO = """
[ "$1" = version ] && { echo go version go1.99.0 linux/amd64; exit; }
while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done
echo built >>"$RUNS"; cp go.mod "$out"
"""
DIGEST_OF_A = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"


@pytest.fixture
def jars(tmp_path: Path) -> MavenJars:
    data = tmp_path / "data"
    data.mkdir()
    (data / "pom.xml").write_text("<project/>")
    (data / "sha256").write_text(f"{DIGEST_OF_A}  a.jar\n")
    return MavenJars("jars", "1.0", data, range(17, 100))


@pytest.fixture
def program(tmp_path: Path) -> GoProgram:
    data = tmp_path / "godata"
    data.mkdir()
    (data / "go.mod").write_text("module servers\n\ngo 1.25.0\n")
    (data / "go.sum").write_text("")
    return GoProgram("program", "2.0", data, "example/program")


def left(cache: Path) -> list[str]:
    """What is in the cache besides locks."""
    return sorted(one.name for one in cache.iterdir() if not one.name.endswith(".lock"))


async def test_jars_are_fetched_checked_and_found(
    tmp_path: Path, script: Script, jars: MavenJars
) -> None:
    script("java", JAVA_17)
    script("mvn", MAVEN)
    told: list[str] = []
    cache = tmp_path / "cache"
    assert jars.find(cache) is None
    done = await jars.install(cache, SYSTEM, told.append)
    assert jars.find(cache) == done
    assert [one.name for one in done.path.iterdir()] == ["a.jar"]
    assert told == ["Downloading (address)"]
    assert left(cache) == ["jars-1.0"]


async def test_another_content_is_refused_and_named(
    tmp_path: Path, script: Script, jars: MavenJars
) -> None:
    script("java", JAVA_17)
    script("mvn", MAVEN.replace("printf a", "printf b"))
    with pytest.raises(InstallFailed, match=r"a\.jar has another content"):
        await jars.install(tmp_path / "cache", SYSTEM, print)
    assert left(tmp_path / "cache") == []


async def test_no_network_is_said_without_its_addresses(
    tmp_path: Path, script: Script, jars: MavenJars
) -> None:
    script("java", JAVA_17)
    script("mvn", "echo 'Unknown host packages.inside.example: Name or service not known'; exit 1")
    with pytest.raises(ToolFailed, match="connect to the network and try again") as failed:
        await jars.install(tmp_path / "cache", SYSTEM, print)
    assert "inside.example" not in str(failed.value)
    assert left(tmp_path / "cache") == []


async def test_a_missing_maven_is_said(tmp_path: Path, script: Script, jars: MavenJars) -> None:
    script("java", JAVA_17)
    only = tmp_path / "only"
    only.mkdir()
    (tmp_path / "bin" / "java").rename(only / "java")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(only))
        (only / "sh").symlink_to("/bin/sh")
        with pytest.raises(ToolFailed, match="apt-get install maven"):
            await jars.install(tmp_path / "cache", SYSTEM, print)


@pytest.mark.usefixtures("bare_path")
async def test_a_missing_java_is_said(tmp_path: Path, jars: MavenJars) -> None:
    with pytest.raises(ToolFailed, match="needs Java 17 or newer and there is none"):
        await jars.install(tmp_path / "cache", SYSTEM, print)


async def test_an_old_java_is_said(tmp_path: Path, script: Script, jars: MavenJars) -> None:
    script("java", """echo 'openjdk version "11.0.2"' >&2""")
    with pytest.raises(ToolFailed, match=r"needs Java 17 or newer and .* is 11: install it"):
        await jars.install(tmp_path / "cache", SYSTEM, print)


@pytest.mark.usefixtures("bare_path")
async def test_a_missing_go_is_said(tmp_path: Path, program: GoProgram) -> None:
    with pytest.raises(ToolFailed, match="apt-get install golang"):
        await program.install(tmp_path / "cache", SYSTEM, print)


async def test_an_old_go_is_said(tmp_path: Path, script: Script, program: GoProgram) -> None:
    script("go", "echo go version go1.19.8 linux/amd64")
    with pytest.raises(ToolFailed, match=r"needs Go 1\.25\.0 or newer and .* is 1\.19\.8"):
        await program.install(tmp_path / "cache", SYSTEM, print)


async def test_two_who_install_the_same_build_it_once(
    tmp_path: Path, script: Script, program: GoProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    script("go", GO)
    cache = tmp_path / "cache"
    await asyncio.gather(*(program.install(cache, SYSTEM, print) for _ in range(3)))
    assert (tmp_path / "runs").read_text() == "built\n"
    assert program.find(cache) is not None


async def test_an_interrupted_install_leaves_nothing_and_ends_its_tool(
    tmp_path: Path, script: Script, program: GoProgram
) -> None:
    script("go", "[ $1 = version ] && echo go version go1.99 && exit; echo pid $$; sleep 1000")
    said: asyncio.Queue[str] = asyncio.Queue()
    work = asyncio.create_task(program.install(tmp_path / "cache", SYSTEM, said.put_nowait))
    pid = (await said.get()).split()[1]
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert left(tmp_path / "cache") == []
    assert not os.access(f"/proc/{pid}", os.F_OK)


async def test_remains_of_a_killed_install_are_no_obstacle(
    tmp_path: Path, script: Script, jars: MavenJars
) -> None:
    script("java", JAVA_17)
    script("mvn", MAVEN)
    (tmp_path / "cache" / "jars-1.0.part" / "jars").mkdir(parents=True)
    (tmp_path / "cache" / "jars-1.0.part" / "jars" / "half.jar").touch()
    done = await jars.install(tmp_path / "cache", SYSTEM, print)
    assert [one.name for one in done.path.iterdir()] == ["a.jar"]


async def test_too_little_room_is_said_before_anything_is_fetched(tmp_path: Path) -> None:
    async def fill(part: Path) -> None:
        raise AssertionError("nothing may be fetched")

    with pytest.raises(InstallFailed, match=r"are free and .* are needed: make room"):
        await install_once(tmp_path / "a", SYSTEM, 1 << 60, fill)


async def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, jars: MavenJars) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StagedoorError, match="set STAGEDOOR_SERVERS to a folder"):
        await install_once(tmp_path / "file" / "a", SYSTEM, 0, lambda part: asyncio.sleep(0))
    (tmp_path / "b.lock").mkdir()
    with pytest.raises(StagedoorError, match=r"b\.lock: .*set STAGEDOOR_SERVERS to a folder"):
        await install_once(tmp_path / "b", SYSTEM, 0, lambda part: asyncio.sleep(0))


@pytest.mark.usefixtures("bare_path")
async def test_a_debian_program_that_may_not_be_installed_says_how(tmp_path: Path) -> None:
    with pytest.raises(InstallFailed, match="sudo apt-get install redis-server"):
        await Servers(tmp_path, tmp_path / "cache").install(["redis"])


@pytest.mark.usefixtures("bare_path")
async def test_everything_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InstallFailed) as failed:
        await Servers(tmp_path, tmp_path / "cache").install(["kafka", "consul", "redis"])
    said = str(failed.value)
    assert "needs Java" in said and "needs `go`" in said and "redis-server" in said


@pytest.mark.usefixtures("bare_path")
async def test_what_is_not_installed_is_not_started_and_says_how(tmp_path: Path) -> None:
    with pytest.raises(NotInstalled, match="run `stagedoor servers install kafka`"):
        await Servers(tmp_path / "home", tmp_path / "cache").up(["kafka"])
    assert not (tmp_path / "home").exists()


def test_the_cache_is_outside_the_repository_and_can_be_moved() -> None:
    assert default_cache({"HOME": "/home/a"}) == Path("/home/a/.cache/stagedoor/servers")
    assert default_cache({"XDG_CACHE_HOME": "/c"}) == Path("/c/stagedoor/servers")
    assert default_cache({"HOME": "/home/a", "STAGEDOOR_SERVERS": "/s"}) == Path("/s")
