"""Which Java is it?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.servers import java, tools
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
