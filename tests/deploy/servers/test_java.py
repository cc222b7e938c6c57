"""Which Java is it?"""

from __future__ import annotations

import pytest

from deploy.servers import java


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


def test_a_range_is_said_as_people_would() -> None:
    assert java.said(range(17, 100)) == "17 or newer"
    assert java.said(range(11, 18)) == "11 to 17"
