"""Which Java is it?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.servers import java, tools
from deploy.servers.installed import Installed
from deploy.servers.java import Java
from deploy.servers.kafka import Kafka
from deploy.servers.server import Instance, Setup
from deploy.servers.tools import ToolFailed


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "25" 2025-09-16', 25),
        ('java version "1.8.0_392"', 8),
        ('Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "21-ea"', 21),
        ("command not found", 0),
    ],
)
def test_the_major_version_is_read(text: str, version: int) -> None:
    assert java.major(text) == version


def test_another_build_is_another_whatever_options_it_was_given() -> None:
    told = "OpenJDK Server VM (build 17.0.15+6, mixed mode, sharing)"
    given = f"NOTE: Picked up JDK_JAVA_OPTIONS: -Xint\n{told.replace('mixed', 'interpreted')}"
    assert java.build(told) != java.build(told.replace("+6", "+7"))
    assert java.build(told) == java.build(given)


def test_classes_are_kept_where_java_can_and_says_which_it_is(tmp_path: Path) -> None:
    jars = Installed("1.0", tmp_path / "kafka-1.0")
    new = Java("java", 17, "0123abcd")
    assert java.archive(new, jars) == tmp_path / "kafka-1.0-0123abcd" / "classes.jsa"
    assert java.archive(new._replace(major=12), jars) is None
    assert java.archive(new._replace(build=java.build("nothing")), jars) is None
    assert java.archive(new, Installed("1.0", tmp_path / "a:b" / "kafka-1.0")) is None


async def test_a_server_takes_them_where_they_are_and_writes_them_in_a_rehearsal(
    tmp_path: Path, script: Callable[[str, str], Path]
) -> None:
    script("java", "echo 'openjdk version \"17.0.15\" (build 17.0.15+6)'")
    jars = Installed("1.0", tmp_path / "kafka-1.0")
    instance = Instance("kafka", 1, "127.0.0.1", {"main": 1, "controller": 2}, tmp_path)
    setup = Setup(jars, tmp_path, (instance,))
    bare = (await Kafka().command(setup, instance)).arguments
    assert not [one for one in bare if "Archive" in one or one.startswith("@")]
    written = tmp_path / "made.jsa"
    rehearsed = (await Kafka().command(replace(setup, writes=written), instance)).arguments
    assert rehearsed.index(f"-XX:ArchiveClassesAtExit={written}") < rehearsed.index("kafka.Kafka")
    archive = await Kafka().archive(jars)
    assert archive is not None
    archive.parent.mkdir()
    archive.touch()
    (tmp_path / java.EXTRA).touch()
    taking = (await Kafka().command(setup, instance)).arguments
    assert f"-XX:SharedArchiveFile={archive}" in taking and f"@{java.EXTRA}" in taking


def test_a_range_is_said_as_people_would() -> None:
    assert java.said(range(17, 100)) == "17 or newer"
    assert java.said(range(11, 18)) == "11 to 17"


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("exec sleep 60", "has not ended"),
        ("", "tells no version, but: nothing"),
        ("echo Bad option -X", "but: Bad option -X"),
    ],
)
async def test_one_that_does_not_tell_its_version_is_refused(
    lines: str,
    why: str,
    script: Callable[[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tools, "ANSWER_S", 0.5)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    found = script("java", lines)
    with pytest.raises(ToolFailed, match=f"{found}.* {why}"):
        await java.find("kafka", range(17, 100))
